"""The console in a browser, and devices beside it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from attrs import Factory, define
from playwright.sync_api import Browser, Locator, Page, expect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.browser.browsing import DESKTOP, Scheme, open_page
from tests.end_to_end.process import PUBLISHER_KEY, DaemonProcess, receive

ITEM = {"event": "item-create", "user": "ada", "vault": "v1", "group": "elsewhere", "data": {"id": "i1"}}
REFUSED = ("HTTP 401", "the server responded with a status of 401")
AWAY = ("HTTP 503", "the server responded with a status of 503")


@define(eq=False)
class LiveDevice:
    """A device that reads on.

    Attributes:
        socket: Its connection.
        events: What it was told.
        closed: Its close code, once it is closed.
    """

    socket: ClientConnection
    events: list[dict[str, Any]] = Factory(list)
    closed: int | None = None

    def read(self) -> None:
        """Read until the end."""
        try:
            while True:
                self.events.append(json.loads(self.socket.recv()))
        except ConnectionClosed as end:
            self.closed = end.rcvd.code if end.rcvd is not None else 0


@contextmanager
def connected(daemon: DaemonProcess, user: str, group: str, *vaults: str) -> Iterator[LiveDevice]:
    """Have a device that is authenticated and subscribed."""
    with daemon.connect(close_timeout=1) as socket:
        authenticate = {"event": "authenticate", "token": daemon.token(user, group), "vaults": list(vaults)}
        socket.send(json.dumps(authenticate))
        assert receive(socket)["event"] == "authenticated"
        device = LiveDevice(socket)
        reader = threading.Thread(target=device.read)
        reader.start()
        try:
            yield device
        finally:
            with suppress(ConnectionClosed):
                socket.close()
            reader.join()


def url_of(daemon: DaemonProcess) -> str:
    return f"http://127.0.0.1:{daemon.ports['internal']}/console"


def log_in(page: Page, key: str = PUBLISHER_KEY) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Open the console").click()


@contextmanager
def console(
    browser: Browser,
    daemon: DaemonProcess,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Scheme = "light",
    expected: tuple[str, ...] = (),
) -> Iterator[Page]:
    """Have a console that is open."""
    # A watch is given up when it is stopped.
    expected = (*expected, "/console/api/watch?user=")
    with open_page(browser, url_of(daemon), size=size, scheme=scheme, expected=expected) as page:
        log_in(page)
        expect(page.get_by_role("heading", name="The last minutes")).to_be_visible()
        yield page


def look_up(page: Page, user: str) -> None:
    page.get_by_role("link", name="Users").click()
    page.get_by_role("searchbox").fill(user)
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_role("heading", name=f"User {user}")).to_be_visible()


def panel(page: Page, name: str) -> Locator:
    """A section by the text of its heading."""
    return page.get_by_role("region", name=name)


def eventually(page: Page, holds: Callable[[], bool]) -> None:
    """Wait, in bounded time, until something holds that is not in the page."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it does not come true")

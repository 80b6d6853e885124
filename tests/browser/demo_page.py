"""The demo as a process, and its page in a browser."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
from attrs import define
from playwright.sync_api import Browser, Locator, Page, expect

from localful_ws.demo.daemon import PUBLISHER_KEY
from tests.browser.browsing import DESKTOP, Scheme, open_page

DEMO = (sys.executable, "-m", "localful_ws", "demo", "--port", "0")
DEVICES = ("laptop", "phone", "tablet")
PATIENCE = 30

expect.set_options(timeout=10_000)


@define
class Demo:
    """A demo that runs.

    Attributes:
        url: Where its page is.
        said: What it printed.
    """

    url: str
    said: str

    def publish(self, events: Sequence[dict[str, Any]]) -> None:
        """Publish events past the backend."""
        found = re.search(r"publishers +(\S+)", self.said)
        assert found
        headers = {"Authorization": f"Bearer {PUBLISHER_KEY}"}
        answer = httpx.post(found[1], json={"events": events}, headers=headers, trust_env=False)
        assert answer.status_code == 202, answer.text


@contextmanager
def running_demo(command: Sequence[str] = DEMO) -> Iterator[Demo]:
    """Have a demo for as long as the block lasts; at its end SIGTERM must end it well."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        watchdog = threading.Timer(300, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if "Ctrl-C" in line:
                    break
            found = re.search(r"the page +(\S+)", said)
            assert found, said
            yield Demo(found[1], said)
            process.send_signal(signal.SIGTERM)
            assert "The demo has ended." in process.stdout.read()
            assert process.wait(PATIENCE) == 0
        finally:
            # Not killed: it would leave its daemon behind.
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            watchdog.cancel()


@define
class DemoPage:
    """The page, once its devices are connected."""

    page: Page

    def panel(self, device: str) -> Locator:
        """The panel of a device."""
        return self.page.locator(f"#panel-{device}")

    def press(self, device: str, name: str) -> None:
        """Press a button on a device's panel."""
        self.panel(device).get_by_role("button", name=name, exact=True).click()

    def open_drawer(self, device: str, name: str) -> None:
        """Open a part of a device's panel that is closed at first."""
        self.panel(device).locator("summary", has_text=name).click()

    def answer(self, action: str, value: str | None = None) -> None:
        """Fill in the dialog's only field, if it has one, and go on."""
        dialog = self.page.get_by_role("dialog")
        if value is not None:
            dialog.get_by_role("textbox").fill(value)
        dialog.get_by_role("button", name=action).click()
        expect(dialog).to_have_count(0)

    def expect_told(self, device: str, events: Sequence[str]) -> None:
        """Wait until a device has been told just this, in this order."""
        expect(self.panel(device).locator(".told-box .badge.event")).to_have_text([*events])

    def expect_fates(self, *fates: str | re.Pattern[str]) -> None:
        """Wait until the page says of the last change what became of it at each device."""
        expect(self.page.locator(".change.newest .fate .clip")).to_have_text([*fates])

    def expect_state(self, device: str, state: str) -> None:
        """Wait until a device is in a state."""
        expect(self.panel(device).locator(".panel-title .badge")).to_have_text(state)

    def expect_items(self, device: str, *texts: str) -> None:
        """Wait until a device has these vaults and items."""
        expect(self.panel(device).locator(".vault-name, .item-row .item-text")).to_have_text([*texts])


@contextmanager
def open_demo(
    browser: Browser,
    demo: Demo,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Scheme = "light",
    expected: tuple[str, ...] = (),
) -> Iterator[DemoPage]:
    """Open the page of a demo that begins anew, and wait until all devices are connected."""
    httpx.post(f"{demo.url}start-over", json={}, trust_env=False).raise_for_status()
    with open_page(browser, demo.url, size=size, scheme=scheme, expected=expected) as page:
        opened = DemoPage(page)
        for device in DEVICES:
            opened.expect_state(device, "connected")
        for device in DEVICES:
            expect(opened.panel(device).locator(".vault-name").first).to_be_attached()
        yield opened

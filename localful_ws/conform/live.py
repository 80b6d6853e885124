"""A stage on streams: a whole server, reached by WebSocket and HTTP, in memory or over a network."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import httpx
import trio
from attrs import Factory, define

from localful_ws.conform.device import LiveDevice, handshake, parse_body
from localful_ws.conform.matching import Answer, Seen
from localful_ws.conform.scenes import Scene

_PATHS: Final = {"publishes": "/v1/events", "disconnects": "/v1/disconnect"}
_WRONG_KEY: Final = "this-is-not-the-key-of-the-publisher"
_DEEDS: Final[dict[str, Callable[[LiveDevice, Any], Awaitable[None]]]] = {
    "sends": lambda device, value: device.send_text(json.dumps(value)),
    "sends-text": lambda device, value: device.send_text(value),
    "sends-binary": lambda device, value: device.send_binary(value.encode()),
    "sends-bytes": lambda device, value: device.send_bytes(bytes.fromhex(value)),
    "pings": lambda device, value: device.ping(value.encode()),
    "closes": lambda device, value: device.close(value["code"]),
    "breaks": lambda device, _: device.break_off(),
    "stops-reading": lambda device, _: device.stop_reading(),
    "reads-again": lambda device, _: device.read_again(),
    "ignores-pings": lambda device, _: device.ignore_pings(),
    "ignores-close": lambda device, _: device.ignore_close(),
}


class Site(Protocol):
    """Where a server is, and how it is reached.

    Attributes:
        publisher_key: The publisher key.
        internal: Asks its internal port.
    """

    publisher_key: str
    internal: httpx.AsyncClient

    @property
    def host(self) -> str:
        """The ``Host`` header of a handshake."""
        ...

    @property
    def path(self) -> str:
        """The path of the WebSocket."""
        ...

    async def connect(self, *, slow: bool) -> trio.abc.Stream:
        """Connect to the server.

        Args:
            slow: Whether the device will stop reading, so that little should fit in between.

        Raises:
            OSError: If there is no connection.
        """
        ...

    async def announce(self, request: httpx.Request, size: int) -> Answer:
        """Send a request that announces a body of ``size`` bytes and has fewer."""
        ...

    async def settle(self) -> None:
        """Wait until what was begun has had its effect, where that can be known."""
        ...

    async def happen(self, what: str) -> None:
        """Have something happen to the server."""
        ...


@define
class Tolerance:
    """How exactly things have to come, in seconds.

    Attributes:
        early: How much earlier than written.
        late: How much later.
        quiet: How long to wait at the end for what should not come.
        answer: How long a handshake or a request may take.
    """

    early: float
    late: float
    quiet: float
    answer: float = 10.0


@define(eq=False)
class LiveStage:
    """A stage for one scene; see `localful_ws.conform.play.Stage`.

    Args:
        site: The server.
        scene: The scene.
        nursery: Where devices read.
        began: When the scene begins, on Trio's clock.
        tolerance: How exactly things have to come.
        strict: Whether keys that version 1 does not have are a difference.
    """

    _site: Site
    _scene: Scene
    _nursery: trio.Nursery
    _began: float
    _tolerance: Tolerance
    strict: bool = False
    _devices: dict[str, LiveDevice] = Factory(dict)
    behind: float = 0.0
    """How late we ourselves have been so far, in seconds: nobody else can be earlier."""

    @property
    def early(self) -> float:
        """See `Stage`."""
        return self._tolerance.early

    @property
    def late(self) -> float:
        """See `Stage`."""
        return self._tolerance.late + self.behind

    async def wait_until(self, at: float) -> None:
        """See `Stage`."""
        await trio.sleep_until(self._began + at)
        await self._site.settle()
        self.behind = max(self.behind, self._now() - at)

    async def act(self, who: str, action: str, value: Any) -> str | None:
        """See `Stage`."""
        if action in ("opens", "connects"):
            return await self._open(who, action, value)
        await _DEEDS[action](self._devices[who], value)
        return None

    async def request(self, action: str, value: Any) -> Answer:
        """See `Stage`."""
        if action in _PATHS:
            value = {"method": "POST", "path": _PATHS[action], "json": value}
        content = value.get("text", "").encode()
        if "json" in value:
            content = json.dumps(value["json"]).encode()
        if "base64" in value:
            content = base64.b64decode(value["base64"])
        headers = {"Content-Type": "application/json"}
        key = value.get("key", "right")
        if key != "none":
            headers["Authorization"] = f"Bearer {self._site.publisher_key if key == 'right' else _WRONG_KEY}"
        request = self._site.internal.build_request(
            value["method"], value["path"], headers=headers, content=content
        )
        with trio.move_on_after(self._tolerance.answer):
            if "announces" in value:
                return await self._site.announce(request, value["announces"])
            try:
                response = await self._site.internal.send(request)
            except httpx.HTTPError as error:
                return Answer(0, f"no answer: {type(error).__name__}")
            return Answer(response.status_code, parse_body(response.content), dict(response.headers))
        return Answer(0, "no answer in time")

    async def happen(self, what: str) -> None:
        """See `Stage`."""
        await self._site.happen(what)

    async def look(self, who: str, at: float) -> Seen | None:
        """See `Stage`."""
        return await self._devices[who].look(self._began + at + self.late)

    def unread(self, who: str) -> Seen | None:
        """See `Stage`."""
        seen = self._devices[who].seen
        return seen[0] if seen else None

    def take(self, who: str) -> None:
        """See `Stage`."""
        self._devices[who].seen.popleft()

    async def finish(self) -> dict[str, Seen]:
        """See `Stage`."""
        await trio.sleep(self._tolerance.quiet)
        await self._site.settle()
        return {who: device.seen[0] for who, device in self._devices.items() if device.seen}

    async def leave(self) -> None:
        """Break every connection that is still there."""
        for device in self._devices.values():
            await device.break_off()

    def _now(self) -> float:
        return trio.current_time() - self._began

    async def _open(self, who: str, action: str, value: Any) -> str | None:
        device = self._devices.get(who)
        if device is None:
            shows_pings = "pinged" in self._scene.actions
            device = self._devices[who] = LiveDevice(self._now, shows_pings=shows_pings)
        if not device.is_connected:
            try:
                with trio.fail_after(self._tolerance.answer):
                    stream = await self._site.connect(slow=(who in self._slow()))
            except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
                return f"There is no connection: {error or type(error).__name__}."
            await device.connect(stream, self._nursery)
        if action == "connects":
            return None
        request, selects = handshake(self._site.host, self._site.path, value)
        await device.open(request, self._tolerance.answer)
        if not device.is_open or device.selected == selects:
            return None
        return f"The subprotocol that was selected is {device.selected or 'none'}, not {selects or 'none'}."

    def _slow(self) -> set[str]:
        return {step.who for step in self._scene.steps if step.action == "stops-reading"}

"""A device that does what a scene says, right or wrong, and notes what it sees."""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import trio
from wsproto import WSConnection
from wsproto.connection import ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import FrameProtocol
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from localful_ws.conform.matching import Seen
from localful_ws.protocol import BEARER_SUBPROTOCOL, SUBPROTOCOL, decode_json
from localful_ws.wakeup import Signal

_CHUNK: Final = 65536
_MOST_BODY: Final = 65536
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class LiveDevice:
    """The device's side of one connection at a time.

    Args:
        now: Tells the seconds since the scene began.
        shows_pings: Whether the server's pings are among what it sees.

    Attributes:
        seen: What it has seen and nobody has spoken of yet.
        is_open: Whether the last handshake was accepted.
        selected: The subprotocol that the server selected in it.
    """

    def __init__(self, now: Callable[[], float], *, shows_pings: bool) -> None:
        self.seen: deque[Seen] = deque()
        self._answers_pings = True
        self._answers_close = True
        self._said_close = False
        self._now = now
        self._shows_pings = shows_pings
        self._changed = Signal()
        self._stream: trio.abc.Stream | None = None
        # The scene sends, and whoever reads answers pings.
        self._sending = trio.Lock()
        self._frames = FrameProtocol(client=True, extensions=[])
        self._websocket: WSConnection | None = None
        self._handshaking = False
        self.is_open = False
        self.selected: str | None = None
        self._reads = True
        self._receiving = trio.CancelScope()

    # --- what it does ---

    @property
    def is_connected(self) -> bool:
        """Whether it is connected and has sent nothing yet."""
        return self._stream is not None and self._websocket is None

    async def connect(self, stream: trio.abc.Stream, nursery: trio.Nursery) -> None:
        """Be connected, and send nothing; a connection that was there before is broken off."""
        await self.break_off()
        self._stream, self._websocket = stream, None
        self._said_close = False
        nursery.start_soon(self._read, stream)

    async def open(self, request: Request, seconds: float) -> None:
        """Do the opening handshake. If it is refused, the device sees that.

        Args:
            request: What to ask for.
            seconds: How long the server may take to answer.
        """
        self._handshaking, self.is_open, self.selected = True, False, None
        self._websocket = WSConnection(ConnectionType.CLIENT)
        await self._send(self._websocket.send(request))
        with trio.move_on_after(seconds):
            while self._handshaking:
                await self._changed.wait()
            return
        self._see("gets-no-answer")

    async def send_text(self, text: str) -> None:
        """Send a text message."""
        await self._send(self._frames.send_data(text, fin=True))

    async def send_binary(self, payload: bytes) -> None:
        """Send a binary message."""
        await self._send(self._frames.send_data(payload, fin=True))

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self._send(data)

    async def ping(self, payload: bytes) -> None:
        """Send a ping."""
        await self._send(self._frames.ping(payload))

    async def close(self, code: int) -> None:
        """Send a close frame."""
        await self._send(self._frames.close(code))
        self._said_close = True

    async def break_off(self) -> None:
        """Break the connection."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._receiving.cancel()
            await self.read_again()
            await trio.aclose_forcefully(stream)

    async def stop_reading(self) -> None:
        """Take nothing more from the connection."""
        self._reads = False
        self._receiving.cancel()

    async def read_again(self) -> None:
        """Read on."""
        self._reads = True
        self._changed.set()

    async def ignore_pings(self) -> None:
        """Answer no pings from now on."""
        self._answers_pings = False

    async def ignore_close(self) -> None:
        """Answer no close frame from now on."""
        self._answers_close = False

    # --- what it sees ---

    async def look(self, deadline: float) -> Seen | None:
        """The next thing it sees, or None if there is none before a moment on Trio's clock."""
        with trio.move_on_at(deadline):
            while not self.seen:
                await self._changed.wait()
        return self.seen[0] if self.seen else None

    def _see(self, action: str, value: Any = None) -> None:
        self.seen.append(Seen(self._now(), action, value))
        self._changed.set()

    def _end_handshake(self) -> None:
        self._handshaking = False
        self._changed.set()

    async def _send(self, data: bytes | bytearray) -> None:
        async with self._sending:
            if self._stream is not None:
                with suppress(*_GONE):
                    await self._stream.send_all(data)

    async def _read(self, stream: trio.abc.Stream) -> None:
        reading = _Reading()
        while self._stream is stream and (data := await self._receive(stream)) is not None:
            if not data:
                if not reading.is_over:
                    self._see("dropped")
                break
            websocket = self._websocket
            if websocket is None or reading.close_came:
                self._see("gets-rubbish", f"{len(data)} bytes that nobody asked for")
                continue
            try:
                websocket.receive_data(data)
                for event in websocket.events():
                    await self._take(event, reading)
            except (RemoteProtocolError, LocalProtocolError) as error:
                self._see("gets-rubbish", str(error))
                break
        self._end_handshake()

    async def _receive(self, stream: trio.abc.Stream) -> bytes | None:
        """The next bytes; none at the end, None if the device itself broke off."""
        while self._stream is stream:
            while not self._reads:
                await self._changed.wait()
            with trio.CancelScope() as self._receiving:
                try:
                    return bytes(await stream.receive_some(_CHUNK))
                except trio.BrokenResourceError:
                    return b""
                except trio.ClosedResourceError:
                    return None
        return None

    async def _take(self, event: Event, reading: "_Reading") -> None:
        match event:
            case AcceptConnection():
                self.is_open, self.selected = True, event.subprotocol
                self._end_handshake()
            case RejectConnection() | RejectData():
                refusal = reading.refusal(event)
                if refusal is not None:
                    self._see("refused", refusal)
                    self._end_handshake()
            case TextMessage():
                text = reading.text(event)
                if text is not None:
                    self._see_message(text)
            case BytesMessage():
                self._see("gets-rubbish", "a binary message")
            case _:
                await self._take_control(event, reading)

    async def _take_control(self, event: Event, reading: "_Reading") -> None:
        match event:
            case Ping():
                if self._shows_pings:
                    self._see("pinged", {})
                if self._answers_pings:
                    await self._send(self._frames.pong(bytes(event.payload)))
            case Pong():
                self._see("ponged", event.payload.decode(errors="replace"))
            case CloseConnection():
                reading.close_came = True
                self._see("closed", {"code": int(event.code), "reason": event.reason or ""})
                # Nobody minds how a connection ends after both have said that it does.
                reading.is_over = self._answers_close or self._said_close
                if self._answers_close and not self._said_close:
                    await self._send(self._frames.close(event.code))

    def _see_message(self, text: str) -> None:
        try:
            message = decode_json(text)
        except ValueError:
            self._see("gets-rubbish", "a message that is not JSON")
        else:
            self._see("receives", message)


class _Reading:
    """What has come of one connection so far.

    Attributes:
        close_came: Whether a close frame came.
        is_over: Whether its end is no news.
    """

    def __init__(self) -> None:
        self.close_came = False
        self.is_over = False
        self._parts: list[str] = []
        self._status = 0
        self._body = bytearray()

    def text(self, event: TextMessage) -> str | None:
        """The message, once it is complete."""
        self._parts.append(str(event.data))
        if not event.message_finished:
            return None
        text = "".join(self._parts)
        self._parts.clear()
        return text

    def refusal(self, event: RejectConnection | RejectData) -> dict[str, Any] | None:
        """The status and body of a refused handshake, once it is complete."""
        if isinstance(event, RejectConnection):
            self._status = event.status_code
            finished = not event.has_body
        else:
            self._body += event.data[: max(0, _MOST_BODY - len(self._body))]
            finished = event.body_finished
        if not finished:
            return None
        self.is_over = True
        return {"status": self._status, "body": parse_body(bytes(self._body))}


def parse_body(body: bytes) -> Any:
    """A body as JSON, or as text if it is none."""
    text = body.decode(errors="replace")
    try:
        return decode_json(text)
    except ValueError:
        return text


def handshake(host: str, target: str, how: dict[str, Any]) -> tuple[Request, str | None]:
    """The handshake that a step describes, and the subprotocol that should be selected.

    Args:
        host: The ``Host`` header.
        target: The server's path.
        how: The value of ``opens``, with its tokens made.
    """
    offers = list(how.get("offers", [SUBPROTOCOL]))
    if "subprotocol" in how:
        offers.append(BEARER_SUBPROTOCOL + how["subprotocol"])
    headers = []
    if "header" in how:
        headers.append((b"Authorization", f"Bearer {how['header']}".encode()))
    if "authorization" in how:
        headers.append((b"Authorization", how["authorization"].encode()))
    if "origin" in how:
        headers.append((b"Origin", how["origin"].encode()))
    path = how.get("path", target) + (f"?{how['query']}" if "query" in how else "")
    request = Request(host=host, target=path, subprotocols=offers, extra_headers=headers)
    return request, how.get("selects", SUBPROTOCOL)

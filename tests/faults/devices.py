"""A device on wsproto that resumes by cursor, and keeps a log of everything it was told.

It shares no code with the client of this project, so that the two can't be wrong together.
"""

import json
import math
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import Random
from typing import Any

import trio
from attrs import Factory, define, field, frozen
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import RemoteProtocolError

_AUTHENTICATED_WITHIN = 4.0
_PAUSE = (0.02, 0.25)
_RENEWED_AFTER = (0.5, 3.0)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Address = tuple[str, int]


@frozen
class Authenticated:
    """The device was told its place.

    Attributes:
        node: The node that it is connected to.
        cursor: The present position in its stream.
        since: The cursor it asked to go on after, if it did.
        resumed: What it was told about that; None if nothing.
    """

    node: str
    cursor: str
    since: str | None
    resumed: bool | None


@frozen
class Renewed:
    """A renewal was accepted: everything up to this cursor was sent before."""

    cursor: str


@frozen
class Received:
    """An event, as it came."""

    event: str
    vault: str | None
    data: Any
    cursor: str


@frozen
class Refused:
    """An ``error``, or a handshake that was refused."""

    code: str


@frozen
class Ended:
    """The connection ended: with this close code, or without one."""

    code: int | None
    reason: str = ""


Record = Authenticated | Renewed | Received | Refused | Ended


@define(eq=False)
class Device:
    """One device, and what it was told.

    Attributes:
        number: Its number.
        user: Its user.
        group: Its token group.
        vaults: Its subscription.
        nodes: Where it may connect to, by name.
        get_token: Makes an access token for a user and group.
        random: Chooses nodes and pauses.
        log: All it was told, in order.
        times: When, on Trio's clock.
        remarks: What else may help to understand the log, and when it was.
        authenticated: Set from its first ``authenticated`` on.
    """

    number: int
    user: str
    group: str
    vaults: tuple[str, ...]
    nodes: Mapping[str, Address]
    get_token: Callable[[str, str], str]
    random: Random
    log: list[Record] = Factory(list)
    times: list[float] = Factory(list)
    remarks: list[tuple[float, str]] = Factory(list)
    authenticated: trio.Event = field(factory=trio.Event)
    _since: str | None = None
    _text: str = ""
    _markers: dict[str, trio.Event] = Factory(dict)
    _stream: trio.SocketStream | None = None
    _scope: trio.CancelScope = field(factory=trio.CancelScope)
    _away_until: float = -math.inf

    @property
    def name(self) -> str:
        """How it is named in reports."""
        return f"device {self.number} ({self.user}, {self.group}, {' '.join(self.vaults) or 'no vaults'})"

    def reset(self, away: float = 0.0) -> None:
        """Abort the connection, which the node sees as a reset, and come back after so many seconds."""
        self._away_until = trio.current_time() + away
        if self._stream is not None:
            reset_on_close(self._stream)
        self._scope.cancel()

    def note(self, record: Record) -> None:
        """Write down what it was told."""
        self.log.append(record)
        self.times.append(trio.current_time())
        if isinstance(record, Authenticated):
            self.authenticated.set()
        elif isinstance(record, Received) and isinstance(record.data, dict) and "marker" in record.data:
            self.marker(record.data["marker"]).set()

    def marker(self, name: str) -> trio.Event:
        """Set once an event has come whose data is ``{"marker": name}``."""
        return self._markers.setdefault(name, trio.Event())

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        while True:
            await trio.sleep_until(self._away_until)
            with trio.CancelScope() as self._scope:
                await self.connect(self.random.choice(sorted(self.nodes)))
            if self._scope.cancelled_caught:
                self.note(Ended(None, "reset by the device"))
            await trio.sleep(self.random.uniform(*_PAUSE))

    async def connect(self, node: str) -> None:
        """Connect to a node, once, and stay as long as the connection does."""
        with trio.move_on_after(_AUTHENTICATED_WITHIN) as opening:
            try:
                stream = await trio.open_tcp_stream(*self.nodes[node])
            except OSError:
                return
            self._stream = stream
            try:
                await self._talk(node, stream, opening)
            except (trio.BrokenResourceError, RemoteProtocolError) as error:
                self.note(Ended(None, str(error)))
            finally:
                self._stream = None
                await trio.aclose_forcefully(stream)
        if opening.cancelled_caught:
            self.note(Ended(None, "not authenticated in time"))

    async def _talk(self, node: str, stream: trio.SocketStream, opening: trio.CancelScope) -> None:
        websocket = WSConnection(ConnectionType.CLIENT)
        host, port = self.nodes[node]
        request = Request(host=f"{host}:{port}", target="/v1/sync", subprotocols=["localful.v1"])
        await stream.send_all(websocket.send(request))
        self._text = ""
        renewal = trio.current_time() + self.random.uniform(*_RENEWED_AFTER)
        while True:
            data = None
            with trio.move_on_at(renewal):
                data = await stream.receive_some()
            if data is None:
                renewal += self.random.uniform(*_RENEWED_AFTER)
                if opening.deadline == math.inf:
                    await stream.send_all(websocket.send(TextMessage(self._authenticate())))
                continue
            if not data:
                break
            websocket.receive_data(data)
            for event in websocket.events():
                answer = self._take_event(node, event, opening)
                if answer is not None:
                    with suppress(trio.BrokenResourceError):  # it is noticed when receiving
                        await stream.send_all(websocket.send(answer))
                if isinstance(event, RejectConnection | CloseConnection):
                    return
        self.note(Ended(None, "end of stream"))

    def _take_event(self, node: str, event: Event, opening: trio.CancelScope) -> Event | None:
        match event:
            case AcceptConnection():
                return TextMessage(self._authenticate())
            case RejectConnection(status_code=status):
                self.note(Refused(str(status)))
            case Ping():
                return event.response()
            case CloseConnection(code=code, reason=reason):
                self.note(Ended(int(code), reason or ""))
                return event.response()
            case TextMessage(data=piece, message_finished=whole):
                self._text += piece
                if whole:
                    text, self._text = self._text, ""
                    self._take(node, json.loads(text), opening)
        return None

    def _authenticate(self) -> str:
        message: dict[str, Any] = {
            "event": "authenticate",
            "token": self.get_token(self.user, self.group),
            "vaults": list(self.vaults),
        }
        if self._since is not None:
            message["since"] = self._since
        return json.dumps(message)

    def _take(self, node: str, message: dict[str, Any], opening: trio.CancelScope) -> None:
        match message:
            case {"event": "authenticated", "cursor": str(cursor)} if opening.deadline == math.inf:
                assert "resumed" not in message, message
                self.note(Renewed(cursor))
                self._since = cursor
            case {"event": "authenticated", "cursor": str(cursor)}:
                opening.deadline = math.inf
                resumed = message.get("resumed")
                self.note(Authenticated(node, cursor, self._since, resumed))
                if not resumed:
                    # Where it was resumed, what was missed is yet to come: nothing before it has been seen.
                    self._since = cursor
            case {"event": "error", "code": str(code)}:
                self.note(Refused(code))
            case {"event": str(name), "data": data, "cursor": str(cursor)}:
                self.note(Received(name, message.get("vault"), data, cursor))
                self._since = cursor
            case _:
                raise AssertionError(f"{self.name} was sent {message}")


def reset_on_close(stream: trio.SocketStream | socket.socket) -> None:
    """Have a connection end with a reset, which throws away what is on its way, when it is closed."""
    with suppress(OSError, trio.ClosedResourceError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

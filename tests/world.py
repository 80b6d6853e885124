"""A whole daemon without sockets: a node, and devices on memory streams under Trio's clock."""

import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast
from unittest.mock import patch

import trio
import trio.testing
from attrs import Factory, define, field
from structlog.testing import capture_logs
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from localful_ws.clock import Clock
from localful_ws.engine import Engine, Entry, entry_of
from localful_ws.engine.memory import MemoryEngine
from localful_ws.protocol import Event
from localful_ws.publishing import Disconnect, decode_publish_body
from localful_ws.server.node import Node
from localful_ws.server.parking import Poller
from localful_ws.server.verifier import build_verifier
from localful_ws.settings import Settings, table
from localful_ws.tokens import TokenVerifier, mint_token
from tests.raw_device import RawDevice
from tests.redis_world import RedisWorldEngine, settle

SECRET = b"a secret of at least thirty-two bytes"
PUBLISHER_KEY = "the-key-of-the-publisher"
STARTED = 1_700_000_000.0
"""The Unix time at which every world begins."""
A_MOMENT = 0.001
"""What parts the issue of a token from a disconnect that comes next: in a world no time passes by itself."""

LEAN, TRIO_WEBSOCKET, REDIS = "lean", "trio-websocket", "lean on redis"
WORLDS = [LEAN, TRIO_WEBSOCKET, REDIS]
"""What a node may be made of: a transport, and an engine where it is not the one in memory."""
TRANSPORTS = [LEAN, TRIO_WEBSOCKET]
"""For what concerns the handshake, frames, sending and closing: each transport."""
ENGINES = [LEAN, REDIS]
"""For what concerns streams, and what all nodes are told: each engine."""

_redis_url: list[str] = []
_WITHOUT_CURSOR = {"subscribed", "reauthenticate", "error"}
_CURSOR = re.compile(r"[A-Za-z0-9._-]{1,128}")

StreamPair = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]
"""Makes two ends: ``trio.testing.memory_stream_pair`` takes whatever is sent,
``lockstep_stream_pair`` nothing but what the other end is just receiving."""


def make_settings(**changes: Any) -> Settings:
    """Settings for a test: defaults, made-up secrets and ``changes``."""
    values: dict[str, Any] = {"jwt_secret": SECRET, "publisher_key": PUBLISHER_KEY, "max_connections": 1000}
    # Small limits make small tests, whether they go together or not.
    with patch.object(table, "check_together"):
        return Settings(**(values | changes))


@define(eq=False)
class TestDevice:
    """A device's side of a connection, spoken by trio-websocket's client.

    Attributes:
        messages: What arrived, parsed, without the cursors.
        cursors: The cursors of what has one, in the order of arrival.
        times: When each of them arrived, in seconds since the world began.
        closed: The close code and reason, once closed.
        closed_at: When that was, in seconds since the world began.
    """

    __test__ = False

    socket: WebSocketConnection
    stream: trio.abc.Stream
    began: float
    messages: list[dict[str, Any]] = Factory(list)
    cursors: list[str] = Factory(list)
    times: list[float] = Factory(list)
    closed: tuple[int, str | None] | None = None
    closed_at: float | None = None
    ended: trio.Event = field(factory=trio.Event)

    async def read(self) -> None:
        """Collect what arrives until the connection is closed."""
        try:
            while True:
                message = json.loads(await self.socket.get_message())
                if message["event"] not in _WITHOUT_CURSOR:
                    cursor = message.pop("cursor")
                    assert _CURSOR.fullmatch(cursor)
                    self.cursors.append(cursor)
                self.messages.append(message)
                self.times.append(round(trio.current_time() - self.began, 6))
        except ConnectionClosed as error:
            reason = error.reason
            self.closed = (0, None) if reason is None else (reason.code, reason.reason)
            self.closed_at = round(trio.current_time() - self.began, 6)
            self.ended.set()

    async def send(self, message: object) -> None:
        """Send a message: text as it is, bytes as binary, anything else as JSON."""
        await self.socket.send_message(message if isinstance(message, str | bytes) else json.dumps(message))

    async def say(self, message: object) -> None:
        """Send a message and let everything that follows from it happen."""
        await self.send(message)
        await settle()

    @property
    def events(self) -> list[str]:
        """The names of what arrived."""
        return [message["event"] for message in self.messages]

    def take(self) -> list[dict[str, Any]]:
        """What arrived since this was last asked."""
        messages, self.messages = self.messages, []
        return messages


def use_redis(url: str) -> None:
    """Say where the Redis is that worlds with one use."""
    _redis_url[:] = [url]


@define(eq=False)
class World:
    """A running node and what a test does to it.

    Attributes:
        node: The node.
        nursery: Where the devices' own tasks run.
        connections: Where the node's connections are served.
        settings: The node's settings.
        began: When the world began, on Trio's clock.
        log: What the node logged. At the end there may be no failures in it; `take_failures` takes them out.
    """

    node: Node
    nursery: trio.Nursery
    connections: trio.Nursery
    settings: Settings
    began: float
    log: list[MutableMapping[str, Any]]

    def now(self) -> float:
        """Seconds since the world began."""
        return round(trio.current_time() - self.began, 6)

    def token(self, user: str = "ada", group: str = "laptop", ttl: float = 3600, **claims: Any) -> str:
        """Mint an access token for now."""
        return mint_token(SECRET, user, group, ttl, self.node.clock.now(), **claims)

    def failures(self) -> list[MutableMapping[str, Any]]:
        """What the node logged as a failure."""
        return [entry for entry in self.log if entry["log_level"] not in ("debug", "info")]

    def take_failures(self) -> list[str]:
        """What was logged as a failure, and is expected: the sentences."""
        failures = self.failures()
        self.log[:] = [entry for entry in self.log if entry not in failures]
        return [failure["event"] for failure in failures]

    def closes(self) -> dict[str, int]:
        """How many connections ended for which reason."""
        return {reason: count for reason, count in self.node.metrics.closes.items() if count}

    def plug_in(self, make_pair: StreamPair = trio.testing.memory_stream_pair) -> trio.abc.Stream:
        """Connect without a handshake; returns the device's end."""
        near, far = make_pair()
        self.connections.start_soon(self.node.serve_stream, far)
        return near

    async def raw(self, *data: bytes, make_pair: StreamPair = trio.testing.memory_stream_pair) -> RawDevice:
        """Connect a device that sends ``data`` as it is, and keeps what it gets."""
        device = RawDevice(self.plug_in(make_pair), self.now)
        self.nursery.start_soon(device.read)
        if data:
            await device.send(b"".join(data))
        await settle()
        return device

    async def open(
        self,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        subprotocols: Sequence[str] = (),
        path: str = "/v1/sync",
        read: bool = True,
        make_pair: StreamPair = trio.testing.memory_stream_pair,
    ) -> TestDevice:
        """Connect a device that has yet to authenticate.

        Raises:
            ConnectionRejected: If the handshake is refused.
        """
        near = self.plug_in(make_pair)
        socket = await wrap_client_stream(
            self.nursery,
            cast("trio.SocketStream", near),
            "localhost",
            path,
            extra_headers=list(headers),
            subprotocols=list(subprotocols),
        )
        device = TestDevice(socket, near, self.began)
        if read:
            self.nursery.start_soon(device.read)
        await settle()
        return device

    async def device(
        self, user: str = "ada", group: str = "laptop", *vaults: str, ttl: float = 3600
    ) -> TestDevice:
        """Connect a device and authenticate it, subscribed to ``vaults``."""
        device = await self.open()
        await device.say(
            {"event": "authenticate", "token": self.token(user, group, ttl), "vaults": list(vaults)}
        )
        assert device.take()[0]["event"] == "authenticated"
        return device

    def decode(self, body: bytes) -> list[Event]:
        """Read the body of a publish as the internal port does."""
        return decode_publish_body(body, self.settings.publish_limits())

    def decode_events(self, events: Sequence[dict[str, Any]]) -> list[Event]:
        """Read events as the internal port does."""
        return self.decode(json.dumps({"events": events}).encode())

    def entries(self, events: Sequence[dict[str, Any]]) -> list[Entry]:
        """Events as an engine hands them over."""
        return [entry_of(event, f"c.{number}") for number, event in enumerate(self.decode_events(events))]

    async def publish(self, *events: dict[str, Any]) -> int:
        """Publish as the internal port does, and let everything that follows happen."""
        receipt = await self.node.publish(self.decode_events(events))
        await settle()
        return receipt.accepted

    async def disconnect(self, **what: Any) -> int:
        """Disconnect a user, a group or a login, just after what has happened so far."""
        now = self.node.clock.now()
        times = {"at": now + A_MOMENT, "until": now + self.settings.revocation_seconds}
        closed = await self.node.disconnect(
            Disconnect(**times | {key: value for key, value in what.items() if value is not None})
        )
        await settle()
        return closed


class _Handler(logging.Handler):
    def __init__(self, log: list[MutableMapping[str, Any]]) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.append({"log_level": record.levelname.lower(), "event": record.getMessage()})


@contextmanager
def library_warnings(log: list[MutableMapping[str, Any]]) -> Iterator[None]:
    """Add what libraries say with `logging`, from warnings up, to what structlog's loggers say."""
    handler = _Handler(log)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


@asynccontextmanager
async def open_world(
    kind: str = LEAN,
    *,
    verifier: TokenVerifier | None = None,
    make_engine: Callable[[Settings, Clock], Engine] = MemoryEngine,
    poller: Poller | None = None,
    **changes: Any,
) -> AsyncIterator[World]:
    """Run a node for the length of the block.

    Args:
        kind: One of `WORLDS`: its transport and engine.
        verifier: In place of the one that the settings describe.
        make_engine: Makes the engine, unless it is the one in Redis.
        poller: In place of the system's epoll.
        changes: Settings.
    """
    transport, _, engine_name = kind.partition(" on ")
    if engine_name:
        changes = {
            "engine": _redis_url[0],
            "redis_prefix": f"test-{secrets.token_hex(6)}",
            "redis_timeout": 1e6,  # time flies here, and Redis lives in another
            "intake": "off",
        } | changes
    settings = make_settings(transport=transport, **changes)
    clock = Clock(lambda: STARTED)
    engine: Engine
    engine = RedisWorldEngine(settings, clock) if engine_name else make_engine(settings, clock)
    verifier = verifier or build_verifier(settings, clock.now)
    node = Node(settings, clock, verifier, engine, poller)
    with capture_logs() as log, library_warnings(log):
        async with trio.open_nursery() as nursery:
            connections = await nursery.start(node.run)
            world = World(node, nursery, connections, settings, trio.current_time(), log)
            yield world
            nursery.cancel_scope.cancel()
    failures = world.failures()
    assert failures == []

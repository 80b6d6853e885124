"""Bytes on the wire: the handshake, frames and what is in them, from a stream to a device's end.

The first byte of an input is how the rest comes: its lowest two bits say after which handshake (`_OPENINGS`),
the third whether the device then falls silent instead of leaving, the upper five how many bytes at a time.
"""

from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio
from attrs import Factory, define, field
from structlog.exceptions import DropEvent

from localful_ws.client.codec import decode_server_message
from localful_ws.clock import Clock
from localful_ws.engine.memory import MemoryEngine
from localful_ws.protocol import CloseCode, Event, EventName, Session
from localful_ws.server.node import Node
from localful_ws.settings import Settings
from localful_ws.tokens import TokenRejectedError
from tests.raw_device import CLOSE, PING, PONG, TEXT, handshake, parse_frames
from tests.spec_document import page, table

_STARTED = 1_700_000_000.0
_GOOD, _OTHER = "good", "other"
"""Two tokens, of different users."""
_OPENINGS = (b"", handshake(), handshake(f"Authorization: Bearer {_GOOD}"), handshake())
# Small, so that a short input can be over them.
_SETTINGS = Settings(
    jwt_secret=b"s" * 32,
    publisher_key="k" * 16,
    max_connections=10,
    max_message_bytes=2048,
    max_token_length=256,
    max_event_bytes=1024,
    max_vaults=3,
    send_buffer_events=8,
    send_buffer_bytes=16384,
    transport="lean",
)
_RECEIVED_AT_ONCE = 4096
_LONGEST_LIFE = 120.0
"""Seconds after which a device that says nothing more is gone: two pings without an answer, and a close."""
_CODES = {code.value: code.reason for code in CloseCode}
# What is no handshake is answered with one of these as well.
_STATUSES = {400, 405, 426, 431} | {int(row[0]) for row in table(page("protocol.md"), "Refused handshakes")}


class _Verifier:
    """Takes a word for a token, so that a fuzzer can find one."""

    ready = True
    waits = False

    async def verify(self, token: str) -> Session:
        if token not in (_GOOD, _OTHER):
            raise TokenRejectedError("The token does not hold.")
        return Session("ada" if token == _GOOD else "bob", "laptop", _STARTED + 1e9)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()


@define(eq=False)
class _Wire(trio.abc.Stream):
    """The node's end of a connection to a device that says `data` and then leaves, or falls silent."""

    data: bytes
    at_once: int
    silent: bool
    check: Any
    sent: bytearray = Factory(bytearray)
    closed: trio.Event = field(factory=trio.Event)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        # Without a checkpoint, which would be most of what an input costs.
        self.check()
        if self.closed.is_set():
            raise trio.ClosedResourceError
        size = min(self.at_once, max_bytes or self.at_once)
        data, self.data = self.data[:size], self.data[size:]
        if not data and self.silent:
            await self.closed.wait()
            raise trio.ClosedResourceError
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.closed.is_set():
            raise trio.ClosedResourceError
        self.sent += data

    async def wait_send_all_might_not_block(self) -> None:
        pass

    async def aclose(self) -> None:
        self.closed.set()


class FrameWorld:
    """A node that lives through many inputs; run it with `open_frame_world`."""

    def __init__(self, node: Node, failures: list[MutableMapping[str, Any]]) -> None:
        self._node = node
        self._failures = failures

    async def check(self, data: bytes) -> None:
        """Let a device say ``data``, and look at everything that came of it."""
        if not data:
            return
        how = data[0]
        wire = _Wire(
            _OPENINGS[how & 3] + data[1:],
            (how >> 3) * 9 or _RECEIVED_AT_ONCE,
            bool(how & 4),
            self._check_buffers,
        )
        began = trio.current_time()
        await self._node.serve_stream(wire)
        # What is being sent last leaves in a task of its own.
        await wire.closed.wait()
        assert trio.current_time() - began <= _LONGEST_LIFE
        assert not self._failures, self._failures
        assert self._node.devices() == ()
        await self._node.publish([Event(EventName.USER_UPDATE, "ada")])
        self._check_sent(bytes(wire.sent))

    def _check_buffers(self) -> None:
        """Look at what is kept of a device's bytes whenever it is asked for more."""
        assert self._node.budget.peak_bytes <= _SETTINGS.send_buffer_bytes + _RECEIVED_AT_ONCE
        for device in self._node.devices():
            reader = device._reader
            if reader is not None:
                assert reader.buffered <= _RECEIVED_AT_ONCE + 14
                assert len(reader._text or b"") <= _SETTINGS.max_message_bytes

    def _check_sent(self, sent: bytes) -> None:
        if not sent:
            return
        head, _, rest = sent.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            assert status in _STATUSES
            return
        frames, leftover = parse_frames(rest)
        assert leftover == b""
        for position, frame in enumerate(frames, 1):
            if frame.opcode == TEXT:
                assert decode_server_message(frame.payload.decode()) is not None
            elif frame.opcode == CLOSE:
                assert position == len(frames), "nothing follows a close"
                if frame.payload:
                    self._check_close(int.from_bytes(frame.payload[:2]), frame.payload[2:].decode())
            else:
                assert frame.opcode in (PING, PONG)

    def _check_close(self, code: int, reason: str) -> None:
        assert reason == _CODES[code]


@asynccontextmanager
async def open_frame_world() -> AsyncIterator[FrameWorld]:
    """Run a node for the length of the block; what it logs as a failure is one."""
    failures: list[MutableMapping[str, Any]] = []

    def note(_: Any, method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if method not in ("debug", "info"):
            failures.append({"level": method, **entry})
        raise DropEvent

    processors = structlog.get_config()["processors"]
    structlog.configure(processors=[note])
    try:
        clock = Clock(lambda: _STARTED)

        node = Node(_SETTINGS, clock, _Verifier(), MemoryEngine(_SETTINGS, clock))
        world = FrameWorld(node, failures)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            yield world
            nursery.cancel_scope.cancel()
    finally:
        structlog.configure(processors=processors)

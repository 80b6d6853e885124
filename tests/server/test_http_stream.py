"""What Hypercorn is spared: clients that leave, that don't read, and closes in the middle of an answer."""

import math
from typing import Any, cast

import pytest
import trio
from attrs import define, field
from hypercorn.trio.worker_context import WorkerContext

from localful_ws.server.http_stream import HttpStream


@define
class FakeTcp:
    """A TCP connection whose ends are where the test put them."""

    socket: object = None
    arriving: list[bytes | Exception] = field(factory=list)
    taken: list[bytes] = field(factory=list)
    refusal: Exception | None = None
    reads: bool = True
    closed: bool = False
    sends_eof: bool = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self.arriving:
            await trio.sleep_forever()
        arrived = self.arriving.pop(0)
        if isinstance(arrived, Exception):
            raise arrived
        return arrived[:max_bytes]

    async def send_all(self, data: bytes) -> None:
        if self.refusal is not None:
            raise self.refusal
        if not self.reads:
            await trio.sleep_forever()
        self.taken.append(data)

    async def send_eof(self) -> None:
        self.sends_eof = True

    async def aclose(self) -> None:
        self.closed = True


def wrap(tcp: FakeTcp) -> tuple[HttpStream, WorkerContext, trio.CancelScope]:
    context, scope = WorkerContext(None), trio.CancelScope()
    return HttpStream(cast("Any", tcp), context, scope), context, scope


async def test_passes_on_what_comes_and_goes() -> None:
    tcp = FakeTcp(arriving=[b"GET"])
    stream, context, scope = wrap(tcp)
    assert await stream.receive_some(2) == b"GE"
    await stream.send_all(b"HTTP/1.1 ")
    await stream.send_all(b"")
    await stream.send_all(b"200")
    assert tcp == FakeTcp(taken=[b"HTTP/1.1 ", b"200"])
    await stream.send_eof()
    assert tcp == FakeTcp(taken=[b"HTTP/1.1 ", b"200"], sends_eof=True)
    await stream.aclose()
    assert tcp.closed
    assert not context.terminated.is_set()
    assert scope.deadline == math.inf


async def test_the_end_of_what_is_received_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stream, context, scope = wrap(FakeTcp(arriving=[b"GET", b""]))
    with scope:
        await stream.receive_some()
        await trio.sleep(3600)
        assert not context.terminated.is_set()
        assert await stream.receive_some() == b""
        assert context.terminated.is_set()
        began = trio.current_time()
        await trio.sleep_forever()
    assert trio.current_time() - began == 30.0


@pytest.mark.parametrize("error", [trio.BrokenResourceError, trio.ClosedResourceError])
async def test_a_connection_that_breaks_ends(error: type[Exception]) -> None:
    stream, context, scope = wrap(FakeTcp(arriving=[error()]))
    with pytest.raises(error):
        await stream.receive_some()
    assert context.terminated.is_set()
    assert scope.deadline == pytest.approx(trio.current_time() + 30, abs=5)


async def test_a_client_that_does_not_read_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    tcp = FakeTcp(reads=False)
    stream, _, _ = wrap(tcp)
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError), trio.CancelScope(shield=True):
        await stream.send_all(b"HTTP/1.1 ")
    assert trio.current_time() - began == 10.0
    assert tcp.closed


async def test_a_close_in_the_middle_of_an_answer() -> None:
    stream, _, _ = wrap(FakeTcp(refusal=trio.BusyResourceError()))
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"HTTP/1.1 ")


async def test_a_connection_on_which_nothing_happens_is_over(autojump_clock: trio.testing.MockClock) -> None:
    stream, context, _ = wrap(FakeTcp(arriving=[b"GET"]))
    await stream.receive_some()
    await trio.sleep(100)
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await stream.receive_some()
    assert trio.current_time() - began == 120.0
    assert context.terminated.is_set()


async def test_a_client_that_only_listens_is_not_silent(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """As one that watches does, for hours."""
    stream, context, _ = wrap(FakeTcp())
    ended_at = None

    async def receive() -> None:
        nonlocal ended_at
        with pytest.raises(trio.TooSlowError):
            await stream.receive_some()
        ended_at = trio.current_time()

    began = trio.current_time()
    nursery.start_soon(receive)
    for _ in range(100):
        await trio.sleep(100)
        await stream.send_all(b"a line")
    assert not context.terminated.is_set()
    await trio.sleep(200)
    assert ended_at == began + 100 * 100 + 120

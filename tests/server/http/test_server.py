"""The server on real sockets; how it keeps the time, on a virtual clock."""

import os
import resource
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import httpx
import pytest
import trio
import trio.testing
from attrs import frozen
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.server.http.server import HttpServer
from localful_ws.tcp import close_socket
from tests.server.http.serving import GET, TIMES, Gate, answering, echo, get, open_server, post, respond
from tests.server.kernels import connected_pair
from tests.server.loopback import PATIENCE, open_files, until


@frozen
class Running:
    """A server that runs.

    Attributes:
        port: Where.
        shutdown: Ends it.
    """

    port: int
    shutdown: trio.Event

    async def connect(self, *data: bytes) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        for piece in data:
            await stream.send_all(piece)
        return stream

    async def talk(self, *data: bytes) -> bytes:
        """Send, send no more, and return all that comes."""
        async with await self.connect(*data) as stream:
            await stream.send_eof()
            return b"".join([bytes(received) async for received in stream])


@asynccontextmanager
async def running(
    app: ASGIApp,
    *,
    max_connections: int = 128,
    graceful_timeout: float = PATIENCE,
    listening: socket.socket | None = None,
) -> AsyncIterator[Running]:
    """Run a server for the length of the block. In the end no descriptor is left."""
    before = open_files() - (listening is not None)
    listening = listening or socket.create_server(("127.0.0.1", 0), backlog=100)
    served = Running(listening.getsockname()[1], trio.Event())
    server = HttpServer(app, max_connections=max_connections)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(server.serve, listening, shutdown=served.shutdown, graceful_timeout=graceful_timeout)
            )
            yield served
            served.shutdown.set()
        assert open_files() == before


def reset(stream: trio.SocketStream) -> None:
    """Have the server's kernel told that the connection is broken."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.sockets
class TestOnSockets:
    async def test_by_a_real_client(self) -> None:
        peers = set()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            peers.add(scope["client"])
            await echo(scope, receive, send)

        async with (
            running(app) as served,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}") as client,
        ):
            for number in range(3):
                answer = await client.post("/a", content=b"%d" % number)
                assert (answer.status_code, answer.content) == (200, b"POST /a %d" % number)
            big = await client.post("/a", content=b"x" * 1_000_000)
            assert len(big.content) == 1_000_008
        ((host, port),) = peers
        assert host == "127.0.0.1"
        assert port > 0

    async def test_ipv6(self) -> None:
        if not socket.has_dualstack_ipv6():
            pytest.skip("There is no IPv6 here.")
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, scope["client"][0].encode())

        async with running(app, listening=listening) as served, httpx.AsyncClient() as client:
            assert (await client.get(f"http://[::1]:{served.port}/")).content == b"::1"

    async def test_a_client_that_sends_no_more_gets_its_answer(self) -> None:
        async with running(echo) as served:
            assert (await served.talk(post(b"hi") + GET)).count(b"HTTP/1.1 200") == 2

    @pytest.mark.parametrize("sent", [b"", b"G", GET, post(b"x", length=1000), b"\x00"])
    async def test_a_client_that_resets(self, sent: bytes) -> None:
        with capture_logs() as logs:
            async with running(echo) as served:
                stream = await served.connect(sent)
                await wait_all_tasks_blocked(0.01)
                reset(stream)
                assert b" 200 " in await served.talk(GET)
        assert logs == []

    async def test_a_client_that_resets_before_it_is_served(self) -> None:
        near, far = connected_pair()
        close_socket(far.socket, at_once=True)
        await near.wait_readable()
        with capture_logs() as logs:
            await HttpServer(echo, max_connections=100).serve_stream(near)
        assert near.socket.fileno() == -1
        assert logs == []

    async def test_a_long_body_that_nobody_takes(self) -> None:
        """The client gets to see the answer although it goes on sending."""
        async with running(answering(partial(respond, body=b"no", status=413))) as served:
            answered = await served.talk(post(b"", length=3_000_000), *[b"x" * 1_000_000] * 3)
        assert answered.startswith(b"HTTP/1.1 413 ")
        assert answered.endswith(b"no")

    async def test_a_client_that_leaves_is_let_go(self) -> None:
        async with running(echo) as served:
            await wait_all_tasks_blocked()
            before = trio.lowlevel.current_statistics().tasks_living
            for _ in range(5):
                async with await served.connect(GET) as stream:
                    assert await stream.receive_some()
            await until(lambda: trio.lowlevel.current_statistics().tasks_living == before)

    async def test_no_descriptors_for_a_while(self) -> None:
        app = answering(partial(respond, body=b"at last"))
        with capture_logs() as logs:
            async with running(app) as served:
                sock = socket.socket()
                with no_descriptors():
                    sock.connect(("127.0.0.1", served.port))
                    await until(lambda: logs)
                async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
                    await stream.send_all(get("/", "Connection: close"))
                    received = b"".join([bytes(received) async for received in stream])
                assert received.endswith(b"at last")
        assert {entry["event"] for entry in logs} == {"can't accept a connection"}


@pytest.mark.sockets
class TestCap:
    async def test_those_beyond_it_wait(self) -> None:
        """However many come at once, and the more are accepted at a time the more have come."""
        gate, most, count = Gate(), 20, 60
        async with running(gate, max_connections=most) as served:
            streams = [await served.connect(get("/", "Connection: close")) for _ in range(count)]
            await until(lambda: gate.begun >= most)
            await wait_all_tasks_blocked(0.05)
            assert gate.begun == most
            gate.go_on.set()
            for stream in streams:
                async with stream:
                    assert await stream.receive_some()
        assert gate.begun == count

    async def test_one_of_them_comes_in_when_another_leaves(self) -> None:
        async with running(echo, max_connections=1) as served:
            first, second = await served.connect(GET), await served.connect(GET)
            async with first, second:
                assert await first.receive_some()
                await wait_all_tasks_blocked(0.01)
                await first.aclose()
                assert await second.receive_some()

    async def test_shutdown_while_some_wait(self) -> None:
        gate = Gate()
        async with running(gate, max_connections=1) as served:
            first, second = await served.connect(GET), await served.connect(GET)
            async with first, second:
                await until(lambda: gate.begun)
                served.shutdown.set()
                with pytest.raises(trio.BrokenResourceError):
                    await second.receive_some()
                gate.go_on.set()
                assert b"connection: close" in await first.receive_some()
        assert gate.begun == 1


@pytest.mark.sockets
class TestShutdown:
    async def test_requests_end_and_idle_connections_are_closed(self) -> None:
        gate = Gate()
        async with running(gate) as served:
            idle, busy = await served.connect(), await served.connect(GET)
            async with idle, busy:
                await until(lambda: gate.begun)
                served.shutdown.set()
                assert await idle.receive_some() == b""
                with pytest.raises(OSError, match="connect"):
                    await served.connect()
                gate.go_on.set()
                answer = b"".join([bytes(received) async for received in busy])
                assert answer.endswith(b"GET / ")

    @pytest.mark.parametrize("sent", [GET, b"G", post(b"x", length=2)])
    async def test_it_does_not_wait_for_ever(self, sent: bytes) -> None:
        async with (
            running(Gate(), graceful_timeout=0.05) as served,
            await served.connect(sent) as stream,
        ):
            await wait_all_tasks_blocked(0.01)
            served.shutdown.set()
            assert await stream.receive_some() == b""

    async def test_cancelled(self) -> None:
        before = open_files()
        listening = socket.create_server(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(
                    HttpServer(Gate(), max_connections=100).serve,
                    listening,
                    shutdown=trio.Event(),
                    graceful_timeout=PATIENCE,
                )
            )
            stream = await trio.open_tcp_stream("127.0.0.1", listening.getsockname()[1])
            await stream.send_all(GET)
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        assert await stream.receive_some() == b""
        await stream.aclose()
        assert open_files() == before


async def test_a_stream_that_is_no_socket() -> None:
    scopes, body = [], b"x" * 200_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await respond(send, body)

    near, far = trio.testing.memory_stream_pair()
    received = bytearray()
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(HttpServer(app, max_connections=100).serve_stream, near)
            await far.send_all(GET + get("/", "Connection: close"))
            async for piece in far:
                received += piece
                if received.count(body) == 2:
                    await far.send_eof()
    assert (received.count(body), logs) == (2, [])
    assert scopes[0]["client"] is None


class TestTime:
    async def test_those_that_are_idle_make_room_if_there_is_none(self, autojump_clock: MockClock) -> None:
        gate = Gate()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await (gate if scope["path"] == "/" else echo)(scope, receive, send)

        with capture_logs() as logs:
            async with open_server(app, max_connections=4, times=TIMES) as serving:
                busy, idle = await serving.connect(GET), await serving.connect(get("/idle"))
                await idle.answer()
                await trio.sleep(30.5)
                assert idle.sock.number != -1
                last, silent = await serving.connect(get("/last")), await serving.connect()
                await last.answer()
                await trio.sleep(0.05)
                assert silent.sock.number != -1
                await trio.sleep(0.95)
                # Whoever has not asked for anything leaves sooner than others.
                assert (idle.sock.number, silent.sock.number) == (-1, -1)
                assert last.sock.number != -1
                await trio.sleep(50)
                assert busy.sock.number != -1
                assert last.sock.number != -1
                gate.go_on.set()
                assert (await busy.answer()).body == b"GET / "
        assert [entry["connections"] for entry in logs] == [4]

    async def test_those_that_send_a_head_or_a_body_do_not(self, autojump_clock: MockClock) -> None:
        async with open_server(echo, max_connections=2, times=TIMES) as serving:
            head, body = await serving.connect(b"G"), await serving.connect(post(b"x", length=2))
            await trio.sleep(5)
            await head.send(GET[1:])
            await body.send(b"y")
            assert (await head.answer()).body == b"GET / "
            assert (await body.answer()).body == b"POST / xy"

    async def test_that_there_is_no_room_is_told_now_and_then(self, autojump_clock: MockClock) -> None:
        with capture_logs() as logs:
            async with open_server(Gate(), max_connections=1, times=TIMES) as serving:
                await serving.connect(GET)
                await trio.sleep(150)
        assert [(entry["event"], entry["log_level"]) for entry in logs] == [
            ("there are as many HTTP connections as may be; others wait", "warning")
        ] * 3

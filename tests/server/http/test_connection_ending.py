"""How connections end: by clients, in time, after a last answer, by the server; and what is left of them."""

import weakref
from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import trio
from starlette.types import ASGIApp, Send
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.http.serving import (
    GET,
    TIMES,
    Client,
    Gate,
    Watch,
    answering,
    echo,
    get,
    giving,
    open_client,
    open_server,
    part,
    post,
    respond,
    start,
)
from tests.server.sockets import FakeSocket, fake_pair

LAST = get("/", "Connection: close")
HALF = post(b"he", length=5)
EXPECTING = post(b"", "Expect: 100-continue", length=5)


class TestClientsThatLeave:
    @pytest.mark.parametrize(
        ("leave", "sent"),
        [
            *product([FakeSocket.end], [b"", b"\r\n", GET, post(b"hi")]),
            *product([FakeSocket.break_off], [b"", b"G", GET, post(b"", length=5), HALF, LAST, b"\x00"]),
        ],
    )
    async def test_when_this_was_sent(
        self, autojump_clock: MockClock, leave: Callable[[FakeSocket], None], sent: bytes
    ) -> None:
        with capture_logs() as logs:
            async with open_client(echo, sent) as client:
                leave(client.sock)
                await wait_all_tasks_blocked()
                assert client.sock.number == -1
        assert logs == []

    @pytest.mark.parametrize("sent", [GET, LAST, b"\x00", HALF, EXPECTING])
    async def test_reset_when_this_is_read(self, autojump_clock: MockClock, sent: bytes) -> None:
        with capture_logs() as logs:
            async with open_client(echo) as client:
                client.sock.receiving = client.sock.break_off
                await client.send(sent)
                assert client.sock.number == -1
        assert logs == []

    async def test_half_closed_after_a_request(self, autojump_clock: MockClock) -> None:
        gate = Gate()
        async with open_client(gate, post(b"hi")) as client:
            client.sock.end()
            gate.go_on.set()
            assert (await client.answer()).body == b"POST / hi"
            await client.until_closed()

    async def test_reset_amid_an_answer(self, autojump_clock: MockClock) -> None:
        sent = []

        async def give(send: Send) -> None:
            await send(start())
            for _ in range(3):
                await send(part(b"x" * 1000, more=True))
                sent.append(trio.current_time())
            await send(part())

        async with open_client(answering(give), GET, window=1500) as client:
            assert len(sent) == 1
            client.sock.break_off()
            await wait_all_tasks_blocked()
            assert client.sock.number == -1
        assert len(sent) == 3


class TestTimes:
    async def test_idle(self, autojump_clock: MockClock) -> None:
        async with open_server(echo, times=TIMES) as serving:
            never, once = await serving.connect(), await serving.connect()
            await trio.sleep(50)
            await once.send(GET)
            await once.answer()
            assert 60 <= await never.until_closed() <= 61
            assert 110 <= await once.until_closed() <= 111

    async def test_empty_lines_don_t_keep_it(self, autojump_clock: MockClock) -> None:
        async with open_client(echo, times=TIMES) as client:
            for _ in range(59):
                await trio.sleep(1)
                await client.send(b"\r\n")
            assert 60 <= await client.until_closed() <= 61

    async def test_a_head_that_trickles(self, autojump_clock: MockClock) -> None:
        async with open_client(echo, times=TIMES) as client:
            await trio.sleep(20)
            for at in range(9):
                await client.send(GET[at : at + 1])
                await trio.sleep(1)
            assert 30 <= await client.until_closed() <= 31

    async def test_a_head_that_came_partly_with_the_one_before(self, autojump_clock: MockClock) -> None:
        async with open_client(echo, GET + b"G", times=TIMES) as client:
            await client.answer()
            assert 10 <= await client.until_closed() <= 11

    async def test_a_head_in_time(self, autojump_clock: MockClock) -> None:
        async with open_client(echo, GET[:5], times=TIMES) as client:
            await trio.sleep(9)
            await client.send(GET[5:])
            assert (await client.answer()).body == b"GET / "

    async def test_a_body_that_trickles(self, autojump_clock: MockClock) -> None:
        async with open_client(echo, post(b"", length=1000), times=TIMES) as client:
            for _ in range(29):
                await trio.sleep(1)
                await client.send(b"x")
            assert (await client.answer()).error() == (408, "body-timeout")
            assert trio.current_time() == 30
            assert 32 <= await client.until_closed() <= 33

    async def test_a_body_in_time(self, autojump_clock: MockClock) -> None:
        async with open_client(echo, post(b"", length=2), times=TIMES) as client:
            for _ in range(2):
                await trio.sleep(14)
                await client.send(b"x")
            assert (await client.answer()).body == b"POST / xx"

    async def test_a_client_that_takes_nothing(self, autojump_clock: MockClock) -> None:
        async with open_client(answering(partial(respond, body=b"x" * 1000)), GET, window=500) as client:
            await trio.sleep(9)
            assert client.sock.number != -1
            await trio.sleep(3)
            assert client.sock.number == -1

    async def test_a_client_that_takes_a_little(self, autojump_clock: MockClock) -> None:
        size = 65536 * 5
        async with open_client(answering(partial(respond, body=b"x" * size)), GET, window=1000) as client:
            for _ in range(6):
                await trio.sleep(8)
                client.received += client.sock.sent
                client.sock.sent.clear()
                client.sock.make_room(65536)
            assert len((await client.answer()).body) == size

    async def test_an_application_has_any_time(self, autojump_clock: MockClock) -> None:
        gate = Gate()
        async with open_client(gate, GET, times=TIMES) as client:
            await trio.sleep(5_000)
            gate.go_on.set()
            assert (await client.answer()).body == b"GET / "


class TestLingering:
    async def test_before_the_end_of_the_request(self, autojump_clock: MockClock) -> None:
        """Nobody takes the rest. The client gets to see the answer, and then has a little time."""
        app = answering(partial(respond, body=b"x" * 100))
        async with open_client(app, post(b"x" * 10, length=1_000_000), times=TIMES) as client:
            answer = await client.answer()
            assert answer.headers["connection"] == "close"
            assert client.sock.shut
            for _ in range(10):
                await client.send(b"x" * 70_000)
                assert client.sock.incoming == b""
            assert TIMES.linger <= await client.until_closed() <= TIMES.linger + 1

    async def test_a_body_that_nobody_takes_may_take_as_long(self, autojump_clock: MockClock) -> None:
        """Some read nothing before they have sent all; the answer is there for them as well."""
        app = answering(partial(respond, status=401))
        async with open_client(app, post(b"x", length=1_000_000), times=TIMES) as client:
            while client.sock.number != -1:
                assert trio.current_time() <= TIMES.body + 1
                await client.send(b"x" * 100)
                await trio.sleep(TIMES.linger / 2)
            assert trio.current_time() >= TIMES.body


class TestServerThatEnds:
    async def test_an_idle_one_at_once(self, autojump_clock: MockClock) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect(GET)
            await client.answer()
            serving.server.end()
            await wait_all_tasks_blocked()
            assert client.sock.number == -1

    async def test_one_that_has_not_begun(self, autojump_clock: MockClock) -> None:
        async with open_server(echo) as serving:
            serving.server.end()
            client = await serving.connect(GET)
            assert client.sock.number == -1
            assert client.sock.sent == b""

    async def test_a_busy_one_after_its_answer(self, autojump_clock: MockClock) -> None:
        gate = Gate()
        async with open_server(gate) as serving:
            client = await serving.connect(GET * 2)
            serving.server.end()
            await trio.sleep(5)
            gate.go_on.set()
            assert (await client.answer()).headers["connection"] == "close"
            await client.until_closed()

    async def test_one_whose_answer_has_begun(self, autojump_clock: MockClock) -> None:
        """It was said that the connection goes on. It does not, but what has come is answered."""
        watch = Watch()
        async with open_server(watch) as serving:
            client = await serving.connect(get("/watch"), GET)
            serving.server.end()
            watch.next(is_last=True)
            assert "connection" not in (await client.answer()).headers
            assert (await client.answer()).headers["connection"] == "close"
            await client.until_closed()

    async def test_one_whose_answer_has_begun_and_that_is_idle_then(self, autojump_clock: MockClock) -> None:
        watch = Watch()
        async with open_server(watch) as serving:
            client = await serving.connect(get("/watch"))
            serving.server.end()
            watch.next(is_last=True)
            assert (await client.answer()).body == b"line"
            assert await client.until_closed() == 0

    async def test_one_that_is_sending_a_head(self, autojump_clock: MockClock) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect(GET[:5])
            serving.server.end()
            await trio.sleep(5)
            await client.send(GET[5:])
            assert (await client.answer()).headers["connection"] == "close"

    async def test_a_request_that_comes_at_that_moment_is_not_begun(self, autojump_clock: MockClock) -> None:
        """Or it would be broken off wherever the application waits first."""
        gate = Gate()
        async with open_server(gate) as serving:
            client = await serving.connect()
            client.sock.feed(GET)
            serving.server.end()
            await wait_all_tasks_blocked()
            assert client.sock.number == -1
        assert gate.begun == 0

    async def test_what_is_refused_is_not_broken_off(self, autojump_clock: MockClock) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect(b"\x00")
            serving.server.end()
            await trio.sleep(1)
            assert client.sock.shut
            await client.until_refused(400, "bad-request")


@pytest.mark.usefixtures("no_garbage_collector")
@pytest.mark.parametrize("leave", [FakeSocket.break_off, FakeSocket.end, None])
@pytest.mark.parametrize(
    ("app", "sent"),
    [
        pytest.param(echo, b"", id="nothing"),
        pytest.param(echo, GET, id="get"),
        pytest.param(echo, HALF, id="half-a-body"),
        pytest.param(echo, LAST, id="close"),
        pytest.param(echo, b"G", id="half-a-head"),
        pytest.param(echo, b"\x00", id="garbage"),
        pytest.param(echo, GET + b"\x00", id="garbage-later"),
        pytest.param(echo, b"GET / HTTP/2.0\r\n\r\n", id="refused"),
        pytest.param(echo, get("/", "Connection: upgrade", "Upgrade: h2c"), id="upgrade"),
        pytest.param(giving(error=ValueError), GET, id="failure"),
        pytest.param(Watch(), get("/watch"), id="watch"),
    ],
)
async def test_nothing_of_it_is_left_for_the_garbage_collector(
    app: ASGIApp, sent: bytes, leave: Callable[[FakeSocket], None] | None, autojump_clock: MockClock
) -> None:
    with capture_logs():
        async with open_server(app, times=TIMES) as serving:
            peer, near = fake_pair(serving.poller)
            left, client = weakref.ref(near), Client(peer.sock)
            serving.nursery.start_soon(serving.server.serve_stream, near)
            del near
            await client.send(sent)
            if leave is None:
                await trio.sleep(200)
            else:
                leave(client.sock)
            client.sock.break_off()
            await wait_all_tasks_blocked()
            assert client.sock.number == -1
            assert left() is None

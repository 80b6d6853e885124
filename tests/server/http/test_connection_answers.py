"""Answers as they are sent over a connection, and those that go on until the client is gone."""

import re
from collections.abc import Callable
from functools import partial
from itertools import groupby

import pytest
import trio
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.http.serving import (
    GET,
    TIMES,
    CutOffError,
    Watch,
    answering,
    get,
    giving,
    open_client,
    open_server,
    part,
    post,
    receive_body,
    respond,
    start,
)
from tests.server.sockets import FakeSocket

HEAD = b"HEAD" + GET[3:]
OLD = GET.replace(b"1.1", b"1.0")
OLD_KEPT = get("/", "Connection: keep-alive").replace(b"1.1", b"1.0")
LAST = get("/", "Connection: close")

HI = [start(), part(b"hi")]
PARTS = [start(), part(b"h", more=True), part(b"i")]
TWO = (b"Content-Length", b"2")
ETAG = (b"etag", b"x")
PHRASES = {200: "OK", 204: "No Content", 299: "", 304: "Not Modified"}
DATE = r"date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"

BARE: dict[str, str] = {}
OF_2 = {"content-length": "2"}
GIVEN = {"Content-Length": "2"}
CHUNKED = {"transfer-encoding": "chunked"}
CLOSE = {"connection": "close"}


class TestForms:
    @pytest.mark.parametrize(
        ("request_", "messages", "headers", "body"),
        [
            pytest.param(GET, HI, OF_2, b"hi", id="in-one"),
            pytest.param(GET, [start(), part()], {"content-length": "0"}, b"", id="empty"),
            pytest.param(GET, [start(299), *HI[1:]], OF_2, b"hi", id="status-of-no-name"),
            pytest.param(GET, [start(200, TWO), *PARTS[1:]], GIVEN, b"hi", id="of-known-length"),
            pytest.param(
                GET,
                [*PARTS[:2], part(b"", more=True), part(b"x" * 100)],
                CHUNKED,
                b"1\r\nh\r\n64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n",
                id="in-parts",
            ),
            pytest.param(GET, [*PARTS[:2], part()], CHUNKED, b"1\r\nh\r\n0\r\n\r\n", id="last-part-empty"),
            pytest.param(HEAD, HI, BARE, b"", id="head"),
            pytest.param(HEAD, [start(200, TWO), *HI[1:]], GIVEN, b"", id="head-of-known-length"),
            pytest.param(HEAD, PARTS, BARE, b"", id="head-in-parts"),
            pytest.param(GET, [start(204), part()], BARE, b"", id="204"),
            pytest.param(GET, [start(304), part(b"no")], BARE, b"", id="304"),
            pytest.param(
                GET, [start(304, TWO, ETAG), part()], GIVEN | {"etag": "x"}, b"", id="304-of-length"
            ),
            pytest.param(OLD_KEPT, HI, OF_2 | {"connection": "keep-alive"}, b"hi", id="1.0-keep-alive"),
            pytest.param(OLD, HI, OF_2 | CLOSE, b"hi", id="1.0"),
            pytest.param(OLD_KEPT, PARTS, CLOSE, b"hi", id="1.0-in-parts"),
            pytest.param(LAST, HI, OF_2 | CLOSE, b"hi", id="close"),
        ],
    )
    async def test_it_is_sent_so(
        self,
        autojump_clock: MockClock,
        request_: bytes,
        messages: list[Message],
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        """And another request is answered after it, if the connection goes on."""
        async with open_client(giving(*messages), request_ + GET) as client:
            head, _, sent = bytes(client.sock.sent).partition(b"\r\n\r\n")
            status, date, *lines = head.decode().split("\r\n")
            number = messages[0]["status"]
            assert status == f"HTTP/1.1 {number} {PHRASES[number]}"
            assert re.fullmatch(DATE, date)
            assert dict(line.split(": ") for line in lines) == headers
            if headers.get("connection") != "close":
                assert re.fullmatch(re.escape(body) + rb"HTTP/1\.1 \d+ .*", sent, re.DOTALL)
            else:
                assert sent == body
                assert client.sock.shut
                client.sock.end()
                await wait_all_tasks_blocked()
                assert client.sock.number == -1

    async def test_it_is_larger_than_what_the_kernel_takes(self, autojump_clock: MockClock) -> None:
        body = bytes(range(256)) * 2000
        async with open_client(answering(partial(respond, body=body)), GET, window=1000) as client:
            assert (await client.answer()).body == body
            await client.send(GET)
            assert (await client.answer()).body == body

    async def test_one_in_many_parts_lets_others_run(self, autojump_clock: MockClock) -> None:
        progress = []

        async def many(send: Send) -> None:
            await send(start())
            for _ in range(100):
                progress.append(trio.lowlevel.current_task())
                await send(part(b"x", more=True))
            await send(part())

        async with open_server(answering(many)) as serving:
            clients = [await serving.connect() for _ in range(2)]
            for client in clients:
                client.sock.feed(GET)
            await wait_all_tasks_blocked()
            for client in clients:
                assert (await client.answer()).body == b"x" * 100
        assert max(len(list(run)) for _, run in groupby(progress)) <= 2
        assert len(progress) == 200


class TestWatching:
    async def test_a_client_that_stays(self, autojump_clock: MockClock) -> None:
        watch = Watch()
        async with open_client(watch, get("/watch"), times=TIMES) as client:
            for _ in range(3):
                await trio.sleep(1000)
                watch.next()
            await wait_all_tasks_blocked()
            watch.next(is_last=True)
            assert (await client.answer()).body == b"line" * 4
            await client.send(GET)
            assert (await client.answer()).body == b"GET / "
        assert watch.gone_at == []

    @pytest.mark.parametrize("leave", [FakeSocket.end, FakeSocket.break_off])
    async def test_a_client_that_leaves(
        self, autojump_clock: MockClock, leave: Callable[[FakeSocket], None]
    ) -> None:
        watch = Watch()
        async with open_client(watch, get("/watch")) as client:
            await trio.sleep(5)
            leave(client.sock)
            await wait_all_tasks_blocked()
            assert client.sock.number == -1
        assert watch.gone_at == [5]

    @pytest.mark.parametrize("together", [False, True])
    async def test_what_it_sends_for_later_is_left_to_the_kernel(
        self, autojump_clock: MockClock, *, together: bool
    ) -> None:
        watch, sent = Watch(), [get("/watch"), post(b"x" * 10_000_000)]
        async with open_client(watch, *([b"".join(sent)] if together else sent), times=TIMES) as client:
            assert len(client.sock.incoming) > 9_900_000
            await trio.sleep(1000)
            watch.next(is_last=True)
            assert (await client.answer()).body == b"line"
            assert len((await client.answer()).body) == len(b"POST / ") + 10_000_000
        assert watch.gone_at == []

    @pytest.mark.parametrize("sent", [GET, b"GET", GET + b"GET", b"\x00"])
    async def test_then_sending_tells_that_it_is_gone(self, autojump_clock: MockClock, sent: bytes) -> None:
        watch = Watch()
        async with open_client(watch, get("/watch"), sent) as client:
            client.sock.break_off()
            await trio.sleep(5)
            watch.next()
            await wait_all_tasks_blocked()
            assert client.sock.number == -1
        assert watch.gone_at == [5]

    async def test_told_before_there_is_an_answer(self, autojump_clock: MockClock) -> None:
        """Then there need be none."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert await receive_body(receive) == b""
            assert (await receive())["type"] == "http.disconnect"
            assert (await receive())["type"] == "http.disconnect"

        with capture_logs() as logs:
            async with open_client(app, GET) as client:
                client.sock.end()
                await client.until_closed()
        assert logs == []

    async def test_a_cancelled_answer_ends_the_connection(self, autojump_clock: MockClock) -> None:
        async def act(send: Send) -> None:
            await send(start(200, (b"content-length", b"1000")))
            with trio.move_on_after(1):
                await send(part(b"x" * 1000, more=True))
            await send(part())

        async with open_client(answering(act), GET, window=300, times=TIMES) as client:
            await trio.sleep(2)
            with pytest.raises(CutOffError):
                await client.answer()
            assert await client.until_closed() <= 2 + TIMES.linger + 1

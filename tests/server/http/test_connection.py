"""One connection after the other, on sockets in memory and a virtual clock."""

import gc
import re
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import groupby

import pytest
import trio
import trio.testing
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.server.http.connection import HttpConnection, HttpTimes
from localful_ws.server.http.requests import MAX_HEAD
from tests.server.http.serving import (
    GET,
    HOST,
    Answer,
    Client,
    CutOffError,
    Serving,
    answering,
    echo,
    get,
    open_server,
    part,
    post,
    receive_body,
    respond,
    start,
)
from tests.server.kernels import Kernel, ScriptedStream
from tests.server.sockets import fake_pair

NO_HEADERS: dict[str, str] = {}
CLOSE = {"connection": "close"}
TIMES = HttpTimes(idle=60, head=10, body=30, send=10, linger=2)


async def hang(send: Send) -> None:
    await trio.sleep_forever()


def error_in(answer: Answer) -> tuple[int, str]:
    """The status and the identifier of an error in Localful's shape."""
    assert answer.headers["content-type"] == "application/json"
    found = re.search(rb'"identifier":"([a-z-]+)"', answer.body)
    assert found is not None
    return answer.status, found[1].decode()


async def until_refused(client: Client, status: int, identifier: str) -> None:
    """See that the client is told so, and that its connection ends."""
    answer = await client.answer()
    assert error_in(answer) == (status, identifier)
    assert answer.headers["connection"] == "close"
    await client.until_closed()


class TestRequests:
    async def test_one_after_the_other(self, autojump_clock: MockClock) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect()
            for number in range(3):
                await client.send(post(b"%d" % number))
                assert await client.answer() == Answer(200, {"content-length": "8"}, b"POST / %d" % number)
            client.sock.end()
            await client.until_closed()

    async def test_what_is_sent(self, autojump_clock: MockClock) -> None:
        app = answering(lambda send: respond(send, b"hi", status=201))
        async with open_server(app) as serving:
            client = await serving.connect(GET)
            sent = bytes(client.sock.sent)
        date = rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
        assert re.fullmatch(rb"HTTP/1\.1 201 Created\r\ndate: %b\r\ncontent-length: 2\r\n\r\nhi" % date, sent)

    async def test_the_scope(self, autojump_clock: MockClock) -> None:
        scopes = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scopes.append(scope)
            await respond(send)

        async with open_server(app) as serving:
            client = await serving.connect(get("/a%20b?c=%20", "X: Y"))
            await client.answer()
        (scope,) = scopes
        assert {key: value for key, value in scope.items() if key not in ("asgi", "client", "server")} == {
            "type": "http",
            "scheme": "http",
            "root_path": "",
            "http_version": "1.1",
            "method": "GET",
            "path": "/a b",
            "raw_path": b"/a%20b",
            "query_string": b"c=%20",
            "headers": [(b"host", b"a"), (b"x", b"Y")],
        }

    async def test_pipelined_with_bodies(self, autojump_clock: MockClock) -> None:
        requests = post(b"one", path="/1") + get("/2") + post(b"three", path="/3")
        async with open_server(echo) as serving:
            client = await serving.connect(requests * 20)
            for _ in range(20):
                for body in (b"POST /1 one", b"GET /2 ", b"POST /3 three"):
                    assert (await client.answer()).body == body

    async def test_byte_by_byte(self, autojump_clock: MockClock) -> None:
        requests = post(b"one", path="/1") + get("/2")
        async with open_server(echo) as serving:
            client = await serving.connect(*(requests[at : at + 1] for at in range(len(requests))))
            assert (await client.answer()).body == b"POST /1 one"
            assert (await client.answer()).body == b"GET /2 "

    async def test_a_large_body_comes_in_parts(self, autojump_clock: MockClock) -> None:
        sizes = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while (message := await receive())["more_body"]:
                sizes.append(len(message["body"]))
            await respond(send, b"%d" % (sum(sizes) + len(message["body"])))

        async with open_server(app) as serving:
            client = await serving.connect(post(b"x" * 1_000_000))
            assert (await client.answer()).body == b"1000000"
        assert max(sizes) <= 65536

    async def test_many_at_once_let_others_run(self, autojump_clock: MockClock) -> None:
        """After each answer of one client the others have their turn."""
        served = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            served.append(scope["path"])
            await respond(send)

        async with open_server(app) as serving:
            clients = [await serving.connect() for _ in range(3)]
            for number, client in enumerate(clients):
                client.sock.feed(get(f"/{number}") * 50)
            await wait_all_tasks_blocked()
        assert len(served) == 150
        assert max(len(list(run)) for _, run in groupby(served)) <= 2
        assert {*served[:3]} == {"/0", "/1", "/2"}

    async def test_one_among_128_that_are_busy(self, autojump_clock: MockClock) -> None:
        served: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            served.append(scope["path"])
            await respond(send)

        async with open_server(app) as serving:
            for _ in range(127):
                await serving.connect()
            other = await serving.connect()
            for sock in serving.poller.open_sockets():
                sock.feed(get("/") * 100 if sock is not other.sock else get("/other"))
            await other.answer()
            await wait_all_tasks_blocked()
        assert served.index("/other") < 128
        assert len(served) == 12_701

    async def test_an_answer_in_many_parts_lets_others_run(self, autojump_clock: MockClock) -> None:
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


class TestAnswers:
    @pytest.mark.parametrize(
        ("request_line", "messages", "headers", "body"),
        [
            pytest.param(
                *("GET / HTTP/1.1", [start(), part(b"hi")], {"content-length": "2"}, b"hi"), id="in-one"
            ),
            pytest.param(*("GET / HTTP/1.1", [start(), part()], {"content-length": "0"}, b""), id="empty"),
            pytest.param(
                "GET / HTTP/1.1",
                [start(200, (b"Content-Length", b"2")), part(b"h", more=True), part(b"i")],
                {"content-length": "2"},
                b"hi",
                id="of-known-length",
            ),
            pytest.param(
                "GET / HTTP/1.1",
                [start(), part(b"h", more=True), part(b"", more=True), part(b"x" * 100)],
                {"transfer-encoding": "chunked"},
                b"1\r\nh\r\n64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n",
                id="in-parts",
            ),
            pytest.param(
                "GET / HTTP/1.1",
                [start(), part(b"h", more=True), part()],
                {"transfer-encoding": "chunked"},
                b"1\r\nh\r\n0\r\n\r\n",
                id="last-part-empty",
            ),
            pytest.param(*("HEAD / HTTP/1.1", [start(), part(b"hi")], NO_HEADERS, b""), id="head"),
            pytest.param(
                "HEAD / HTTP/1.1",
                [start(200, (b"content-length", b"2")), part(b"hi")],
                {"content-length": "2"},
                b"",
                id="head-of-known-length",
            ),
            pytest.param(
                "HEAD / HTTP/1.1",
                [start(), part(b"h", more=True), part(b"i")],
                NO_HEADERS,
                b"",
                id="head-in-parts",
            ),
            pytest.param(*("GET / HTTP/1.1", [start(204), part()], NO_HEADERS, b""), id="204"),
            pytest.param(*("GET / HTTP/1.1", [start(304), part(b"no")], NO_HEADERS, b""), id="304"),
            pytest.param(
                "GET / HTTP/1.1",
                [start(304, (b"content-length", b"2"), (b"etag", b"x")), part()],
                {"content-length": "2", "etag": "x"},
                b"",
                id="304-with-a-length",
            ),
            pytest.param(
                "GET / HTTP/1.0\r\nConnection: keep-alive",
                [start(), part(b"hi")],
                {"content-length": "2", "connection": "keep-alive"},
                b"hi",
                id="1.0-keep-alive",
            ),
            pytest.param(
                "GET / HTTP/1.0",
                [start(), part(b"hi")],
                {"content-length": "2", "connection": "close"},
                b"hi",
                id="1.0",
            ),
            pytest.param(
                "GET / HTTP/1.0\r\nConnection: keep-alive",
                [start(), part(b"h", more=True), part(b"i")],
                CLOSE,
                b"hi",
                id="1.0-in-parts",
            ),
            pytest.param(
                "GET / HTTP/1.1\r\nConnection: close",
                [start(), part(b"hi")],
                {"content-length": "2", "connection": "close"},
                b"hi",
                id="close",
            ),
        ],
    )
    async def test_forms(
        self,
        autojump_clock: MockClock,
        request_line: str,
        messages: list[Message],
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        async def give(send: Send) -> None:
            for message in messages:
                await send(message)

        goes_on = headers.get("connection") != "close"
        async with open_server(answering(give)) as serving:
            client = await serving.connect(request_line.encode() + b"\r\nHost: a\r\n\r\n" + GET)
            head, _, sent = bytes(client.sock.sent).partition(b"\r\n\r\n")
            status, date, *lines = head.decode().split("\r\n")
            assert int(status.split(" ")[1]) == messages[0]["status"]
            assert date.startswith("date: ")
            assert dict(line.lower().split(": ") for line in lines) == headers
            if goes_on:
                assert re.fullmatch(re.escape(body) + rb"HTTP/1\.1 \d+ .*", sent, re.DOTALL)
            else:
                assert sent == body
                assert client.sock.shut

    async def test_a_status_of_no_name(self, autojump_clock: MockClock) -> None:
        async with open_server(answering(lambda send: respond(send, status=299))) as serving:
            assert (await (await serving.connect(GET)).answer()).status == 299

    @pytest.mark.parametrize(
        "app",
        [
            pytest.param(answering(partial(respond, status=401)), id="without-reading"),
            pytest.param(answering(partial(respond, body=b"x" * 100)), id="with-a-body"),
        ],
    )
    async def test_before_the_end_of_the_request(self, autojump_clock: MockClock, app: ASGIApp) -> None:
        """Nobody takes the rest. The client gets to see the answer, and then has a little time."""
        async with open_server(app, times=TIMES) as serving:
            client = await serving.connect(post(b"x" * 10, length=1_000_000))
            answer = await client.answer()
            assert answer.headers["connection"] == "close"
            assert client.sock.shut
            for _ in range(10):
                await client.send(b"x" * 70_000)
                assert client.sock.incoming == b""
            assert TIMES.linger <= await client.until_closed() <= TIMES.linger + 1

    async def test_a_body_that_nobody_takes_may_come_for_as_long_as_another(
        self, autojump_clock: MockClock
    ) -> None:
        """Some read nothing before they have sent all; the answer is there for them as well."""
        app = answering(partial(respond, status=401))
        async with open_server(app, times=TIMES) as serving:
            client = await serving.connect(post(b"x", length=1_000_000))
            while client.sock.number != -1:
                assert trio.current_time() <= TIMES.body + 1
                await client.send(b"x" * 100)
                await trio.sleep(TIMES.linger / 2)
            assert trio.current_time() >= TIMES.body

    async def test_a_body_that_has_come_and_nobody_takes_is_no_reason_to_end(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_server(answering(lambda send: respond(send, b"hi"))) as serving:
            client = await serving.connect(post(b"x" * 100) + GET)
            for _ in range(2):
                assert (await client.answer()).headers == {"content-length": "2"}

    async def test_requests_after_the_last_one_are_not_answered(self, autojump_clock: MockClock) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect(get("/1", "Connection: close") + get("/2"))
            assert (await client.answer()).body == b"GET /1 "
            client.sock.end()
            await client.until_closed()

    async def test_it_is_larger_than_what_the_kernel_takes(self, autojump_clock: MockClock) -> None:
        body = bytes(range(256)) * 2000
        async with open_server(answering(lambda send: respond(send, body))) as serving:
            client = await serving.connect(GET, window=1000)
            assert (await client.answer()).body == body
            await client.send(GET)
            assert (await client.answer()).body == body

    async def test_on_a_stream_that_is_no_socket(self, autojump_clock: MockClock) -> None:
        near, far = trio.testing.memory_stream_pair()
        connection = HttpConnection(
            answering(lambda send: respond(send, b"x" * 200_000)), near, TIMES, {"type": "http"}
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            await far.send_all(get("/", "Connection: close"))
            received = b""
            while not received.endswith(b"x" * 200_000):
                received += await far.receive_some()
            await far.send_eof()
            assert await far.receive_some() == b""


class TestExpecting:
    async def test_the_body_is_asked_for(self, autojump_clock: MockClock) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect(post(b"", "Expect: 100-continue", length=5))
            assert await client.answer() == Answer(100, NO_HEADERS, b"")
            await client.send(b"he", b"llo")
            assert (await client.answer()).body == b"POST / hello"
            await client.send(GET)
            assert (await client.answer()).body == b"GET / "

    async def test_it_is_not_asked_for_if_it_has_come(self, autojump_clock: MockClock) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect(post(b"he", "Expect: 100-continue", length=5))
            await client.send(b"llo")
            assert (await client.answer()).body == b"POST / hello"

    async def test_it_is_not_asked_for_if_nobody_wants_it(self, autojump_clock: MockClock) -> None:
        async with open_server(answering(partial(respond, status=413))) as serving:
            client = await serving.connect(post(b"", "Expect: 100-continue", length=5))
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (413, "close")

    async def test_it_is_not_asked_for_in_the_midst_of_an_answer(self, autojump_clock: MockClock) -> None:
        told: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start())
            await send(part(b"a", more=True))
            told.append(await receive())
            await send(part(b"b"))

        async with open_server(app, times=TIMES) as serving:
            client = await serving.connect(post(b"", "Expect: 100-continue", length=5))
            assert (await client.answer()).body == b"ab"
        assert told == [{"type": "http.disconnect"}]

    async def test_the_client_is_gone_when_it_is_asked(self, autojump_clock: MockClock) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect()
            client.sock.feed(post(b"", "Expect: 100-continue", length=5))
            client.sock.receiving = client.sock.break_off
            await wait_all_tasks_blocked()
            assert client.sock.number == -1


class TestFaultyRequests:
    @pytest.mark.parametrize(
        ("sent", "status", "identifier"),
        [
            (b"\x00", 400, "bad-request"),
            (b"GET / HTTP/2.0\r\n\r\n", 505, "version-not-supported"),
            (b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD + 10), 431, "head-too-big"),
            (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: x\r\n\r\n", 501, "not-implemented"),
            (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nx", 400, "bad-request"),
        ],
    )
    async def test_they_end_the_connection(
        self, autojump_clock: MockClock, sent: bytes, status: int, identifier: str
    ) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect(sent)
            await until_refused(client, status, identifier)

    async def test_those_before_are_answered(self, autojump_clock: MockClock) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect(post(b"hi") + GET + b"\x00" + GET)
            assert (await client.answer()).body == b"POST / hi"
            assert (await client.answer()).body == b"GET / "
            await until_refused(client, 400, "bad-request")

    async def test_while_the_one_before_is_answered(self, autojump_clock: MockClock) -> None:
        go_on = trio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await go_on.wait()
            await echo(scope, receive, send)

        async with open_server(app) as serving:
            client = await serving.connect(GET, b"\x00")
            go_on.set()
            assert (await client.answer()).body == b"GET / "
            await until_refused(client, 400, "bad-request")

    async def test_in_a_body_whose_answer_has_begun(self, autojump_clock: MockClock) -> None:
        told: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start())
            await send(part(b"a", more=True))
            told.append(await receive())
            told.append(await receive())
            await send(part(b"b"))

        async with open_server(app) as serving:
            client = await serving.connect(
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            await client.send(b"x")
            answer = await client.answer()
            assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"ab", "close")
            await client.until_closed()
        assert told == [{"type": "http.disconnect"}] * 2


class TestApplicationsThatFail:
    @pytest.mark.parametrize(
        "messages", [pytest.param([], id="before"), pytest.param([start()], id="nothing-sent")]
    )
    async def test_before_something_is_sent(self, autojump_clock: MockClock, messages: list[Message]) -> None:
        async def fail(send: Send) -> None:
            for message in messages:
                await send(message)
            raise ValueError("secret")

        async with open_server(answering(fail)) as serving:
            with capture_logs() as logs:
                client = await serving.connect(GET * 2)
            await until_refused(client, 500, "internal-error")
        assert [(entry["event"], entry["path"]) for entry in logs] == [("a request failed", "/")]

    async def test_in_the_midst_of_an_answer(self, autojump_clock: MockClock) -> None:
        async def fail(send: Send) -> None:
            await send(start())
            await send(part(b"a", more=True))
            raise ValueError

        async with open_server(answering(fail)) as serving:
            with capture_logs() as logs:
                client = await serving.connect(GET * 2)
            with pytest.raises(CutOffError):
                await client.answer()
            await client.until_closed()
        assert [entry["event"] for entry in logs] == ["a request failed"]

    async def test_after_the_answer(self, autojump_clock: MockClock) -> None:
        async def fail(send: Send) -> None:
            await respond(send, b"hi")
            raise ValueError

        async with open_server(answering(fail)) as serving:
            with capture_logs() as logs:
                client = await serving.connect(GET * 2)
            assert (await client.answer()).body == b"hi"
            assert (await client.answer()).body == b"hi", "nothing is wrong with the connection"
        assert [entry["event"] for entry in logs] == ["a request failed"] * 2

    @pytest.mark.parametrize("messages", [[], [start()]])
    async def test_no_answer(self, autojump_clock: MockClock, messages: list[Message]) -> None:
        async def give(send: Send) -> None:
            for message in messages:
                await send(message)

        async with open_server(answering(give)) as serving:
            with capture_logs() as logs:
                client = await serving.connect(get("/x"))
            await until_refused(client, 500, "internal-error")
        assert [(entry["event"], entry["path"]) for entry in logs] == [("a request was not answered", "/x")]

    async def test_no_end_of_the_answer(self, autojump_clock: MockClock) -> None:
        async def give(send: Send) -> None:
            await send(start())
            await send(part(b"a", more=True))

        async with open_server(answering(give)) as serving:
            client = await serving.connect(GET * 2)
            with pytest.raises(CutOffError):
                await client.answer()
            await client.until_closed()

    @pytest.mark.parametrize(
        "messages",
        [
            pytest.param([part(b"a")], id="body-first"),
            pytest.param([start(), start()], id="two-starts"),
            pytest.param([start(), part(b"a"), part(b"b")], id="after-the-last"),
            pytest.param([start(), part(b"a"), start()], id="another-start"),
            pytest.param([start(), part(b"a", more=True), start()], id="start-amid"),
        ],
    )
    async def test_what_is_no_answer(self, autojump_clock: MockClock, messages: list[Message]) -> None:
        async def give(send: Send) -> None:
            for message in messages[:-1]:
                await send(message)
            with pytest.raises(RuntimeError, match="one start"):
                await send(messages[-1])

        async with open_server(answering(give)) as serving:
            with capture_logs():
                client = await serving.connect(GET)
            sent = await client.rest()
        assert sent.count(b"HTTP/1.1 ") == 1
        assert b"b" not in sent.partition(b"\r\n\r\n")[2] or b" 500 " in sent

    async def test_a_group_of_failures(self, autojump_clock: MockClock) -> None:
        async def fail(send: Send) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                raise ValueError

        async with open_server(answering(fail)) as serving:
            with capture_logs():
                client = await serving.connect(GET)
            await until_refused(client, 500, "internal-error")

    async def test_a_stream_that_fails(self, autojump_clock: MockClock) -> None:
        class Failing(ScriptedStream):
            async def receive_some(self, max_bytes: int | None = None) -> bytes:
                raise ExceptionGroup("", [ValueError("secret"), ExceptionGroup("", [KeyError("secret")])])

        stream = Failing(Kernel())
        with capture_logs() as logs:
            await HttpConnection(echo, stream, TIMES, {"type": "http"}).run()
        assert stream.closed
        assert logs == [
            {
                "event": "an HTTP connection failed",
                "errors": ["ValueError", "KeyError"],
                "log_level": "warning",
            }
        ]


class Watch:
    """An application that goes on answering until its client is gone, as the console's watch does.

    Attributes:
        lines: What it was told to send, and how it ended.
    """

    def __init__(self) -> None:
        self.gone_at: list[float] = []
        self.wake = trio.Event()
        self.is_over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/watch":
            await echo(scope, receive, send)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_gone, receive, nursery.cancel_scope)
            await send(start())
            while not self.is_over:
                await send(part(b"line", more=True))
                await self.wake.wait()
                self.wake = trio.Event()
            await send(part())
            nursery.cancel_scope.cancel()

    def next(self, *, is_last: bool = False) -> None:
        self.is_over = is_last
        self.wake.set()

    async def _cancel_when_gone(self, receive: Receive, scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone_at.append(trio.current_time())
        scope.cancel()


class TestWatching:
    async def test_a_client_that_stays(self, autojump_clock: MockClock) -> None:
        watch = Watch()
        async with open_server(watch, times=TIMES) as serving:
            client = await serving.connect(get("/watch"))
            for _ in range(3):
                await trio.sleep(1000)
                watch.next()
            await wait_all_tasks_blocked()
            watch.next(is_last=True)
            assert (await client.answer()).body == b"line" * 4
            await client.send(GET)
            assert (await client.answer()).body == b"GET / "
        assert watch.gone_at == []

    @pytest.mark.parametrize("leave", ["end", "break_off"])
    async def test_a_client_that_leaves(self, autojump_clock: MockClock, leave: str) -> None:
        watch = Watch()
        async with open_server(watch) as serving:
            client = await serving.connect(get("/watch"))
            await trio.sleep(5)
            getattr(client.sock, leave)()
            await wait_all_tasks_blocked()
            assert client.sock.number == -1
        assert watch.gone_at == [5]

    async def test_what_it_sends_for_later_is_left_to_the_kernel(self, autojump_clock: MockClock) -> None:
        watch = Watch()
        async with open_server(watch, times=TIMES) as serving:
            client = await serving.connect(get("/watch"), post(b"x" * 10_000_000))
            assert len(client.sock.incoming) > 9_900_000
            await trio.sleep(1000)
            watch.next(is_last=True)
            assert (await client.answer()).body == b"line"
            assert len((await client.answer()).body) == len(b"POST / ") + 10_000_000
        assert watch.gone_at == []

    @pytest.mark.parametrize("sent", [GET, b"GET", GET + b"GET", b"\x00"])
    async def test_that_it_is_gone_is_then_told_by_sending(
        self, autojump_clock: MockClock, sent: bytes
    ) -> None:
        watch = Watch()
        async with open_server(watch) as serving:
            client = await serving.connect(get("/watch"), sent)
            client.sock.break_off()
            await trio.sleep(5)
            watch.next()
            await wait_all_tasks_blocked()
            assert client.sock.number == -1
        assert watch.gone_at == [5]

    async def test_the_request_came_together_with_the_next_one(self, autojump_clock: MockClock) -> None:
        watch = Watch()
        async with open_server(watch) as serving:
            client = await serving.connect(get("/watch") + GET)
            watch.next(is_last=True)
            assert (await client.answer()).body == b"line"
            assert (await client.answer()).body == b"GET / "

    async def test_told_before_there_is_an_answer(self, autojump_clock: MockClock) -> None:
        """Then there need be none."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert await receive_body(receive) == b""
            assert (await receive())["type"] == "http.disconnect"
            assert (await receive())["type"] == "http.disconnect"

        with capture_logs() as logs:
            async with open_server(app) as serving:
                client = await serving.connect(GET)
                client.sock.end()
                await client.until_closed()
        assert logs == []

    async def test_an_answer_cut_off_by_a_cancellation_ends_the_connection(
        self, autojump_clock: MockClock
    ) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start(200, (b"content-length", b"1000")))
            with trio.move_on_after(1):
                await send(part(b"x" * 1000, more=True))
            await send(part())

        async with open_server(app, times=TIMES) as serving:
            client = await serving.connect(GET, window=300)
            await trio.sleep(2)
            with pytest.raises(CutOffError):
                await client.answer()
            await client.until_closed()


class TestClientsThatLeave:
    @pytest.mark.parametrize("sent", [b"", b"\r\n", GET, post(b"hi")])
    async def test_between_requests(self, autojump_clock: MockClock, sent: bytes) -> None:
        with capture_logs() as logs:
            async with open_server(echo) as serving:
                client = await serving.connect(sent)
                client.sock.end()
                await wait_all_tasks_blocked()
                assert client.sock.number == -1
        assert logs == []

    @pytest.mark.parametrize("sent", [b"G", GET[:-2], post(b"", length=5), post(b"he", length=5)])
    async def test_half_closed_amid_a_request(self, autojump_clock: MockClock, sent: bytes) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect(sent)
            client.sock.end()
            await until_refused(client, 400, "bad-request")

    async def test_half_closed_after_a_request(self, autojump_clock: MockClock) -> None:
        go_on = trio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await go_on.wait()
            await echo(scope, receive, send)

        async with open_server(app) as serving:
            client = await serving.connect(post(b"hi"))
            client.sock.end()
            go_on.set()
            assert (await client.answer()).body == b"POST / hi"
            await client.until_closed()

    @pytest.mark.parametrize(
        "sent",
        [b"", b"G", GET, post(b"", length=5), post(b"he", length=5), get("/", "Connection: close"), b"\x00"],
    )
    async def test_reset_when_this_was_sent(self, autojump_clock: MockClock, sent: bytes) -> None:
        with capture_logs() as logs:
            async with open_server(echo) as serving:
                client = await serving.connect(sent)
                client.sock.break_off()
                await wait_all_tasks_blocked()
                assert client.sock.number == -1
        assert logs == []

    @pytest.mark.parametrize("sent", [GET, get("/", "Connection: close"), b"\x00", post(b"he", length=5)])
    async def test_reset_when_this_is_read(self, autojump_clock: MockClock, sent: bytes) -> None:
        with capture_logs() as logs:
            async with open_server(echo) as serving:
                client = await serving.connect()
                client.sock.receiving = client.sock.break_off
                await client.send(sent)
                assert client.sock.number == -1
        assert logs == []

    async def test_reset_amid_an_answer(self, autojump_clock: MockClock) -> None:
        sent = []

        async def give(send: Send) -> None:
            await send(start())
            for _ in range(3):
                await send(part(b"x" * 1000, more=True))
                sent.append(trio.current_time())
            await send(part())

        async with open_server(answering(give)) as serving:
            client = await serving.connect(GET, window=1500)
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
        async with open_server(echo, times=TIMES) as serving:
            client = await serving.connect()
            for _ in range(59):
                await trio.sleep(1)
                await client.send(b"\r\n")
            assert 60 <= await client.until_closed() <= 61

    async def test_a_head_that_trickles(self, autojump_clock: MockClock) -> None:
        async with open_server(echo, times=TIMES) as serving:
            client = await serving.connect()
            await trio.sleep(20)
            for at in range(9):
                await client.send(GET[at : at + 1])
                await trio.sleep(1)
            assert 30 <= await client.until_closed() <= 31

    async def test_a_head_of_which_something_came_with_the_request_before(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_server(echo, times=TIMES) as serving:
            client = await serving.connect(GET + b"G")
            await client.answer()
            assert 10 <= await client.until_closed() <= 11

    async def test_a_head_in_time(self, autojump_clock: MockClock) -> None:
        async with open_server(echo, times=TIMES) as serving:
            client = await serving.connect(GET[:5])
            await trio.sleep(9)
            await client.send(GET[5:])
            assert (await client.answer()).body == b"GET / "

    async def test_a_body_that_trickles(self, autojump_clock: MockClock) -> None:
        async with open_server(echo, times=TIMES) as serving:
            client = await serving.connect(post(b"", length=1000))
            for _ in range(29):
                await trio.sleep(1)
                await client.send(b"x")
            assert error_in(await client.answer()) == (408, "body-timeout")
            assert trio.current_time() == 30
            assert 32 <= await client.until_closed() <= 33

    async def test_a_body_in_time(self, autojump_clock: MockClock) -> None:
        async with open_server(echo, times=TIMES) as serving:
            client = await serving.connect(post(b"", length=2))
            for _ in range(2):
                await trio.sleep(14)
                await client.send(b"x")
            assert (await client.answer()).body == b"POST / xx"

    async def test_a_client_that_takes_nothing(self, autojump_clock: MockClock) -> None:
        async with open_server(answering(lambda send: respond(send, b"x" * 1000))) as serving:
            client = await serving.connect(GET, window=500)
            await trio.sleep(9)
            assert client.sock.number != -1
            await trio.sleep(3)
            assert client.sock.number == -1

    async def test_a_client_that_takes_a_little(self, autojump_clock: MockClock) -> None:
        size = 65536 * 5
        async with open_server(answering(lambda send: respond(send, b"x" * size))) as serving:
            client = await serving.connect(GET, window=1000)
            for _ in range(6):
                await trio.sleep(8)
                client.received += client.sock.sent
                client.sock.sent.clear()
                client.sock.make_room(65536)
            assert len((await client.answer()).body) == size

    async def test_an_application_has_any_time(self, autojump_clock: MockClock) -> None:
        async def late(send: Send) -> None:
            await trio.sleep(5_000)
            await respond(send, b"at last")

        async with open_server(answering(late), times=TIMES) as serving:
            with trio.fail_after(8_000):
                client = await serving.connect(GET)
                await trio.sleep(5_000)
                assert (await client.answer()).body == b"at last"


class TestEnding:
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
        go_on = trio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await go_on.wait()
            await echo(scope, receive, send)

        async with open_server(app) as serving:
            client = await serving.connect(GET * 2)
            serving.server.end()
            await trio.sleep(5)
            go_on.set()
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
        begun = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            begun.append(scope["path"])

        async with open_server(app) as serving:
            client = await serving.connect()
            client.sock.feed(GET)
            serving.server.end()
            await wait_all_tasks_blocked()
            assert client.sock.number == -1
        assert begun == []

    async def test_what_is_refused_is_not_broken_off(self, autojump_clock: MockClock) -> None:
        async with open_server(echo) as serving:
            client = await serving.connect(b"\x00")
            serving.server.end()
            await trio.sleep(1)
            assert client.sock.shut
            await until_refused(client, 400, "bad-request")


async def fail(send: Send) -> None:
    raise ValueError


async def break_off(serving: Serving, client: Client) -> None:
    client.sock.break_off()


async def end(serving: Serving, client: Client) -> None:
    client.sock.end()


async def outlast(serving: Serving, client: Client) -> None:
    await trio.sleep(200)


async def shut_down(serving: Serving, client: Client) -> None:
    serving.server.end()
    serving.nursery.cancel_scope.deadline = trio.current_time() + 5
    await trio.sleep(6)


@pytest.mark.parametrize("finish", [break_off, end, outlast])
@pytest.mark.parametrize(
    ("app", "sent"),
    [
        pytest.param(echo, b"", id="nothing"),
        pytest.param(echo, GET, id="get"),
        pytest.param(echo, post(b"he", length=5), id="half-a-body"),
        pytest.param(echo, get("/", "Connection: close"), id="close"),
        pytest.param(echo, b"G", id="half-a-head"),
        pytest.param(echo, b"\x00", id="garbage"),
        pytest.param(echo, GET + b"\x00", id="garbage-later"),
        pytest.param(echo, b"GET / HTTP/2.0\r\n\r\n", id="refused"),
        pytest.param(echo, get("/", "Connection: upgrade", "Upgrade: h2c"), id="upgrade"),
        pytest.param(answering(fail), GET, id="failure"),
        pytest.param(Watch(), get("/watch"), id="watch"),
    ],
)
async def test_nothing_of_it_is_left_for_the_garbage_collector(
    app: ASGIApp, sent: bytes, finish: Callable[[Serving, Client], Awaitable[None]], autojump_clock: MockClock
) -> None:
    with capture_logs():
        async with open_server(app, times=TIMES) as serving:
            peer, near = fake_pair(serving.poller)
            left, client = weakref.ref(near), Client(peer.sock)
            gc.collect()
            gc.disable()
            try:
                serving.nursery.start_soon(serving.server.serve_stream, near)
                del near
                await client.send(sent)
                await finish(serving, client)
                client.sock.break_off()
                await wait_all_tasks_blocked()
                assert client.sock.number == -1
                assert left() is None
            finally:
                gc.enable()

"""Requests that are none, and applications and streams that fail: what that does to a connection."""

from collections.abc import Callable

import pytest
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs
from trio.testing import MockClock

from localful_ws.server.http.connection import HttpConnection
from localful_ws.server.http.requests import MAX_HEAD
from tests.server.http.serving import (
    GET,
    HOST,
    TIMES,
    CutOffError,
    Gate,
    answering,
    echo,
    get,
    giving,
    open_client,
    part,
    post,
    start,
)
from tests.server.kernels import Kernel, ScriptedStream

Failure = Callable[[], Exception] | None

CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


class TestRequests:
    @pytest.mark.parametrize(
        ("sent", "status", "identifier"),
        [
            (b"\x00", 400, "bad-request"),
            (b"GET / HTTP/2.0\r\n\r\n", 505, "version-not-supported"),
            (b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD + 10), 431, "head-too-big"),
            (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: x\r\n\r\n", 501, "not-implemented"),
            (CHUNKED + b"x", 400, "bad-request"),
        ],
    )
    async def test_they_end_the_connection(
        self, autojump_clock: MockClock, sent: bytes, status: int, identifier: str
    ) -> None:
        async with open_client(echo, sent) as client:
            await client.until_refused(status, identifier)

    @pytest.mark.parametrize("sent", [b"G", GET[:-2], post(b"", length=5), post(b"he", length=5)])
    async def test_they_end_too_early(self, autojump_clock: MockClock, sent: bytes) -> None:
        async with open_client(echo, sent) as client:
            client.sock.end()
            await client.until_refused(400, "bad-request")

    async def test_those_before_are_answered(self, autojump_clock: MockClock) -> None:
        async with open_client(echo, post(b"hi") + GET + b"\x00" + GET) as client:
            assert (await client.answer()).body == b"POST / hi"
            assert (await client.answer()).body == b"GET / "
            await client.until_refused(400, "bad-request")

    async def test_while_the_one_before_is_answered(self, autojump_clock: MockClock) -> None:
        gate = Gate()
        async with open_client(gate, GET, b"\x00") as client:
            gate.go_on.set()
            assert (await client.answer()).body == b"GET / "
            await client.until_refused(400, "bad-request")

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param([CHUNKED, b"x"], id="wrong"),
            pytest.param([post(b"", "Expect: 100-continue", length=5)], id="not-asked-for-any-more"),
        ],
    )
    async def test_a_body_that_fails_while_the_answer_is_sent(
        self, autojump_clock: MockClock, sent: list[bytes]
    ) -> None:
        told: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start())
            await send(part(b"a", more=True))
            told.append(await receive())
            told.append(await receive())
            await send(part(b"b"))

        async with open_client(app, *sent, times=TIMES) as client:
            answer = await client.answer()
            assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"ab", "close")
            await client.until_closed()
        assert told == [{"type": "http.disconnect"}] * 2


class TestApplications:
    @pytest.mark.parametrize(
        "messages", [pytest.param([], id="nothing"), pytest.param([start()], id="start")]
    )
    @pytest.mark.parametrize(
        ("error", "event"),
        [
            pytest.param(None, "a request was not answered", id="returns"),
            pytest.param(ValueError, "a request failed", id="fails"),
            pytest.param(lambda: ExceptionGroup("", [ValueError()]), "a request failed", id="group"),
        ],
    )
    async def test_no_answer(
        self, autojump_clock: MockClock, messages: list[Message], error: Failure, event: str
    ) -> None:
        with capture_logs() as logs:
            async with open_client(giving(*messages, error=error), get("/x") * 2) as client:
                await client.until_refused(500, "internal-error")
        assert [(entry["event"], entry["path"]) for entry in logs] == [(event, "/x")]

    @pytest.mark.parametrize(("error", "events"), [(None, []), (ValueError, ["a request failed"])])
    async def test_no_end_of_the_answer(
        self, autojump_clock: MockClock, error: Failure, events: list[str]
    ) -> None:
        app = giving(start(), part(b"a", more=True), error=error)
        with capture_logs() as logs:
            async with open_client(app, GET * 2) as client:
                with pytest.raises(CutOffError):
                    await client.answer()
                await client.until_closed()
        assert [entry["event"] for entry in logs] == events

    async def test_after_the_answer(self, autojump_clock: MockClock) -> None:
        with capture_logs() as logs:
            async with open_client(giving(start(), part(b"hi"), error=ValueError), GET) as client:
                assert (await client.answer()).body == b"hi"
                await client.send(GET)
                assert (await client.answer()).body == b"hi", "nothing is wrong with the connection"
        assert [entry["event"] for entry in logs] == ["a request failed"] * 2

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

        with capture_logs():
            async with open_client(answering(give), GET) as client:
                sent = await client.rest()
        assert sent.count(b"HTTP/1.1 ") == 1
        assert b"b" not in sent.partition(b"\r\n\r\n")[2] or b" 500 " in sent


async def test_a_stream_that_fails(autojump_clock: MockClock) -> None:
    class Failing(ScriptedStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            raise ExceptionGroup("", [ValueError("secret"), ExceptionGroup("", [KeyError("secret")])])

    stream = Failing(Kernel())
    with capture_logs() as logs:
        await HttpConnection(echo, stream, TIMES, {"type": "http"}).run()
    assert stream.closed
    assert logs == [
        {"event": "an HTTP connection failed", "errors": ["ValueError", "KeyError"], "log_level": "warning"}
    ]

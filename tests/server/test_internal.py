"""The internal HTTP port: its application by itself, and served on a socket."""

import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from attrs import Factory, define
from starlette.applications import Starlette
from structlog.testing import capture_logs

from localful_ws.engine import EngineUnavailableError, Receipt
from localful_ws.metrics import Family, Gauges, Metrics
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect, PublishLimits
from localful_ws.revocations import TooManyRevocationsError
from localful_ws.routing import Router
from localful_ws.server.http.app import build_app, serve_internal
from localful_ws.server.survey.questions import Answer, MetricsAnswer, MetricsQuestion, Question, Survey
from localful_ws.server.survey.respondent import Respondent
from tests.contracts.conforming import assert_conforms

KEY = "the-key-of-the-publisher-\N{SNOWMAN}"
NOW = 1_700_000_000.0
AUTHORIZATION = (b"authorization", f"Bearer {KEY}".encode())
AUTHORIZED = httpx.Headers([AUTHORIZATION])
UPDATE = {"event": "user-update", "user": "u1"}


@define
class FakeNode:
    """A node that notes what it is asked for."""

    draining: bool = False
    reason: str | None = None
    failure: Exception | None = None
    published: list[Event] = Factory(list)
    disconnected: list[Disconnect] = Factory(list)
    publishing: Callable[[], Any] = trio.lowlevel.checkpoint

    def unavailable(self) -> str | None:
        return self.reason

    async def publish(self, events: Sequence[Event]) -> Receipt:
        await self.publishing()
        if self.failure is not None:
            raise self.failure
        new = [event for event in events if event.id is None or event not in self.published]
        self.published.extend(new)
        return Receipt(len(new), len(events) - len(new))

    async def disconnect(self, disconnect: Disconnect) -> int:
        if self.failure is not None:
            raise self.failure
        self.disconnected.append(disconnect)
        return 3


def make_app(
    node: FakeNode, *, metrics: Metrics | None = None, survey: Survey | None = None, **limits: Any
) -> Starlette:
    return build_app(
        node,
        publisher_key=KEY,
        limits=PublishLimits(**limits),
        survey=survey or Respondent(Router(), metrics or Metrics()).answer,
        now=lambda: NOW,
        revocation_seconds=86400.0,
    )


async def conforms(answer: httpx.Response) -> None:
    await answer.aread()
    assert_conforms(answer)


def client_of(app: Starlette) -> httpx.AsyncClient:
    """A client that takes no answer that spec/openapi.json doesn't have."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://internal",
        event_hooks={"response": [conforms]},
    )


async def post(app: Starlette, path: str, **request: Any) -> httpx.Response:
    async with client_of(app) as client:
        return await client.post(path, **({"headers": AUTHORIZED} | request))


async def get(app: Starlette, path: str) -> httpx.Response:
    async with client_of(app) as client:
        return await client.get(path)


def assert_refused(answer: httpx.Response, status: int, identifier: str) -> dict[str, Any]:
    """Check that an answer is an error in Localful's shape, and return its body."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert list(body) == ["statusCode", "identifier", "message", "context"]
    assert (body["statusCode"], body["identifier"]) == (status, identifier)
    assert body["message"].endswith(".")
    assert KEY not in answer.text
    assert "Traceback" not in answer.text
    assert ("retry-after" in answer.headers) is (status == 503)
    return body


class TestEvents:
    async def test_one(self) -> None:
        node = FakeNode()
        answer = await post(make_app(node), "/v1/events", json=UPDATE | {"data": [1, "\N{SNOWMAN}"]})
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-length"] == str(len(answer.content))
        [event] = node.published
        assert (event.name, event.user) == (EventName.USER_UPDATE, "u1")
        assert json.loads(event.data) == [1, "\N{SNOWMAN}"]

    async def test_a_batch(self) -> None:
        node = FakeNode()
        batch = {"events": [UPDATE | {"user": f"u{number}"} for number in range(1000)]}
        answer = await post(make_app(node), "/v1/events", json=batch)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1000})
        assert [event.user for event in node.published] == [f"u{number}" for number in range(1000)]

    async def test_a_batch_is_all_or_nothing(self) -> None:
        node = FakeNode()
        answer = await post(make_app(node), "/v1/events", json={"events": [UPDATE, UPDATE | {"user": 1}]})
        assert assert_refused(answer, 422, "invalid-body")["context"] == {"index": 1, "key": "user"}
        assert node.published == []

    async def test_what_is_not_json(self) -> None:
        answer = await post(make_app(FakeNode()), "/v1/events", content=b"event=user-update")
        assert assert_refused(answer, 400, "not-json")["context"] == {}

    async def test_no_body(self) -> None:
        assert_refused(await post(make_app(FakeNode()), "/v1/events"), 400, "not-json")

    async def test_an_event_that_is_too_big(self) -> None:
        answer = await post(
            make_app(FakeNode(), max_event_bytes=4), "/v1/events", json=UPDATE | {"data": "xxx"}
        )
        assert assert_refused(answer, 413, "event-too-big")["context"] == {"key": "data"}

    async def test_the_engine_is_away(self) -> None:
        node = FakeNode(failure=EngineUnavailableError("The engine is away.", retry_after=7))
        answer = await post(make_app(node), "/v1/events", json=UPDATE)
        assert assert_refused(answer, 503, "engine-unavailable")["message"] == "The engine is away."
        assert answer.headers["retry-after"] == "7"

    async def test_draining(self) -> None:
        node = FakeNode(draining=True)
        assert_refused(await post(make_app(node), "/v1/events", json=UPDATE), 503, "draining")
        assert node.published == []

    async def test_our_own_fault_is_logged_and_not_told(self) -> None:
        node = FakeNode(failure=ZeroDivisionError("deep inside"))
        with capture_logs() as logs:
            answer = await post(make_app(node), "/v1/events", json=UPDATE)
        assert_refused(answer, 500, "internal-error")
        assert "deep inside" not in answer.text
        assert [(entry["log_level"], entry["path"]) for entry in logs] == [("error", "/v1/events")]
        assert logs[0]["exc_info"] is True


class TestDisconnect:
    async def test_a_user(self) -> None:
        node = FakeNode()
        answer = await post(make_app(node), "/v1/disconnect", json={"user": "u1"})
        assert (answer.status_code, answer.json()) == (202, {"closed": 3})
        assert node.disconnected == [Disconnect(user="u1", at=NOW, until=NOW + 86400)]

    async def test_a_group_until_a_moment(self) -> None:
        node = FakeNode()
        await post(make_app(node), "/v1/disconnect", json={"group": "g1", "until": NOW + 1})
        assert node.disconnected == [Disconnect(group="g1", at=NOW, until=NOW + 1)]

    async def test_until_a_moment_that_is_over(self) -> None:
        answer = await post(make_app(FakeNode()), "/v1/disconnect", json={"group": "g1", "until": NOW})
        assert assert_refused(answer, 422, "invalid-body")["context"] == {"key": "until"}

    @pytest.mark.parametrize(
        ("failure", "identifier"),
        [
            (EngineUnavailableError("The engine is away.", retry_after=7), "engine-unavailable"),
            (TooManyRevocationsError("Too many."), "too-many-revocations"),
        ],
    )
    async def test_what_cannot_be_done_now(self, failure: Exception, identifier: str) -> None:
        node = FakeNode(failure=failure)
        assert_refused(await post(make_app(node), "/v1/disconnect", json={"user": "u1"}), 503, identifier)

    async def test_draining(self) -> None:
        node = FakeNode(draining=True)
        assert_refused(await post(make_app(node), "/v1/disconnect", json={"user": "u1"}), 503, "draining")
        assert node.disconnected == []


@pytest.mark.parametrize("path", ["/v1/events", "/v1/disconnect"])
class TestKey:
    @pytest.mark.parametrize(
        "authorization",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer wrong",
            f"Basic {KEY}",
            KEY,
            f"Bearer {KEY}x",
            f"Bearer {KEY[:-1]}",
        ],
    )
    async def test_missing_or_wrong(self, path: str, authorization: str | None) -> None:
        node = FakeNode(draining=True)
        headers = {} if authorization is None else {"Authorization": authorization.encode()}
        with capture_logs() as logs:
            answer = await post(make_app(node), path, headers=headers, json=UPDATE)
        assert_refused(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert [entry["log_level"] for entry in logs] == ["warning"]
        assert not any(word in str(logs) for word in ("key-of-the-publisher", "wrong"))

    @pytest.mark.parametrize("authorization", [f"bearer {KEY}", f"BEARER   {KEY}"])
    async def test_the_scheme_is_not_case_sensitive(self, path: str, authorization: str) -> None:
        content: object = {"events": []} if path == "/v1/events" else {"user": "u1"}
        headers = {"Authorization": authorization.encode()}
        answer = await post(make_app(FakeNode()), path, headers=headers, json=content)
        assert answer.status_code == 202


class TestHealth:
    async def test_alive_whatever_happens(self) -> None:
        answer = await get(
            make_app(FakeNode(draining=True, reason="The server is shutting down.")), "/healthz"
        )
        assert (answer.status_code, answer.json()) == (200, {"status": "alive"})

    async def test_ready(self) -> None:
        answer = await get(make_app(FakeNode()), "/readyz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"})

    async def test_not_ready(self) -> None:
        answer = await get(make_app(FakeNode(reason="The engine is away.")), "/readyz")
        assert assert_refused(answer, 503, "not-ready")["message"] == "The engine is away."

    async def test_metrics(self) -> None:
        metrics = Metrics(gauges=lambda: Gauges({"authenticated": 7}))
        answer = await get(make_app(FakeNode(), metrics=metrics), "/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'localful_ws_connections{state="authenticated"} 7.0' in answer.text.splitlines()

    async def test_metrics_of_several_workers(self) -> None:
        gathered = [MetricsAnswer([Family("all", "A text.", "gauge", {("", ""): 1})]), None]

        async def survey(question: Question) -> Answer | None:
            assert question == MetricsQuestion()
            return gathered.pop(0)

        app = make_app(FakeNode(), survey=survey)
        answer = await get(app, "/metrics")
        assert answer.status_code == 200
        assert answer.content == b"# HELP all A text.\n# TYPE all gauge\nall 1.0\n"
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert_refused(await get(app, "/metrics"), 503, "metrics-unavailable")


class TestOtherRequests:
    @pytest.mark.parametrize("path", ["/", "/v1/events/", "/v1", "/v1/sync", "/docs"])
    async def test_another_path(self, path: str) -> None:
        assert_refused(await get(make_app(FakeNode()), path), 404, "not-found")
        assert_refused(await post(make_app(FakeNode()), path, json=UPDATE), 404, "not-found")

    @pytest.mark.parametrize("path", ["/v1/events", "/v1/disconnect"])
    async def test_another_method(self, path: str) -> None:
        answer = await get(make_app(FakeNode()), path)
        assert_refused(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == "POST"

    async def test_a_device_at_the_wrong_port(self) -> None:
        sent = await run_app(make_app(FakeNode()), [{"type": "websocket.connect"}], type="websocket")
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 404
        assert json.loads(sent[1]["body"])["message"] == "Devices connect to the other port."


async def run_app(
    app: Starlette,
    incoming: Iterable[dict[str, Any]],
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    **scope: Any,
) -> list[dict[str, Any]]:
    """Run one ASGI request; after ``incoming`` nothing more arrives. Returns what was sent."""
    messages = iter(incoming)
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        await trio.lowlevel.checkpoint()
        for message in messages:
            return message
        return await trio.sleep_forever()

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(dict(message))

    request = {"type": "http", "method": "POST", "path": "/v1/events", "headers": list(headers)} | scope
    await app(request, receive, send)
    return sent


BODY = json.dumps(UPDATE).encode()


def chunk(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def body_of(sent: list[dict[str, Any]]) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(b"".join(message.get("body", b"") for message in sent))
    return body


class TestBodies:
    """Bodies that do not come in one piece, or not at all."""

    async def test_in_pieces(self) -> None:
        node = FakeNode()
        pieces = [chunk(BODY[:1]), chunk(b""), chunk(BODY[1:]), {"type": "http.request"}]
        sent = await run_app(make_app(node), pieces, headers=[AUTHORIZATION])
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        assert body_of(sent) == {"accepted": 1}
        assert b"connection" not in dict(sent[0]["headers"])

    async def test_the_publisher_goes_away(self) -> None:
        node = FakeNode()
        with capture_logs() as logs:
            sent = await run_app(
                make_app(node), [chunk(BODY), {"type": "http.disconnect"}], headers=[AUTHORIZATION]
            )
        assert (sent, logs, node.published) == ([], [], [])

    async def test_too_slow(self, autojump_clock: trio.testing.MockClock) -> None:
        node = FakeNode()
        began = trio.current_time()
        sent = await run_app(make_app(node, body_timeout=5.0), [chunk(BODY)], headers=[AUTHORIZATION])
        # The answer comes after 5 s; for one more, what still arrives is thrown away.
        assert trio.current_time() - began == 6.0
        assert sent[0]["status"] == 408
        assert dict(sent[0]["headers"])[b"connection"] == b"close"
        assert body_of(sent)["identifier"] == "body-timeout"
        assert node.published == []

    async def test_over_the_limit_as_declared(self) -> None:
        node = FakeNode()
        sent = await run_app(
            make_app(node, max_body_bytes=100),
            [chunk(BODY, more=False)],
            headers=[AUTHORIZATION, (b"content-length", b"101")],
        )
        assert sent[0]["status"] == 413
        assert dict(sent[0]["headers"])[b"connection"] == b"close"
        assert body_of(sent)["identifier"] == "body-too-big"
        assert node.published == []

    async def test_over_the_limit_as_counted(self) -> None:
        node = FakeNode()
        pieces = [chunk(b" " * 60), chunk(b" " * 41), chunk(BODY, more=False)]
        sent = await run_app(make_app(node, max_body_bytes=100), pieces, headers=[AUTHORIZATION])
        assert sent[0]["status"] == 413
        assert body_of(sent)["identifier"] == "body-too-big"
        assert node.published == []

    async def test_an_answer_before_the_end_of_the_request(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        """It is sent whole at once, and ended when the client has ended, or a second later."""
        began = trio.current_time()
        sent = await run_app(make_app(FakeNode()), [chunk(b"x")] * 10)
        assert trio.current_time() - began == 1.0
        assert [message.get("more_body", False) for message in sent] == [False, True, False]
        assert [bool(message.get("body")) for message in sent] == [False, True, False]
        assert body_of(sent)["identifier"] == "unauthorized"

    async def test_a_client_that_never_stops_sending(self, autojump_clock: trio.testing.MockClock) -> None:
        """Hypercorn's end of an answer needs room in a queue that the client keeps full."""
        arriving, queue = trio.open_memory_channel[dict[str, Any]](1)
        sent = []

        async def client() -> None:
            while True:
                await arriving.send(chunk(b"x"))
                await trio.sleep(0.3)

        async def send(message: Any) -> None:
            sent.append(message["type"])
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await trio.sleep(1)
                await arriving.send({"type": "http.disconnect"})

        scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": []}
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client)
                await make_app(FakeNode())(scope, queue.receive, send)
                nursery.cancel_scope.cancel()
        assert sent == ["http.response.start", "http.response.body", "http.response.body"]

    async def test_the_server_fails_in_the_middle_of_its_answer(self) -> None:
        async def receive() -> Any:
            return chunk(BODY, more=False)

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                raise ZeroDivisionError

        scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": [AUTHORIZATION]}
        with capture_logs() as logs:
            await make_app(FakeNode())(scope, receive, send)
        assert [entry["event"] for entry in logs] == ["a request failed"]


@define
class Served:
    """An application that is being served."""

    port: int
    shutdown: trio.Event

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def talk(self, *parts: bytes) -> bytes:
        """Send parts, one after the other, and return all that is answered until the server closes."""
        answered = b""
        async with await self.connect() as stream:
            with suppress(trio.BrokenResourceError):
                for part in parts:
                    await stream.send_all(part)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                await stream.send_eof()
            with suppress(trio.BrokenResourceError):
                async for received in stream:
                    answered += received
        return answered


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[Served]:
    """Serve an application; afterwards nothing may be left of any request."""
    listening = socket.create_server(("127.0.0.1", 0))
    served = Served(listening.getsockname()[1], trio.Event())
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(serve_internal, app, listening, shutdown=served.shutdown, graceful_timeout=1000)
            )
            yield served
            served.shutdown.set()
    assert listening.fileno() == -1


def request(body: bytes, *, headers: bytes = b"", length: int | None = None, key: str = KEY) -> bytes:
    return (
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n%s\r\n%s"
        % (
            key.encode(),
            len(body) if length is None else length,
            headers,
            body,
        )
    )


EXPECT = b"Expect: 100-continue\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: "


class TestServing:
    async def test_by_a_real_client(self) -> None:
        node = FakeNode()
        async with (
            serving(make_app(node)) as served,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", headers=AUTHORIZED) as client,
        ):
            for _ in range(3):
                answer = await client.post("/v1/events", json=UPDATE)
                assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
            assert "server" not in answer.headers
            assert_refused(await client.post("/v1/events", json=[]), 422, "invalid-body")
            assert (await client.get("/healthz")).status_code == 200
        assert len(node.published) == 3

    async def test_ipv6(self) -> None:
        if not socket.has_dualstack_ipv6():
            pytest.skip("There is no IPv6 here.")
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
        port = listening.getsockname()[1]
        shutdown = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(
                    serve_internal, make_app(FakeNode()), listening, shutdown=shutdown, graceful_timeout=1
                )
            )
            async with httpx.AsyncClient() as client:
                assert (await client.get(f"http://[::1]:{port}/healthz")).status_code == 200
            shutdown.set()

    @pytest.mark.parametrize(
        ("sent", "answer"),
        [
            pytest.param(b"\x00\x01\xff\r\n\r\n", b"HTTP/1.1 400", id="garbage"),
            pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, b"HTTP/1.1 431", id="endless-header"),
            pytest.param(request(BODY, length=-1), b"HTTP/1.1 400", id="length-below-zero"),
            pytest.param(request(BODY, length=len(BODY) + 5), b"HTTP/1.1 400", id="length-too-big"),
            pytest.param(request(BODY, length=5), b"HTTP/1.1 400", id="length-too-small"),
            pytest.param(request(BODY, key="wrong", length=10**9), b"HTTP/1.1 401", id="unauthorized"),
            pytest.param(request(b"", length=10**9), b"HTTP/1.1 413", id="too-big"),
            pytest.param(request(b"", headers=EXPECT, length=10**9), b"HTTP/1.1 100", id="too-big-expecting"),
            pytest.param(UPGRADE + b"websocket\r\n\r\n", b"HTTP/1.1 400", id="half-an-upgrade"),
            pytest.param(
                UPGRADE + b"h2c\r\nHTTP2-Settings: !\r\n\r\n", b"HTTP/1.1 101", id="upgrade-to-http-2"
            ),
            pytest.param(UPGRADE + b"x\r\nX: \xff\r\n\r\n", b"HTTP/1.1 404", id="upgrade-to-anything"),
            # Closed, perhaps with a 400 before.
            pytest.param(b"GET /healthz HT", b"", id="half-a-head"),
        ],
    )
    async def test_what_is_no_good_request(self, sent: bytes, answer: bytes) -> None:
        with capture_logs() as logs:
            async with serving(make_app(FakeNode())) as served:
                assert (await served.talk(sent)).startswith(answer)
                assert b" 200 " in await served.talk(HEALTH)
        assert not [entry for entry in logs if "exc_info" in entry]

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(
                UPGRADE + b"websocket\r\nSec-WebSocket-Protocol: \xff\r\n\r\n", id="header-not-ascii"
            ),
            pytest.param(UPGRADE + b"h2c\r\nHTTP2-Settings: A\r\n\r\n", id="http-2-settings-not-base64"),
        ],
    )
    async def test_what_raises_in_hypercorn_ends_its_own_connection_only(self, head: bytes) -> None:
        with capture_logs() as logs:
            async with serving(make_app(FakeNode())) as served, await served.connect() as other:
                await served.talk(head)
                await other.send_all(HEALTH)
                assert (await other.receive_some()).startswith(b"HTTP/1.1 200")
        assert [entry["event"] for entry in logs] == ["an internal connection failed"]
        assert "exc_info" not in logs[0]

    async def test_http_2_is_turned_away(self) -> None:
        preface_and_settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
        get_root_on_stream_1 = bytes.fromhex("000006010500000001828684410178")
        go_away = bytes.fromhex("000008070000000000")
        async with serving(make_app(FakeNode())) as served:
            answered = await served.talk(preface_and_settings, get_root_on_stream_1)
        assert go_away in answered
        assert b"not-found" not in answered

    async def test_a_publisher_that_resets_mid_body(self) -> None:
        node = FakeNode()
        with capture_logs() as logs:
            async with serving(make_app(node)) as served:
                stream = await served.connect()
                await stream.send_all(request(BODY, length=1000))
                await trio.testing.wait_all_tasks_blocked(0.01)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await stream.aclose()
                assert b" 200 " in await served.talk(HEALTH)
        assert (logs, node.published) == ([], [])

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(request(b"", length=3_000_000, key="wrong"), id="unauthorized"),
            pytest.param(request(b"", length=3_000_000), id="too-big"),
            pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n", id="health"),
            pytest.param(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n", id="not-found"),
        ],
    )
    async def test_a_long_body_that_nobody_takes(self, head: bytes) -> None:
        """The client gets to see the answer although it goes on sending."""
        async with serving(make_app(FakeNode(), max_body_bytes=100_000)) as served:
            answered = await served.talk(head, *[b"x" * 1_000_000] * 3)
        assert answered.startswith(b"HTTP/1.1 ")
        assert answered.endswith(b"}")

    async def test_a_client_that_leaves_is_let_go(self) -> None:
        """At once, not only when its keep-alive time is over; else `serving` would take too long."""
        async with serving(make_app(FakeNode())) as served:
            await trio.testing.wait_all_tasks_blocked()
            before = trio.lowlevel.current_statistics().tasks_living
            for _ in range(5):
                async with await served.connect() as stream:
                    await stream.send_all(HEALTH)
                    await stream.receive_some()
            while trio.lowlevel.current_statistics().tasks_living > before:
                await trio.testing.wait_all_tasks_blocked(0.01)

    async def test_shutdown_lets_requests_end_and_closes_idle_connections(self) -> None:
        begun, go_on = trio.Event(), trio.Event()

        async def publishing() -> None:
            begun.set()
            await go_on.wait()

        node = FakeNode(publishing=publishing)
        async with serving(make_app(node)) as served:
            idle, busy = await served.connect(), await served.connect()
            async with idle, busy:
                await busy.send_all(request(BODY))
                await begun.wait()
                served.shutdown.set()
                assert await idle.receive_some() == b""
                with pytest.raises(OSError, match="connect"):
                    await served.connect()
                go_on.set()
                assert b'{"accepted":1}' in b"".join([received async for received in busy])
        assert len(node.published) == 1

    async def test_shutdown_does_not_wait_for_ever(self) -> None:
        node = FakeNode(publishing=trio.sleep_forever)
        listening = socket.create_server(("127.0.0.1", 0))
        shutdown = trio.Event()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                await nursery.start(
                    partial(
                        serve_internal, make_app(node), listening, shutdown=shutdown, graceful_timeout=0.05
                    )
                )
                stream = await trio.open_tcp_stream("127.0.0.1", listening.getsockname()[1])
                async with stream:
                    await stream.send_all(request(BODY))
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    shutdown.set()
                    assert await stream.receive_some() == b""
        assert node.published == []

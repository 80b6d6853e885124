"""The internal port's application by itself (ASGI)."""

import json
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from localful_ws.engine import EngineUnavailableError
from localful_ws.metrics import Family, Gauges, Metrics
from localful_ws.protocol import EventName
from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError
from localful_ws.server.http.app import InternalApp
from localful_ws.server.survey.questions import Answer, MetricsAnswer, MetricsQuestion, Question
from tests.server.http.internal_port import (
    AUTHORIZATION,
    KEY,
    NOW,
    UPDATE,
    FakeNode,
    assert_refused,
    get,
    make_app,
    post,
)


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
            "Bearer something-else",
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
        said = assert_refused(answer, 401, "unauthorized")["message"]
        start = "The publisher key is missing." if authorization is None else "That is not the publisher key."
        assert said == f"{start} Send it as Authorization: Bearer <key>."
        assert answer.headers["www-authenticate"] == "Bearer"
        assert [entry["log_level"] for entry in logs] == ["warning"]
        assert node.published == []
        assert not any(word in str(logs) for word in ("key-of-the-publisher", "something-else"))

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
        answer = await get(make_app(FakeNode()), "/v1/sync", headers={"Upgrade": "WebSocket"})
        assert assert_refused(answer, 404, "not-found")["message"] == "Devices connect to the other port."


# All that a page of a foreign name could read without the key.
WITHOUT_KEY = ["/healthz", "/readyz", "/metrics", "/v1/nothing"]


class TestHost:
    @pytest.mark.parametrize("path", WITHOUT_KEY)
    async def test_a_foreign_name(self, path: str) -> None:
        app = make_app(FakeNode())
        answer = await get(app, path, headers={"Host": "page.example:42103"})
        said = assert_refused(answer, 421, "host-not-allowed")["message"]
        assert "allow-host" in said
        assert "page.example" not in said
        own = await get(app, path, headers={"Host": "ws.internal:42103"})
        assert own.status_code == (404 if "nothing" in path else 200)

    @pytest.mark.parametrize("path", WITHOUT_KEY)
    async def test_with_the_key_any_name_will_do(self, path: str) -> None:
        headers = [AUTHORIZATION, (b"host", b"anything.example")]
        answer = await get(make_app(FakeNode()), path, headers=httpx.Headers(headers))
        assert answer.status_code == (404 if "nothing" in path else 200)

    async def test_a_foreign_name_gets_no_page_either(self) -> None:
        headers = [(b"host", b"page.example")]
        sent = await run_app(make_app(FakeNode()), [], method="GET", path="/client.js", headers=headers)
        assert sent[0]["status"] == 421

    async def test_with_a_wrong_key(self) -> None:
        headers = {"Host": "anything.example", "Authorization": "Bearer wrong"}
        assert_refused(await get(make_app(FakeNode()), "/metrics", headers=headers), 421, "host-not-allowed")

    async def test_publishers_have_a_key_and_are_not_asked(self) -> None:
        node = FakeNode()
        headers = httpx.Headers([AUTHORIZATION, (b"host", b"anything.example")])
        answer = await post(make_app(node), "/v1/events", headers=headers, json=UPDATE)
        assert (answer.status_code, len(node.published)) == (202, 1)


async def run_app(
    app: InternalApp,
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
        pieces = [chunk(BODY[:1]), chunk(b""), chunk(BODY[1:]), chunk(b"", more=False)]
        sent = await run_app(make_app(node), pieces, headers=[AUTHORIZATION])
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        assert body_of(sent) == {"accepted": 1}
        assert len(node.published) == 1

    async def test_in_pieces_to_disconnect(self) -> None:
        node = FakeNode()
        pieces = [chunk(b'{"group":'), chunk(b'"g1"}', more=False)]
        sent = await run_app(make_app(node), pieces, headers=[AUTHORIZATION], path="/v1/disconnect")
        assert body_of(sent) == {"closed": 3}

    @pytest.mark.parametrize("came", [0, 1, 2])
    async def test_the_publisher_goes_away(self, came: int) -> None:
        node = FakeNode()
        app = make_app(node)
        incoming = [chunk(BODY)] * came + [{"type": "http.disconnect"}]
        with capture_logs() as logs:
            sent = await run_app(app, incoming, headers=[AUTHORIZATION])
        assert (sent, logs, node.published) == ([], [], [])

    async def test_over_the_limit_as_declared(self) -> None:
        """It is refused before anything of it is asked for."""
        sent = await run_app(
            make_app(FakeNode(), max_body_bytes=100), [], headers=[AUTHORIZATION, (b"content-length", b"101")]
        )
        assert sent[0]["status"] == 413
        assert body_of(sent)["identifier"] == "body-too-big"

    @pytest.mark.parametrize(
        "pieces",
        [
            [chunk(b" " * 60), chunk(b" " * 41)],
            [chunk(b" " * 101)],
            [chunk(b" " * 101, more=False)],
        ],
    )
    async def test_over_the_limit_as_counted(self, pieces: list[dict[str, Any]]) -> None:
        node = FakeNode()
        sent = await run_app(make_app(node, max_body_bytes=100), pieces, headers=[AUTHORIZATION])
        assert sent[0]["status"] == 413
        assert body_of(sent)["identifier"] == "body-too-big"
        assert node.published == []

    async def test_at_the_limit(self) -> None:
        node = FakeNode()
        body = BODY.ljust(100)
        app = make_app(node, max_body_bytes=100)
        headers = [AUTHORIZATION, (b"content-length", b"100")]
        assert (await run_app(app, [chunk(body, more=False)], headers=headers))[0]["status"] == 202
        pieces = [chunk(body[:50]), chunk(body[50:], more=False)]
        assert (await run_app(app, pieces, headers=headers))[0]["status"] == 202

    @pytest.mark.parametrize(
        ("headers", "control"),
        [
            ([], FakeNode()),
            ([(b"authorization", b"Bearer wrong")], FakeNode()),
            ([AUTHORIZATION], FakeNode(draining=True)),
        ],
    )
    async def test_an_answer_before_the_body(
        self, headers: list[tuple[bytes, bytes]], control: FakeNode
    ) -> None:
        sent = await run_app(make_app(control), [], headers=headers)
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        assert body_of(sent)["identifier"] == ("draining" if control.draining else "unauthorized")

    async def test_the_budget_is_spent(self) -> None:
        node, held = FakeNode(), trio.Event()
        app = make_app(node, budget=200_000)
        declared = [AUTHORIZATION, (b"content-length", b"150000")]
        coming = [chunk(b" ")]

        async def receive() -> Any:
            if coming:
                return coming.pop()
            await held.wait()
            return {"type": "http.disconnect"}

        async def drop(_: Any) -> None:
            raise AssertionError("it is gone and gets no answer")

        scope = {"type": "http", "method": "POST", "path": "/v1/events", "headers": declared}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app, scope, receive, drop)
            await trio.testing.wait_all_tasks_blocked()
            refused = await run_app(app, [chunk(b" ")], headers=declared)
            assert refused[0]["status"] == 503
            assert dict(refused[0]["headers"])[b"retry-after"] == b"1"
            assert body_of(refused)["identifier"] == "busy"
            small = await run_app(app, [chunk(BODY), chunk(b"", more=False)], headers=[AUTHORIZATION])
            assert small[0]["status"] == 202
            held.set()
        spaces = [chunk(b" " * 100_000), chunk(BODY.ljust(50_000), more=False)]
        assert (await run_app(app, spaces, headers=declared))[0]["status"] == 202

    async def test_what_fails_gives_back_its_part(self) -> None:
        app = make_app(FakeNode(failure=ZeroDivisionError()), budget=100_000)
        pieces = [chunk(BODY.ljust(90_000)), chunk(b"", more=False)]
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await run_app(app, pieces, headers=[AUTHORIZATION])

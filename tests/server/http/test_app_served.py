"""The internal port's application behind `HttpServer`, on real sockets."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from localful_ws.server.http.app import InternalApp
from localful_ws.server.http.connection import HttpTimes
from localful_ws.server.http.server import HttpServer
from localful_ws.server.survey.questions import Answer, Question
from tests.server.http.internal_port import (
    AUTHORIZED,
    KEY,
    UPDATE,
    FakeNode,
    assert_refused,
    conforms,
    make_app,
)

pytestmark = pytest.mark.sockets

PATIENCE = 20


@asynccontextmanager
async def serving(app: InternalApp, times: HttpTimes | None = None) -> AsyncIterator[int]:
    """Serve an application; gives the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    port, shutdown = listening.getsockname()[1], trio.Event()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            serve = partial(
                HttpServer(app, max_connections=100, times=times).serve, shutdown=shutdown, graceful_timeout=5
            )
            await nursery.start(serve, listening)
            yield port
            shutdown.set()


def client_of(port: int) -> httpx.AsyncClient:
    """A client with the key that takes no answer that spec/openapi.json doesn't have."""
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers=AUTHORIZED,
        trust_env=False,
        event_hooks={"response": [conforms]},
    )


async def talk(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Send and read until the server closes; gives the status line and the body."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        answered = b"".join([part async for part in stream])
    head, _, body = answered.partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head.lower()
    return head.partition(b"\r\n")[0], body


async def test_a_real_client_publishes() -> None:
    node = FakeNode()
    async with serving(make_app(node)) as port, client_of(port) as client:
        for _ in range(3):
            answer = await client.post("/v1/events", json=UPDATE)
            assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
            assert "server" not in answer.headers
        assert_refused(await client.post("/v1/events", json=[]), 422, "invalid-body")
        answer = await client.post("/v1/disconnect", json={"user": "u1"})
        assert answer.json() == {"closed": 3}
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.head("/healthz")).content == b""
        assert_refused(await client.get("/healthzz"), 404, "not-found")
    assert len(node.published) == 3


@pytest.mark.parametrize("size", [1_000, 3_000_000])
async def test_bodies_of_a_real_client(size: int) -> None:
    """One comes at once, the other in many pieces; declared, and in chunks."""
    node = FakeNode()
    body = json.dumps(UPDATE).encode().ljust(size)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 100_000):
            yield body[start : start + 100_000]

    async with serving(make_app(node)) as port, client_of(port) as client:
        assert (await client.post("/v1/events", content=body)).status_code == 202
        assert (await client.post("/v1/events", content=chunks())).status_code == 202
    assert len(node.published) == 2


@pytest.mark.parametrize(
    ("key", "status", "identifier"),
    [("wrong", 401, "unauthorized"), (KEY, 413, "body-too-big")],
)
async def test_who_sends_a_long_body_in_vain_sees_the_answer(key: str, status: int, identifier: str) -> None:
    async with serving(make_app(FakeNode(), max_body_bytes=100_000)) as port, client_of(port) as client:
        for content in (b"x" * 3_000_000, b"x" * 200_000):
            headers = httpx.Headers({b"authorization": f"Bearer {key}".encode()})
            answer = await client.post("/v1/events", content=content, headers=headers)
            assert_refused(answer, status, identifier)


async def test_many_bodies_at_once_stay_within_the_budget() -> None:
    """Those that are too much are told to come again, and come again."""
    node = FakeNode()
    app = make_app(node, budget=1_000_000)
    body = json.dumps(UPDATE).encode().ljust(300_000)
    told: list[int] = []

    async with serving(app) as port:

        async def publish() -> None:
            async with client_of(port) as client:
                while True:
                    answer = await client.post("/v1/events", content=halves())
                    told.append(answer.status_code)
                    if answer.status_code == 202:
                        return
                    assert_refused(answer, 503, "busy")
                    assert answer.headers["retry-after"] == "1"

        async def halves() -> AsyncIterator[bytes]:
            yield body[:150_000]
            await trio.testing.wait_all_tasks_blocked(0.01)
            yield body[150_000:]

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(publish)
    assert told.count(202) == len(node.published) == 50
    assert set(told) == {202, 503}


async def test_a_body_that_does_not_come() -> None:
    node = FakeNode()
    head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n".encode()
    request = head + b"Content-Length: 100\r\n\r\n{"
    with capture_logs() as logs:
        async with serving(make_app(node), HttpTimes(body=0.05)) as port:
            status, body = await talk(port, request)
    assert status == b"HTTP/1.1 408 Request Timeout"
    assert json.loads(body)["identifier"] == "body-timeout"
    assert (node.published, logs) == ([], [])


async def test_our_own_fault_is_logged_and_not_told() -> None:
    async def fail(_: Question) -> Answer | None:
        raise ZeroDivisionError("deep inside")

    app = make_app(FakeNode(failure=ZeroDivisionError("deep inside")), survey=fail)
    with capture_logs() as logs:
        async with serving(app) as port, client_of(port) as client:
            for answer in (await client.post("/v1/events", json=UPDATE), await client.get("/metrics")):
                assert_refused(answer, 500, "internal-error")
                assert "deep inside" not in answer.text
    assert [(entry["event"], entry["path"]) for entry in logs] == [
        ("a request failed", "/v1/events"),
        ("a request failed", "/metrics"),
    ]
    assert all(entry["log_level"] == "error" and entry["exc_info"] for entry in logs)


async def test_what_cannot_be_understood_is_told_in_the_shape_of_all_errors() -> None:
    async with serving(make_app(FakeNode())) as port:
        status, body = await talk(port, b"nonsense\r\n\r\n")
    assert status == b"HTTP/1.1 400 Bad Request"
    said = json.loads(body)
    assert list(said) == ["statusCode", "identifier", "message", "context"]
    assert (said["statusCode"], said["identifier"], said["context"]) == (400, "bad-request", {})


async def test_two_keys_in_one_request() -> None:
    """It must not depend on who reads which of them."""
    node = FakeNode()
    keys = f"Authorization: Bearer {KEY}\r\nAuthorization: Bearer wrong\r\n".encode()
    request = b"POST /v1/events HTTP/1.1\r\nHost: x\r\n%bContent-Length: 2\r\n\r\n{}" % keys
    async with serving(make_app(node)) as port:
        status, _ = await talk(port, request)
    assert (status, node.published) == (b"HTTP/1.1 400 Bad Request", [])


async def test_the_address_of_who_has_a_wrong_key_is_logged() -> None:
    with capture_logs() as logs:
        async with serving(make_app(FakeNode())) as port, client_of(port) as client:
            await client.post("/v1/events", json=UPDATE, headers={"Authorization": "Bearer wrong"})
    assert [(entry["event"], entry["address"]) for entry in logs] == [
        ("a request with a wrong publisher key was refused", "127.0.0.1")
    ]

"""What the transcripts don't say of the publisher in Python: its block, its log, what it refuses, asyncio."""

import asyncio
import json
import logging
import time
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.publisher import EventRefusedError, PublisherClosedError, PublisherLimits, open_publisher

URL = "http://server.test/below"
EVENT = {"event": "item-create", "user": "u", "vault": "v", "data": "secret"}


class Server(httpx.AsyncBaseTransport):
    """Gives the answers that it was given, then 202."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.statuses.pop(0) if self.statuses else 202)


class Silent(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError


async def test_what_is_published_in_a_block_leaves_before_it_is_left(autojump_clock: MockClock) -> None:
    server = Server(503)
    async with open_publisher(URL, "key", transport=server) as publisher:
        publisher.publish(EVENT)
    assert [request.url.path for request in server.requests] == ["/below/v1/events"] * 2
    with pytest.raises(PublisherClosedError):
        publisher.publish(EVENT)


async def test_a_block_that_is_cancelled_gives_it_a_last_chance(autojump_clock: MockClock) -> None:
    server = Server(503)
    with trio.CancelScope() as scope:
        async with open_publisher(URL, "key", transport=server) as publisher:
            publisher.publish(EVENT)
            scope.cancel()
            await trio.sleep_forever()
    assert len(server.requests) == 2


async def test_what_is_left_is_counted_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_publisher(URL, "key", transport=Silent(), close_timeout=3) as publisher:
        publisher.publish(EVENT)
    assert trio.current_time() == pytest.approx(3)
    assert [record.getMessage() for record in caplog.records] == [
        "the publisher was closed with 1 events left"
    ]


async def test_what_a_block_raises_leaves_it_as_it_was(autojump_clock: MockClock) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with open_publisher(URL, "key", transport=Server()):
            raise LookupError("mine")


async def test_without_callbacks_it_is_logged_without_the_key_and_the_data(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "localful_ws")
    async with open_publisher(URL, "the-key", transport=Server(401, 422)) as publisher:
        event_id = publisher.publish(EVENT)
        await publisher.flush()
    said = [record.getMessage() for record in caplog.records if record.name == "localful_ws.publisher"]
    assert said == [
        "publishing fails and is tried again: HTTP 401",
        f"the server refused item-create {event_id}: HTTP 422",
    ]


async def test_a_callback_that_raises_does_no_harm(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: dict[str, Any], error: EventRefusedError) -> None:
        raise LookupError

    server = Server(422)
    async with open_publisher(URL, "key", transport=server, on_refused=fail) as publisher:
        publisher.publish(EVENT)
        await publisher.flush()
        publisher.publish(EVENT)
    assert len(server.requests) == 2
    assert [record.getMessage() for record in caplog.records] == ["a callback of the publisher has failed"]


async def test_a_disconnect_that_nobody_waits_for_goes_out_all_the_same(autojump_clock: MockClock) -> None:
    server = Server(503)
    async with open_publisher(
        URL, "key", transport=server, draw=lambda: 1, now=lambda: 1760000000.5
    ) as publisher:
        with trio.move_on_after(0.05) as scope:
            await publisher.disconnect(group="g")
        assert scope.cancelled_caught
        await trio.sleep(0.1)
        await wait_all_tasks_blocked()
        assert [request.content for request in server.requests] == [
            b'{"group":"g","issuedBefore":1760000000.5}'
        ] * 2


@pytest.mark.parametrize("event", [{"data": {1, 2}}, {"data": float("nan")}, {"data": "\ud83d"}])
async def test_what_cannot_be_json_is_refused_at_once(event: dict[str, Any]) -> None:
    async with open_publisher(URL, "key", transport=Server()) as publisher:
        with pytest.raises((TypeError, ValueError)):
            publisher.publish(event)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("ws://server.test", "key"),
        ("server.test", "key"),
        ("http://", "key"),
        ("http://a:b", "key"),
        ("http://[::1", "key"),
        ("http://a:0", "key"),
        ("http://a:65536", "key"),
        (URL, ""),
        (URL, "a\nkey"),
        (URL, "schlüssel"),
    ],
)
def test_refuses_what_cannot_be(url: str, key: str) -> None:
    with pytest.raises(ValueError, match=" must be") as raised:
        open_publisher(url, key)
    assert not key or key not in str(raised.value)


@pytest.mark.parametrize("url", ["http://server.test:65535/below/", "https://[::1]", "HTTP://127.0.0.1:1"])
def test_takes_what_can_be(url: str) -> None:
    open_publisher(url, "key")


async def test_a_disconnect_without_another_clock_is_of_now() -> None:
    server = Server()
    before = time.time()
    async with open_publisher(URL, "key", transport=server) as publisher:
        await publisher.disconnect(user="u")
    assert before <= json.loads(server.requests[0].content)["issuedBefore"] <= time.time()


def test_refuses_limits_that_let_nothing_through() -> None:
    with pytest.raises(ValueError, match="batch"):
        PublisherLimits(batch=0)


def test_a_task_of_asyncio_that_is_cancelled_gives_it_a_last_chance() -> None:
    server = Server()

    async def api() -> None:
        async with open_publisher(URL, "key", transport=server) as publisher:
            publisher.publish(EVENT)
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(api())
    assert len(server.requests) == 1


def test_on_asyncio() -> None:
    async def main() -> int:
        async with open_publisher(URL, "key", transport=Server(503), draw=lambda: 0) as publisher:
            publisher.publish(EVENT)
            await publisher.flush()
            return await publisher.disconnect(user="u")

    assert asyncio.run(main()) == 0

"""The Python publisher runs the transcripts that the JavaScript one is run against (publisher.test.mjs)."""

import json
import re
from collections.abc import Awaitable
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.publisher import (
    EventRefusedError,
    Publisher,
    PublisherClosedError,
    PublisherLimits,
    QueueFullError,
    open_publisher,
)
from tests.spec_document import SPEC

FILES = sorted(path for path in (SPEC / "transcripts" / "publisher").glob("*.json") if path.stem != "schema")
TRANSCRIPTS = [
    pytest.param(transcript, id=f"{file.stem}: {transcript['about']}")
    for file in FILES
    for transcript in json.loads(file.read_text(encoding="utf-8"))
]
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
BEGINNING = 1760000000
RAISED = {"full": QueueFullError, "closed": PublisherClosedError}


class Exchange:
    """A request, and the answer that the transcript gives it."""

    def __init__(self, request: httpx.Request) -> None:
        self.path = request.url.path
        self.authorization = request.headers["authorization"]
        self.body = json.loads(request.content)
        self.at = trio.current_time()
        self.answer: httpx.Response | None = None
        self.answered = trio.Event()


class Server(httpx.AsyncBaseTransport):
    """Keeps what is posted until the transcript speaks of it."""

    def __init__(self) -> None:
        self.posted: list[Exchange] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = Exchange(request)
        self.posted.append(exchange)
        await exchange.answered.wait()
        if exchange.answer is None:
            raise httpx.ReadError("gone")
        return exchange.answer


class Run:
    """One transcript, step by step."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.server = Server()
        self.current: Exchange | None = None
        self.refused: list[dict[str, Any]] = []
        self.trouble: list[str] = []
        self.outcomes: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        self.began = trio.current_time()

    def hand_back(self, event: dict[str, Any], error: EventRefusedError) -> None:
        self.refused.append(
            {
                "id": event["id"],
                "status": error.status,
                "identifier": error.identifier,
                "message": error.message,
            }
        )

    async def take(self, publisher: Publisher, step: dict[str, Any]) -> None:
        match step:
            case {"publish": events, **more}:
                for event in events:
                    if "raises" in more:
                        with pytest.raises(RAISED[more["raises"]]):
                            publisher.publish(event)
                    else:
                        made = publisher.publish(event)
                        assert made == event["id"] if "id" in event else UUID.fullmatch(made)
            case {"disconnect": whose, "as": name}:
                self.begin(name, self.closing(publisher.disconnect(**whose)))
            case {"flush": name}:
                self.begin(name, self.done(publisher.flush()))
            case {"close": seconds, "as": name}:
                self.begin(name, self.left(publisher.close(seconds)))
            case {"outcome": name, "is": expected}:
                assert self.outcomes[name] == expected
            case {"passes": seconds}:
                await trio.sleep(seconds)
            case _:
                self.exchange(step)
        await wait_all_tasks_blocked()

    def exchange(self, step: dict[str, Any]) -> None:
        match step:
            case {"posts": expected, "at": at}:
                self.current = self.server.posted.pop(0)
                assert self.current.at - self.began == pytest.approx(at)
                assert self.current.authorization == "Bearer the-key"
                if isinstance(expected, list):
                    assert self.current.path == "/v1/events"
                    assert self.current.body == {"events": self.named(expected, self.current.body["events"])}
                else:
                    assert (self.current.path, self.current.body) == ("/v1/disconnect", expected)
            case {"answer": status, **more}:
                assert self.current is not None
                body = more.get("body", "")
                headers = {"Retry-After": more["retry-after"]} if "retry-after" in more else {}
                text = body if isinstance(body, str) else json.dumps(body)
                self.current.answer = httpx.Response(status, text=text, headers=headers)
                self.current.answered.set()
            case {"breaks": True}:
                assert self.current is not None
                self.current.answered.set()
            case {"silent": True}:
                assert self.server.posted == []
            case {"refused": expected}:
                assert self.refused == [
                    one | {"id": self.names.get(one["id"], one["id"])} for one in expected
                ]
                self.refused.clear()
            case {"trouble": expected}:
                assert len(self.trouble) == len(expected)
                assert all(map(str.startswith, self.trouble, expected))
                self.trouble.clear()
            case _:
                raise AssertionError("unknown step")

    def named(self, expected: list[Any], posted: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What is expected, with the ids that were made, and whole where only an id is given."""
        assert len(posted) == len(expected)
        whole = []
        for one, event in zip(expected, posted, strict=True):
            name = one if isinstance(one, str) else one["id"]
            if name.startswith("<") and name not in self.names:
                assert UUID.fullmatch(event["id"])
                assert event["id"] not in self.names.values()
                self.names[name] = event["id"]
            whole.append((event if isinstance(one, str) else one) | {"id": self.names.get(name, name)})
        return whole

    def begin(self, name: str, outcome: Awaitable[Any]) -> None:
        async def wait() -> None:
            try:
                self.outcomes[name] = await outcome
            except EventRefusedError as error:
                self.outcomes[name] = {"refused": error.status}
            except PublisherClosedError:
                self.outcomes[name] = "closed"

        self.outcomes[name] = None
        self.nursery.start_soon(wait)

    async def done(self, flushing: Awaitable[None]) -> str:
        await flushing
        return "done"

    async def closing(self, disconnecting: Awaitable[int]) -> dict[str, int]:
        return {"closes": await disconnecting}

    async def left(self, closing: Awaitable[list[dict[str, Any]]]) -> dict[str, list[str]]:
        return {"left": [event["id"] for event in await closing]}


@pytest.mark.parametrize("transcript", TRANSCRIPTS)
async def test_transcript(
    transcript: dict[str, Any], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    run = Run(nursery)
    limits = {name.replace("-", "_"): value for name, value in transcript.get("limits", {}).items()}
    async with open_publisher(
        "http://server.test",
        "the-key",
        on_refused=run.hand_back,
        on_trouble=run.trouble.append,
        limits=PublisherLimits(**limits),
        transport=run.server,
        draw=lambda: transcript.get("chance", 1),
        now=lambda: BEGINNING + trio.current_time() - run.began,
    ) as publisher:
        for number, step in enumerate(transcript["steps"]):
            try:
                await run.take(publisher, step)
            except AssertionError as error:
                raise AssertionError(f"step {number} {step}") from error
        assert (run.server.posted, run.refused, run.trouble) == ([], [], [])
        assert await publisher.close(0) == []

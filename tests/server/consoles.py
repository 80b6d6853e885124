"""The console's API of a world's node, asked in process."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio
from attrs import define, field

from localful_ws.server.console.routes import Console
from localful_ws.server.http.app import InternalApp, build_app
from localful_ws.server.survey.questions import Survey
from tests.contracts.conforming import assert_conforms
from tests.redis_world import settle
from tests.world import PUBLISHER_KEY, World

KEY_HEADER = (b"authorization", f"Bearer {PUBLISHER_KEY}".encode())


def app_of(world: World, survey: Survey | None = None) -> InternalApp:
    """The internal port's application."""
    node, settings = world.node, world.settings
    survey = survey or node.respondent.answer
    return build_app(
        node,
        publisher_key=PUBLISHER_KEY,
        limits=settings.publish_limits(),
        body_budget=settings.publish_budget,
        survey=survey,
        now=node.clock.now,
        revocation_seconds=settings.revocation_seconds,
        console=Console(node, settings, survey),
    )


async def fetch(app: InternalApp, path: str, *, method: str = "GET", **request: Any) -> httpx.Response:
    """Send a request with the key, or with other headers."""
    transport = httpx.ASGITransport(app=app)
    headers = request.pop("headers", [KEY_HEADER])
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.request(method, path, headers=httpx.Headers(headers), **request)
    if path.startswith("/console/api/"):
        assert_conforms(answer)
    return answer


async def ask(app: InternalApp, what: str, **query: Any) -> Any:
    """Ask the console's API; returns the body of an answer of 200."""
    answer = await fetch(app, f"/console/api/{what}", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


@define(eq=False)
class Watching:
    """A watch that is open.

    Attributes:
        status: The HTTP status.
        body: What came in all.
        ended: Set when the server has ended it.
        reads: Whether what is sent is taken.
    """

    status: int = 0
    body: bytes = b""
    ended: trio.Event = field(factory=trio.Event)
    reads: trio.Event = field(factory=trio.Event)
    _seen: int = 0

    def take(self) -> list[dict[str, Any]]:
        """The lines that came since this was last asked."""
        *lines, rest = self.body[self._seen :].split(b"\n")
        assert rest == b""
        self._seen = len(self.body)
        return [json.loads(line) for line in lines]


@asynccontextmanager
async def watching(app: InternalApp, query: str, *, reads: bool = True) -> AsyncIterator[Watching]:
    """Have a client that watches, and leaves at the end."""
    watch = Watching()
    leave = trio.Event()
    arriving = [{"type": "http.request", "body": b"", "more_body": False}]
    if reads:
        watch.reads.set()

    async def receive() -> Any:
        if arriving:
            return arriving.pop()
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await watch.reads.wait()
        if message["type"] == "http.response.start":
            watch.status = message["status"]
        else:
            watch.body += message.get("body", b"")
            if not message.get("more_body", False):
                watch.ended.set()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/console/api/watch",
        "query_string": query.encode(),
        "headers": [KEY_HEADER],
    }
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app, scope, receive, send)
        await settle()
        yield watch
        leave.set()

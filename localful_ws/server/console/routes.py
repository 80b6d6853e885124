"""The console's own HTTP API, below ``/console/api``; every request shows the publisher key.

It is for the page that comes with it and may change with every version (docs/operating.md, "The console").
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, Protocol

import trio
from starlette.datastructures import QueryParams
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from localful_ws.clock import Clock
from localful_ws.metrics import Metrics
from localful_ws.server.console.overview import build_overview, name_engine
from localful_ws.server.http.access import PublisherKey
from localful_ws.server.http.answers import error_answer, json_answer, unavailable_answer
from localful_ws.server.http.queries import read_id, read_number
from localful_ws.server.survey.questions import (
    MOST_USERS,
    DevicesAnswer,
    DevicesQuestion,
    MetricsAnswer,
    MetricsQuestion,
    Survey,
    UsersAnswer,
    UsersQuestion,
)
from localful_ws.server.watching import Watcher, Watching
from localful_ws.settings import Settings

ALIVE_SECONDS: Final = 10.0
"""So often at least a watcher is sent something."""

_MOST_VAULTS: Final = 1000
_NO_STORE: Final = {"Cache-Control": "no-store"}
_NDJSON: Final = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]


class ConsoleNode(Protocol):
    """What the console needs of a node."""

    clock: Clock
    metrics: Metrics
    watching: Watching

    def unavailable(self) -> str | None:
        """A sentence that says why the node isn't ready; None if it is."""
        ...


class Console:
    """Answers the console's page.

    Args:
        node: The node that was asked.
        settings: Its settings.
        survey: Has all workers answer.
    """

    def __init__(self, node: ConsoleNode, settings: Settings, survey: Survey) -> None:
        self.watching = node.watching
        self._node = node
        self._engine = name_engine(settings.engine)
        self._survey = survey

    async def overview(self, _: QueryParams) -> Mapping[str, object] | None:
        """What the daemon is doing, as totals since its start."""
        answer = await self._survey(MetricsQuestion())
        if not isinstance(answer, MetricsAnswer):
            return None
        return build_overview(
            answer.families,
            self._node.metrics.gauges().engine,
            self._engine,
            now=self._node.clock.now(),
            unavailable=self._node.unavailable(),
        )

    async def users(self, query: QueryParams) -> Mapping[str, object] | None:
        """The users who have a device here, a page at a time."""
        question = UsersQuestion(
            after=read_id(query, "after"),
            prefix=read_id(query, "prefix"),
            limit=read_number(query, "limit", 100, at_least=1, at_most=MOST_USERS),
        )
        answer = await self._survey(question)
        if not isinstance(answer, UsersAnswer):
            return None
        following = {"next": answer.users[-1].user} if answer.more and answer.users else {}
        return {"users": answer.users, **following}

    async def devices(self, query: QueryParams) -> Mapping[str, object] | None:
        """The devices of one user."""
        question = DevicesQuestion(
            user=read_id(query, "user", required=True),
            group=read_id(query, "group") or None,
            vaults=read_number(query, "vaults", 20, at_least=0, at_most=_MOST_VAULTS),
        )
        answer = await self._survey(question)
        if not isinstance(answer, DevicesAnswer):
            return None
        return {
            "user": question.user,
            "time": self._node.clock.now(),
            "total": answer.total,
            "devices": answer.devices,
        }


def console_routes(console: Console, key: PublisherKey) -> list[BaseRoute]:
    """The routes of the console's API.

    Args:
        console: What answers.
        key: The publisher key.
    """
    answering = {
        "overview": partial(_answer, console.overview),
        "users": partial(_answer, console.users),
        "devices": partial(_answer, console.devices),
        "watch": partial(_answer_watch, console.watching),
    }
    return [Route(f"/console/api/{name}", _Guarded(key, answer)) for name, answer in answering.items()]


class _Guarded:
    """An endpoint that answers GET to whoever shows the publisher key.

    Args:
        key: The publisher key.
        answer: Makes the answer to a query.
    """

    def __init__(self, key: PublisherKey, answer: Callable[[QueryParams], Awaitable[ASGIApp]]) -> None:
        self._key = key
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: ASGIApp | None
        if scope["method"] == "GET":
            response = self._key.refuse(scope, dict(scope["headers"]))
        else:
            allow = {"Allow": "GET"}
            response = error_answer(405, "method-not-allowed", "See the header Allow.", headers=allow)
        if response is None:
            response = await self._answer(QueryParams(scope["query_string"]))
        await response(scope, receive, send)


async def _answer(
    act: Callable[[QueryParams], Awaitable[Mapping[str, object] | None]], query: QueryParams
) -> ASGIApp:
    content = await act(query)
    if content is None:
        return unavailable_answer("answer-unavailable", "The answer of all workers can't be had just now.")
    return json_answer(200, content, _NO_STORE)


async def _answer_watch(watching: Watching, query: QueryParams) -> ASGIApp:
    """Answer with a user's events as they happen, a line of JSON each, until the client goes."""
    user, since = read_id(query, "user", required=True), read_id(query, "since") or None

    async def answer(_: Scope, receive: Receive, send: Send) -> None:
        async with watching.watch(user, since) as watcher, trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
            await _send_lines(watcher, send)
            nursery.cancel_scope.cancel()

    return answer


async def _send_lines(watcher: Watcher, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(_NDJSON)})
    lines = b""
    while True:
        with trio.move_on_after(ALIVE_SECONDS) as waiting:
            lines = await watcher.take()
        if waiting.cancelled_caught:
            lines = watcher.alive()
        await send({"type": "http.response.body", "body": lines, "more_body": bool(lines)})
        if not lines:
            return


async def _cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()

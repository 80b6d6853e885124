"""The internal port: publish, disconnect, health and metrics (spec/protocol.md, "Publishing").

Publishing is its hot path and comes before everything else; the rest is a Starlette application.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol, cast

import trio
from attrs import frozen
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from localful_ws.engine import Presence, Receipt
from localful_ws.metrics import CONTENT_TYPE, expose
from localful_ws.protocol import Event
from localful_ws.publishing import (
    Disconnect,
    PublishLimits,
    Text,
    decode_disconnect_body,
    decode_publish_body,
    read_publish_body,
)
from localful_ws.server.console.pages import console_pages
from localful_ws.server.console.routes import Console, console_routes
from localful_ws.server.http.access import AllowedHosts, PublisherKey
from localful_ws.server.http.answers import Answer, error_answer, json_answer, unavailable_answer
from localful_ws.server.http.bodies import Body, BodyBudget
from localful_ws.server.http.refusals import ERROR_HANDLERS, REFUSALS, answer_refusal
from localful_ws.server.http.users import PATH, DevicesOfUser
from localful_ws.server.survey.questions import MetricsAnswer, MetricsQuestion, Survey
from localful_ws.steps import take_turns
from localful_ws.web.files import SHARED, page_routes

_DECODED_AT_ONCE: Final = 256 * 1024


class NodeControl(Protocol):
    """What the internal port needs of a node.

    Attributes:
        draining: Whether the node is about to stop and takes nothing more.
    """

    draining: bool

    def unavailable(self) -> str | None:
        """A sentence that says why the node isn't ready; None if it is."""
        ...

    async def publish(self, events: Sequence[Event]) -> Receipt:
        """Accept all of ``events`` or none, and say how many are new.

        Raises:
            EngineUnavailableError: If they can't be accepted now.
        """
        ...

    async def who_is_there(self, user: str, vaults: int) -> list[Presence]:
        """A user's devices on all nodes, with at most so many vaults of each.

        Raises:
            EngineUnavailableError: If it can't be told now.
        """
        ...

    async def disconnect(self, disconnect: Disconnect) -> int:
        """Close a user's or group's connections, refuse their tokens, and say how many were closed.

        Raises:
            EngineUnavailableError: If it can't be done now.
            TooManyRevocationsError: If no more revocations can be remembered; nothing was done.
        """
        ...


def build_app(
    control: NodeControl,
    *,
    publisher_key: str,
    limits: PublishLimits,
    body_budget: int,
    survey: Survey,
    now: Callable[[], float],
    revocation_seconds: float,
    allowed_hosts: Collection[str] = (),
    console: Console | None = None,
) -> "InternalApp":
    """Build the application of the internal port.

    Args:
        control: The node.
        publisher_key: What a publisher must present. It appears in no log and no answer.
        limits: What a publisher may send.
        body_budget: How big all bodies under way may be together, in bytes.
        survey: Has asked of all workers what ``/metrics`` shows.
        now: The present, in Unix seconds.
        revocation_seconds: How long a disconnect lasts that does not say until when.
        allowed_hosts: By which names it may be asked without the key; see `AllowedHosts`.
        console: What the operator's console shows; without it there is none.
    """
    decoding = trio.Lock()

    async def publish(body: Text) -> Answer:
        if len(body) <= _DECODED_AT_ONCE:
            events = decode_publish_body(body, limits)
        else:
            # Two at once would be two steps at a time.
            async with decoding:
                events = await take_turns(read_publish_body(body, limits))
        receipt = await control.publish(events)
        if not receipt.duplicates:
            return Answer(202, b'{"accepted":%d}' % receipt.accepted)
        return json_answer(202, {"accepted": receipt.accepted, "duplicates": receipt.duplicates})

    async def disconnect(body: Text) -> Answer:
        closed = await control.disconnect(decode_disconnect_body(body, now(), revocation_seconds))
        return json_answer(202, {"closed": closed})

    async def healthz(_: Request) -> ASGIApp:
        return json_answer(200, {"status": "alive"})

    async def readyz(_: Request) -> ASGIApp:
        reason = control.unavailable()
        if reason is not None:
            return unavailable_answer("not-ready", reason)
        return json_answer(200, {"status": "ready"})

    async def metrics(_: Request) -> ASGIApp:
        answer = await survey(MetricsQuestion())
        if not isinstance(answer, MetricsAnswer):
            return unavailable_answer(
                "metrics-unavailable", "The metrics of all workers can't be had just now."
            )
        return Response(expose(answer.families), headers={"Content-Type": CONTENT_TYPE})

    key, bodies = PublisherKey(publisher_key), BodyBudget(limits, body_budget)
    others = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route(PATH, DevicesOfUser(control, key).answer),
            *page_routes(SHARED),
            *(() if console is None else (*console_routes(console, key), *console_pages())),
        ],
        exception_handlers=cast("Any", {HTTPException: _answer_http_exception, **ERROR_HANDLERS}),
    )
    others.router.redirect_slashes = False
    publishing = {
        "/v1/events": PublisherEndpoint(control, key, bodies, publish),
        "/v1/disconnect": PublisherEndpoint(control, key, bodies, disconnect),
    }
    return InternalApp(publishing, others, key, AllowedHosts(allowed_hosts))


@frozen
class InternalApp:
    """The application of the internal port (ASGI).

    Attributes:
        publishing: By path, what answers a POST that takes the publisher key.
        others: Answers everything else.
    """

    publishing: "Mapping[str, PublisherEndpoint]"
    others: Starlette
    _key: PublisherKey
    _hosts: AllowedHosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; see ASGI."""
        endpoint: ASGIApp | None = self.publishing.get(scope["path"])
        if endpoint is None:
            headers = dict(scope["headers"])
            if self._hosts.allow(headers.get(b"host")) or self._key.is_shown(headers):
                endpoint = self.others
            else:
                endpoint = _answer_foreign_host
        await endpoint(scope, receive, send)


class PublisherEndpoint:
    """Answers a POST that takes the publisher key.

    Args:
        control: The node.
        key: The publisher key.
        bodies: Receives what is posted.
        act: Does what a body asks for.
    """

    def __init__(
        self,
        control: NodeControl,
        key: PublisherKey,
        bodies: BodyBudget,
        act: Callable[[Text], Awaitable[Answer]],
    ) -> None:
        self._control = control
        self._key = key
        self._bodies = bodies
        self._act = act

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; see ASGI."""
        answer: ASGIApp | None
        try:
            answer = await self._answer(scope, receive)
        except REFUSALS as error:
            answer = answer_refusal(error)
        if answer is not None:
            await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | None:
        """Do what is asked for and say so; None if the publisher goes away before the end of its request."""
        if scope["method"] != "POST":
            return _wrong_method({"Allow": "POST"})
        headers = dict(scope["headers"])
        refusal = self._key.refuse(scope, headers)
        if refusal is not None:
            return refusal
        if self._control.draining:
            return unavailable_answer("draining", "The server is shutting down.")
        with Body(self._bodies, headers) as incoming:
            body = await incoming.receive(receive)
            return None if body is None else await self._act(body)


def _wrong_method(headers: Mapping[str, str] | None) -> Answer:
    return error_answer(405, "method-not-allowed", "See the header Allow.", headers=headers)


async def _answer_http_exception(request: Request, error: Exception) -> ASGIApp:
    """Answer for a path that isn't there, or a method that it doesn't have."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        return _wrong_method(error.headers)
    if request.headers.get("upgrade", "").lower() == "websocket":
        return error_answer(404, "not-found", "Devices connect to the other port.")
    return error_answer(404, "not-found", "There is nothing here; events are published at /v1/events.")


async def _answer_foreign_host(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer who asks by a name that isn't this server's."""
    answer = error_answer(
        421, "host-not-allowed", "This server is not asked by that name; see the setting allow-host."
    )
    await answer(scope, receive, send)

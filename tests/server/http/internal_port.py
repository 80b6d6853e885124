"""The internal port's application around a node that notes what it is asked for."""

from collections.abc import Callable, Sequence
from typing import Any

import httpx
import trio
from attrs import Factory, define

from localful_ws.engine import Presence, Receipt
from localful_ws.metrics import Metrics
from localful_ws.protocol import Event
from localful_ws.publishing import Disconnect, PublishLimits
from localful_ws.routing import Router
from localful_ws.server.http.app import InternalApp, build_app
from localful_ws.server.survey.questions import Survey
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

    async def who_is_there(self, user: str, vaults: int) -> list[Presence]:
        if self.failure is not None:
            raise self.failure
        return [Presence(user, NOW, vaults, ())]

    async def disconnect(self, disconnect: Disconnect) -> int:
        if self.failure is not None:
            raise self.failure
        self.disconnected.append(disconnect)
        return 3


def make_app(
    node: FakeNode,
    *,
    metrics: Metrics | None = None,
    survey: Survey | None = None,
    budget: int = 64 * 1024 * 1024,
    **limits: Any,
) -> InternalApp:
    return build_app(
        node,
        publisher_key=KEY,
        limits=PublishLimits(**limits),
        survey=survey or Respondent(Router(), metrics or Metrics()).answer,
        now=lambda: NOW,
        revocation_seconds=86400.0,
        body_budget=budget,
        allowed_hosts=["ws.internal"],
    )


async def conforms(answer: httpx.Response) -> None:
    await answer.aread()
    assert_conforms(answer)


def client_of(app: InternalApp) -> httpx.AsyncClient:
    """A client that takes no answer that spec/openapi.json doesn't have."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://localhost",
        event_hooks={"response": [conforms]},
    )


async def post(app: InternalApp, path: str, **request: Any) -> httpx.Response:
    async with client_of(app) as client:
        return await client.post(path, **({"headers": AUTHORIZED} | request))


async def get(app: InternalApp, path: str, **request: Any) -> httpx.Response:
    async with client_of(app) as client:
        return await client.get(path, **request)


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

"""Publishers that repeat each batch until it is accepted: over HTTP through any node, and through Redis."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from random import Random
from typing import Any, Protocol

import httpx
import trio
from attrs import Factory, define, frozen

from .check import Published
from .nodes import PUBLISHER_KEY
from .resp import command
from .told import Sent

_PAUSE = (0.005, 0.05)
_LONGEST_PAUSE = 0.3
_RETRY = (0.05, 0.3)
# The largest is of one user: it takes a node more than one turn to deliver.
_BATCHES = (*[1] * 30, *[2] * 10, *[5] * 6, *[12] * 3, 200)
SMALL_BATCHES = (*[1] * 16, *[2] * 3, 5)
_USER_EVENTS = ("user-update", "user-email-change")
_VAULT_EVENTS = ("vault-create", "vault-update")
_DATA_EVENTS = ("item-create", "item-delete", "version-create", "version-delete")


class Delivery(Protocol):
    """A way to publish."""

    async def __call__(self, events: Sequence[Mapping[str, Any]]) -> bool:
        """Publish a batch; false if it is to be repeated."""
        ...


@define(eq=False)
class Publisher:
    """Publishes batch after batch, each until it is accepted.

    Attributes:
        name: What its publish ids begin with.
        deliver: Its way to publish.
        random: Makes events and pauses.
        users: Whose events, with the token groups each user has.
        vaults: Vaults that events may name; the same for every user.
        batches: How many events are published at once: one of these.
        sent: What was sent, and when.
        repeats: How often a batch was sent again.
    """

    name: str
    deliver: Delivery
    random: Random
    users: Mapping[str, Sequence[str]]
    vaults: Sequence[str]
    batches: Sequence[int] = _BATCHES
    sent: list[Sent] = Factory(list)
    repeats: int = 0
    _serial: int = 0

    @property
    def published(self) -> list[Published]:
        """What was accepted."""
        return [each.event for each in self.sent if each.accepted < math.inf]

    async def run(self, stopped: Callable[[], bool]) -> None:
        """Publish until told to stop; what was begun is finished."""
        while not stopped():
            count = self.random.choice(self.batches)
            users = list(self.users)
            if count == max(self.batches):
                users = [self.random.choice(users)]
            await self.publish([self._make(self.random.choice(users)) for _ in range(count)])
            await trio.sleep(min(self.random.uniform(*_PAUSE) * count, _LONGEST_PAUSE))

    async def mark(self, marker: str) -> None:
        """Publish to every device of every user an event with this marker."""
        await self.publish([self._event(user, "user-update", marker=marker) for user in self.users])

    async def publish(self, events: Sequence[Published]) -> None:
        """Publish a batch, again and again until it is accepted."""
        batch = [_encode(event) for event in events]
        began, accepted, tries = trio.current_time(), math.inf, 1
        try:
            while not await self.deliver(batch):
                await trio.sleep(self.random.uniform(*_RETRY))
                tries += 1
            accepted = trio.current_time()
        finally:
            self.repeats += tries - 1
            self.sent += [Sent(event, began, accepted, tries) for event in events]

    def _make(self, user: str) -> Published:
        names = self.random.choice((_USER_EVENTS, _VAULT_EVENTS, _DATA_EVENTS, _DATA_EVENTS))
        return self._event(
            user,
            self.random.choice(names),
            None if names is _USER_EVENTS else self.random.choice(self.vaults),
            self.random.choice((None, *self.users[user])),
        )

    def _event(
        self, user: str, name: str, vault: str | None = None, group: str | None = None, **data: str
    ) -> Published:
        self._serial += 1
        publish_id = f"{self.name}:{self._serial}"
        return Published(publish_id, self.name, user, name, vault, group, {"id": publish_id, **data})


def _encode(event: Published) -> dict[str, Any]:
    body = {"event": event.event, "user": event.user, "data": event.data, "id": event.id}
    if event.vault is not None:
        body["vault"] = event.vault
    if event.group is not None:
        body["group"] = event.group
    return body


def make_http() -> httpx.AsyncClient:
    """Make a client for `OverHttp`, which waits long enough for a node that is paused."""
    return httpx.AsyncClient(
        headers={"Authorization": f"Bearer {PUBLISHER_KEY}"}, timeout=5.0, trust_env=False
    )


@frozen
class Answer:
    """What came of one attempt to publish.

    Attributes:
        began: When it began, on Trio's clock.
        ended: When it ended.
        node: The base URL of the node.
        users: Whose events they were.
        status: Its status; None if there was no answer.
        accepted: How many events are new.
    """

    began: float
    ended: float
    node: str
    users: frozenset[str]
    status: int | None
    accepted: int = 0


@define(eq=False)
class OverHttp:
    """Publishes with POST /v1/events, through any node.

    Attributes:
        http: A client with the publisher key and a timeout.
        nodes: The base URLs of the internal ports.
        random: Chooses a node.
        complaints: Answers that no fault explains.
        divided: Whether a batch may be accepted in parts, each user's whole.
        answers: All that came of it.
    """

    http: httpx.AsyncClient
    nodes: Sequence[str]
    random: Random
    complaints: list[str] = Factory(list)
    divided: bool = False
    answers: list[Answer] = Factory(list)

    async def __call__(self, events: Sequence[Mapping[str, Any]]) -> bool:
        """See `Delivery`."""
        node = self.random.choice(self.nodes)
        users = frozenset(event["user"] for event in events)
        began = trio.current_time()
        try:
            answer = await self.http.post(f"{node}/v1/events", json={"events": events})
        except httpx.TransportError:
            self.answers.append(Answer(began, trio.current_time(), node, users, None))
            return False
        accepted = answer.json().get("accepted", 0)
        self.answers.append(Answer(began, trio.current_time(), node, users, answer.status_code, accepted))
        if answer.status_code == 503 and int(answer.headers.get("retry-after", "0")) > 0:
            return False
        receipt = answer.json()
        # The batch is accepted whole, once: nothing of it can have been there before unless all was.
        whole = ({"accepted": len(events)}, {"accepted": 0, "duplicates": len(events)})
        known = receipt in whole
        if self.divided and len(users) > 1:
            known = accepted + receipt.get("duplicates", 0) == len(events)
        if answer.status_code != 202 or not known:
            self.complaints.append(f"{answer.status_code} {answer.text} for {json.dumps(events)}")
        return answer.status_code == 202


@define(eq=False)
class OverIntake:
    """Publishes by adding to the stream ``localful:intake``.

    Attributes:
        redis: Where Redis is.
    """

    redis: tuple[str, int]

    async def __call__(self, events: Sequence[Mapping[str, Any]]) -> bool:
        """See `Delivery`."""
        if len(events) == 1:
            (event,) = events
            fields = {**event, "data": json.dumps(event["data"])}
        else:
            fields = {"body": json.dumps({"events": events})}
        try:
            await command(self.redis, "XADD", "localful:intake", "*", *chain.from_iterable(fields.items()))
        except OSError:
            return False
        return True

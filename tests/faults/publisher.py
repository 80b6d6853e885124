"""Publishers that repeat each batch until it is accepted: over HTTP through any node, and through Redis."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from random import Random
from typing import Any, Protocol

import httpx
import trio
from attrs import Factory, define

from .check import Published
from .nodes import PUBLISHER_KEY
from .resp import command

_PAUSE = (0.005, 0.05)
_LONGEST_PAUSE = 0.3
_RETRY = (0.05, 0.3)
# The largest is of one user: it takes a node more than one turn to deliver.
_BATCHES = (*[1] * 30, *[2] * 10, *[5] * 6, *[12] * 3, 200)
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
        published: What was accepted.
        repeats: How often a batch was sent again.
    """

    name: str
    deliver: Delivery
    random: Random
    users: Mapping[str, Sequence[str]]
    vaults: Sequence[str]
    published: list[Published] = Factory(list)
    repeats: int = 0
    _serial: int = 0

    async def run(self, stopped: Callable[[], bool]) -> None:
        """Publish until told to stop; what was begun is finished."""
        while not stopped():
            count = self.random.choice(_BATCHES)
            users = list(self.users)
            if count == max(_BATCHES):
                users = [self.random.choice(users)]
            await self.publish([self._make(self.random.choice(users)) for _ in range(count)])
            await trio.sleep(min(self.random.uniform(*_PAUSE) * count, _LONGEST_PAUSE))

    async def mark(self, marker: str) -> None:
        """Publish to every device of every user an event with this marker."""
        await self.publish([self._event(user, "user-update", marker=marker) for user in self.users])

    async def publish(self, events: Sequence[Published]) -> None:
        """Publish a batch, again and again until it is accepted."""
        batch = [_encode(event) for event in events]
        while not await self.deliver(batch):
            await trio.sleep(self.random.uniform(*_RETRY))
            self.repeats += 1
        self.published += events

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


@define(eq=False)
class OverHttp:
    """Publishes with POST /v1/events, through any node.

    Attributes:
        http: A client with the publisher key and a timeout.
        nodes: The base URLs of the internal ports.
        random: Chooses a node.
        complaints: Answers that no fault explains.
    """

    http: httpx.AsyncClient
    nodes: Sequence[str]
    random: Random
    complaints: list[str] = Factory(list)

    async def __call__(self, events: Sequence[Mapping[str, Any]]) -> bool:
        """See `Delivery`."""
        try:
            answer = await self.http.post(
                f"{self.random.choice(self.nodes)}/v1/events", json={"events": events}
            )
        except httpx.TransportError:
            return False
        if answer.status_code == 503 and int(answer.headers.get("retry-after", "0")) > 0:
            return False
        receipt = answer.json()
        # The batch is accepted whole, once: nothing of it can have been there before unless all was.
        whole = ({"accepted": len(events)}, {"accepted": 0, "duplicates": len(events)})
        if answer.status_code != 202 or receipt not in whole:
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

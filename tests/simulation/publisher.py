"""A publisher of the simulation, and what it was told."""

import json
from collections.abc import Sequence
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field

from localful_ws.protocol import EventKind, EventName

from .plan import BIG

if TYPE_CHECKING:
    from .nodes import SimulatedNode
    from .world import World

_MARGIN = 1000
EVENTS = {name.value: name for name in EventName}
"""The events by name."""
_NAMES = tuple(EventName)
_WEIGHTS = tuple(
    {EventKind.USER: 2.0, EventKind.VAULT: 2.0, EventKind.DATA: 8.0}[name.kind]
    * {EventName.USER_DELETE: 0.03, EventName.VAULT_DELETE: 0.7}.get(name, 1.0)
    for name in _NAMES
)


@define(eq=False)
class Published:
    """An event that was published.

    Attributes:
        number: The number in its data.
        publisher: Who did.
        user: Its user.
        name: What happened.
        id: The publisher's own name for it.
        asked: When it was sent first.
        told: When it was told that it is accepted; infinity if it never was.
        node: Which node told so.
    """

    number: int
    publisher: int
    user: str
    name: EventName
    id: str | None
    asked: float
    told: float = inf
    node: "SimulatedNode | None" = None


@define(eq=False)
class Publisher:
    """Publishes one batch after another.

    Attributes:
        duplicates: How many it was told were duplicates.
    """

    world: "World"
    number: int
    random: Random
    duplicates: int = 0
    _repeatable: list[dict[str, Any]] = field(factory=list)

    async def run(self) -> None:
        """Publish as long as there are faults."""
        world = self.world
        while True:
            wait = self.random.expovariate(world.plan.pace)
            if trio.current_time() + wait > world.plan.seconds:
                return
            await trio.sleep(wait)
            repeat = self._repeatable and self.random.random() < 0.1
            batch = self._repeatable if repeat else self._draw()
            await self.publish(batch, repeat=bool(repeat))

    def _draw(self) -> list[dict[str, Any]]:
        world, random = self.world, self.random
        with_ids = random.random() < 0.5
        names = random.choices(_NAMES, _WEIGHTS, k=random.randint(1, world.plan.batch))
        user = random.choice(world.users)
        batch = []
        for name in names:
            if random.random() < 0.2:
                user = random.choice(world.users)
            batch.append(self.make(name, user, with_id=with_ids))
            if len(json.dumps(batch)) > world.settings.max_publish_bytes - BIG - _MARGIN:
                break
        return batch

    def make(self, name: EventName, user: str, *, with_id: bool) -> dict[str, Any]:
        """Make an event to be published."""
        world, random = self.world, self.random
        number = world.next_number()
        data: dict[str, Any] = {"n": number}
        if random.random() < world.plan.big:
            data["big"] = "x" * random.randint(1000, BIG)
        event: dict[str, Any] = {"event": name.value, "user": user, "data": data}
        if name.kind is not EventKind.USER:
            event["vault"] = random.choice(world.vaults)
        if random.random() < 0.5:
            event["group"] = random.choice(world.groups_of(user))
        if with_id:
            event["id"] = f"p{number}"
        return event

    async def publish(self, batch: Sequence[dict[str, Any]], *, repeat: bool = False) -> bool:
        """Publish a batch, and try again if it has ids; whether it was accepted."""
        world = self.world
        records = [] if repeat else self._note(batch)
        can_repeat = all("id" in event for event in batch)
        for _ in range(6 if can_repeat else 1):
            node = world.pick_node(self.random)
            if node is None:
                await trio.sleep(0.5)
                continue
            for event in batch:
                if event["event"] == EventName.USER_DELETE.value:
                    # Tokens are refused before the event has its place.
                    world.checks.user_deleted(event["user"], world.wall())
            answer = await node.request("/v1/events", {"events": list(batch)} if len(batch) > 1 else batch[0])
            world.publishes[answer.status] += 1
            if answer.status == 202:
                self._accepted(records, answer.content, node, len(batch))
                if can_repeat:
                    self._repeatable = list(batch)
                return True
            if answer.status not in (0, 503):
                world.complain(f"publisher {self.number} was told {answer}")
            await trio.sleep(self.random.uniform(0.05, 1.0))
        return False

    def _note(self, batch: Sequence[dict[str, Any]]) -> list[Published]:
        now = trio.current_time()
        records = [
            Published(
                event["data"]["n"], self.number, event["user"], EVENTS[event["event"]], event.get("id"), now
            )
            for event in batch
        ]
        self.world.published |= {record.number: record for record in records}
        return records

    def _accepted(
        self,
        records: Sequence[Published],
        content: Any,
        node: "SimulatedNode",
        size: int,
    ) -> None:
        duplicates = content.get("duplicates", 0)
        self.duplicates += duplicates
        if content["accepted"] + duplicates != size:
            self.world.complain(f"of {size} events were {content}")
        for record in records:
            if record.told == inf:
                record.told = trio.current_time()
                record.node = node

"""What becomes of events when Redis loses some: who has to give them back, and who has to be told otherwise.

An event may stay lost that nobody had to give back: no node has heard that it was taken, or the node that has
is gone, or came back too late. All others are there again in the end, or all who follow the stream are told
that it was begun anew.
"""

import json
from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

import trio
from attrs import Factory, define

from localful_ws.protocol import Event

from .publisher import EVENTS
from .redis_link import SimulatedLink
from .redis_stream import Place
from .truth import Fact, Line, number_in

if TYPE_CHECKING:
    from .checks import Revocation
    from .nodes import SimulatedNode
    from .publisher import Published
    from .world import World

_HOLD = 1.0
# Whoever connects within this time after the first one has given all by the end of the hold.
_PROMPT = 0.4
_PROMPT_DELAY = 0.002
_MARGIN = 0.5


@define(eq=False)
class _Failover:
    """Redis was replaced by one that lacks something.

    Attributes:
        at: When it was, on Trio's clock.
        nodes: The nodes that were connected.
        lost: What it lacks, and could be given back in its place.
        opened: By node, its first connection.
    """

    at: float
    nodes: "frozenset[SimulatedNode | None]"
    lost: list[tuple[str, str, Fact]] = Factory(list)
    opened: "dict[SimulatedNode | None, SimulatedLink]" = Factory(dict)


class Handovers:
    """Keeps account of what was lost and given back; see `redis.Witness`.

    Args:
        world: Where that happens.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self._heard: dict[Place, tuple[SimulatedNode | None, float]] = {}
        # When nodes have gone on with Redis, having given what they had to give.
        self._served: dict[SimulatedNode | None, list[float]] = {}
        self._links_served: set[SimulatedLink] = set()
        self._failovers: list[_Failover] = []
        self._losing: list[tuple[str, str, Fact]] | None = None
        self._lost_otherwise = -inf

    # --- what Redis says ---

    def node_of(self, index: int) -> "SimulatedNode | None":
        """See `Witness`."""
        return self._world.nodes[index]

    def accepted(self, place: Place, stored: bytes) -> None:
        """See `Witness`."""
        kept = json.loads(stored)
        data = stored[stored.index(b'"data":') + 7 : -1]
        event = Event(EVENTS[kept["event"]], place[0], kept.get("vault"), kept.get("group"), data)
        self._world.accept(event, place[1], place[2], len(data))

    def acknowledged(self, node: "SimulatedNode | None", places: Sequence[Place]) -> None:
        """See `Witness`."""
        now = trio.current_time()
        for place in places:
            self._heard[place] = node, now

    def lost(self, user: str, epoch: str, after: tuple[int, int]) -> None:
        """See `Witness`."""
        lost = self._world.truth.lose(user, epoch, after, trio.current_time())
        if lost:
            numbers = [fact.number for fact in lost]
            self._world.log("redis", f"has lost {numbers} of {user} {epoch}")
        if self._losing is None:
            self._lost_otherwise = trio.current_time()
        else:
            self._losing += [(user, epoch, fact) for fact in lost]

    def restored(self, place: Place, stored: bytes) -> None:
        """See `Witness`."""
        number = number_in(json.loads(stored)["data"])
        self._world.log("redis", f"has got back {number} of {place[0]} {place[1]}")
        if not self._world.truth.give_back(*place, number):
            self._world.complain(f"{number} was given to Redis as {place}, where it never was")

    def opened(self, link: SimulatedLink) -> None:
        """See `Witness`."""
        if self._failovers:
            failover = self._failovers[-1]
            if not failover.opened:
                moment = trio.current_time() + _HOLD + _MARGIN
                self._world.agenda.at(moment, lambda: self._look_at(failover))
            failover.opened.setdefault(link.node, link)

    def served(self, link: SimulatedLink) -> None:
        """See `Witness`."""
        if link not in self._links_served:
            self._links_served.add(link)
            self._served.setdefault(link.node, []).append(trio.current_time())

    @property
    def failovers(self) -> int:
        """How often Redis was replaced."""
        return len(self._failovers)

    # --- what befalls it ---

    def fail_over(self, seconds: float) -> None:
        """Have another server come in its place, that lacks what was written in the last seconds."""
        redis = self._world.redis
        assert redis is not None
        failover = _Failover(trio.current_time(), frozenset(link.node for link in redis.links))
        self._failovers.append(failover)
        self._losing = failover.lost
        redis.be_replaced(seconds)
        self._losing = None
        # Where the beginning of a stream is lost too, it is begun anew; unless it is the first of its user.
        epochs = {user: redis.epoch_of(user) for user, _ in self._world.truth.lines}
        known = Counter(user for user, _ in self._world.truth.lines)
        failover.lost = [
            (user, epoch, fact)
            for user, epoch, fact in failover.lost
            if epochs[user] == epoch or (epochs[user] is None and known[user] == 1)
        ]

    # --- what follows ---

    def _look_at(self, failover: _Failover) -> None:
        """See that nothing is lacking any more, if all who have something to give came in time."""
        world = self._world
        assert world.redis is not None
        opened = failover.opened
        first = min(link.began for link in opened.values())
        early = [node for node in opened if opened[node].began < first + _HOLD + _MARGIN]
        calm = (
            world.plan.redis_delay[1] <= _PROMPT_DELAY
            and world.redis_disturbed <= first
            and self._lost_otherwise < failover.at
            and not world.jumped_since(failover.at)
            and failover.nodes.issuperset(early)
        )
        if not calm:
            return
        for user, epoch in {(user, epoch): None for user, epoch, _ in failover.lost}:
            line = world.truth.line(user, epoch)
            facts = [fact for one, other, fact in failover.lost if (one, other) == (user, epoch)]
            if all(self._was_given_in_time(failover, first, user, epoch, fact) for fact in facts):
                for fact in facts:
                    if fact.place in line.gone:
                        world.complain(f"{fact} of {user} is not there again, and all came in time")

    def _was_given_in_time(
        self, failover: _Failover, first: float, user: str, epoch: str, fact: Fact
    ) -> bool:
        node, at = self._heard.get((user, epoch, fact.place), (None, inf))
        link = failover.opened.get(node)
        if link is None or link.is_lost or link.began > first + _PROMPT:
            return False
        record = self._record(fact)
        settings = self._world.settings
        return (
            node is record.node
            and record.told == at
            and link.began - at < min(settings.redis_handover_seconds, settings.history_seconds) - _MARGIN
        )

    def may_be_gone(self, user: str, epoch: str, fact: Fact) -> bool:
        """Whether nobody had to give back an event that is gone."""
        settings = self._world.settings
        node, at = self._heard.get((user, epoch, fact.place), (None, inf))
        record = self._record(fact)
        if node is None or node is not record.node or record.told != at:
            return True
        line = self._world.truth.line(user, epoch)
        kept = min(settings.redis_handover_seconds, settings.history_seconds) - _MARGIN
        if self._given(node, line.gone[fact.place]) - at >= kept:
            return True
        # Where history is short nobody can say of what is not in it whether it was.
        return len(line.facts) - line.passed(fact.place) >= settings.history_events

    def was_begun_anew(self, user: str, line: Line, fact: Fact) -> bool:
        """Whether all who follow a user were told that something is gone."""
        redis = self._world.redis
        assert redis is not None
        epoch = redis.epoch_of(user)
        return epoch is not None and redis.begun(user, epoch) > line.gone[fact.place]

    def check_skipped(self) -> None:
        """See that whoever was not told of something that is gone was told that something is."""
        world = self._world
        assert world.redis is not None
        for follower in world.followers():
            if not follower.open:
                continue
            if follower.epoch != world.redis.epoch_of(follower.user):
                world.complain(f"a device of {follower.user} follows {follower.epoch}, which is no more")
            for epoch, fact in follower.skipped():
                gone = fact.place in world.truth.line(follower.user, epoch).gone
                if not (gone and self.may_be_gone(follower.user, epoch, fact)):
                    world.complain(f"a device of {follower.user} was not told of {fact}, and not that")

    def kept_since(self, revocation: "Revocation") -> float:
        """Since when a revocation must be in Redis; infinity if it need not be."""
        # What is answered may have been done a second before: it is waited for the nodes.
        lost = [failover.at for failover in self._failovers if failover.at >= revocation.asked]
        if not lost or revocation.done == inf:
            return revocation.done
        given = self._given(revocation.node, lost[-1])
        in_time = given - revocation.asked < self._world.settings.redis_handover_seconds - _MARGIN
        return max(given, revocation.done) if in_time else inf

    def has_asked_between(self, node: "SimulatedNode", since: float, until: float) -> bool:
        """Whether a node has come to Redis within this time, and so must know what was there already."""
        return any(since < moment < until for moment in self._served.get(node, ()))

    def _given(self, node: "SimulatedNode | None", lost: float) -> float:
        """When a node has given back what it had to give, after a loss."""
        return min((moment for moment in self._served.get(node, ()) if moment > lost), default=inf)

    def _record(self, fact: Fact) -> "Published":
        return self._world.published[fact.number]

"""What must hold throughout, and in the end."""

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen

from localful_ws.engine.memory import MemoryEngine
from localful_ws.engine.redis.engine import RedisEngine
from localful_ws.server.device import Device

from .redis import SimulatedRedis
from .tokens import Token

if TYPE_CHECKING:
    from .nodes import SimulatedNode
    from .publisher import Published
    from .talk import Talk
    from .world import World

_ROUNDING = 1e-6
# The clocks of the API and of a node may be so far from each other, if the time of day is put right.
_SKEW = 9.0
_NO_SKEW = 0.01
# A node may be told of an event so long after it was accepted.
_BEHIND = 60.0
# All nodes know of a revocation after so long; those that have come to Redis since do at once.
_TOLD_WITHIN = 10.0
# Frames that may wait beside the events: the close, a pong, and the marks of who waits for them.
_BESIDE_EVENTS = 8
# Nothing is read for so long at most: while a token is verified, and the engine asked.
_UNREAD = 20.0


@frozen
class Revocation:
    """A disconnect, or a deleted user.

    Attributes:
        user: The user, or None: anybody.
        group: The token group, or None: any.
        at: Tokens issued before are refused, as the time of day.
        asked: When it was asked for, on Trio's clock.
        done: When it was answered, on Trio's clock; infinity if it is not known to be done.
        until: Until when, on Trio's clock as the node reckons.
        node: Who was asked.
    """

    user: str | None
    group: str | None
    at: float
    asked: float
    done: float
    until: float
    node: "SimulatedNode | None"

    def names(self, token: Token, margin: float) -> bool:
        """Whether it is about this token, even if it had been asked for so much later."""
        if self.node is None and margin > 0:
            margin = _BEHIND  # whoever is told of a deletion later closes who came in between
        return (
            self.user in (None, token.user)
            and self.group in (None, token.group)
            and token.issued_at < self.at + margin
        )


class Checks:
    """Looks at a world from all sides at once."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._revocations: list[Revocation] = []
        self._skew = _SKEW if "wall-clock" in world.plan.blows else _NO_SKEW
        self.looks = 0

    async def run(self) -> None:
        """Look now and then until cancelled."""
        while True:
            await trio.sleep(self._world.plan.look_every)
            self.look()

    # --- bounds ---

    def look(self) -> None:
        """See that no buffer is over its bound."""
        self.looks += 1
        for node in self._world.nodes:
            if node is not None and node.ready:
                self._look_at(node)
        if self._world.redis is not None:
            self._look_at_kept_revocations(self._world.redis)

    def _look_at_kept_revocations(self, redis: SimulatedRedis) -> None:
        """See that Redis has the revocations that were answered."""
        world = self._world
        if world.stepped or "max_revocations" in world.plan.settings:
            return  # they lapse by the clock of each node, or there may be no room when they are given back
        for each in self._revocations:
            if each.node is None or each.until < trio.current_time() + 1:
                continue
            kept = redis.revoked_at(each.user, each.group)
            since = world.handovers.kept_since(each)
            if since < trio.current_time() and (kept is None or kept < each.at - self._skew):
                world.complain(f"Redis has not {each}")

    def _look_at(self, node: "SimulatedNode") -> None:
        settings, server = node.settings, node.node
        devices = tuple(server.devices())
        # A batch waits together, however much waits already.
        budget, frame = server.budget, settings.max_event_bytes + settings.max_message_bytes + 4096
        most = settings.send_buffer_events + node.most_events + _BESIDE_EVENTS
        self._bound(node, "events that wait for a device", budget.peak_events, most)
        most = settings.send_buffer_bytes + node.most_bytes + frame
        self._bound(node, "bytes that wait for a device", budget.peak_bytes, most)
        self._bound(node, "bytes that wait", budget.bytes, settings.send_budget)
        self._look_at_slow(node)
        self._look_at_unread(node)
        self._bound(node, "connections", len(devices), settings.max_connections)
        # Each Redis takes so many, and nodes forget nothing of what an earlier one took.
        most = settings.max_revocations * (1 + self._world.handovers.failovers)
        self._bound(node, "revocations", len(server._revocations), most)
        self._bound(node, "entries of timers", len(server.timers), max(1024, 4 * len(devices) + 64))
        for user in self._world.users:
            here = server._router.count(user)
            self._bound(node, f"connections of {user}", here, settings.max_connections_per_user)
        engine = node.engine
        if isinstance(engine, MemoryEngine):
            waiting = engine._receive.statistics().current_buffer_used
            self._bound(node, "batches that wait", waiting, settings.publish_queue)
            self._bound(node, "bytes of history", engine._history.bytes, settings.history_bytes)
            self._bound(node, "ids", len(engine._ids), settings.idempotency_events)
            self._bound(node, "turns", len(engine._turns), len(devices))
        elif isinstance(engine, RedisEngine):
            # A message of up to 1 MiB is put in whole; so are portions that are read, one for each reader.
            most = settings.redis_queue_bytes + 17 * (1 << 20)
            self._bound(node, "bytes from Redis", engine._queue.bytes, most)
            self._bound(node, "users followed", len(engine._streams), len(self._world.users))

    def _look_at_slow(self, node: "SimulatedNode") -> None:
        """See that nothing has been first among what waits for longer than it may be."""
        now, settings = node.clock.now(), node.settings
        for buffer in node.node.budget._waiting.values():
            late = now - buffer.since - settings.send_timeout
            if late > _ROUNDING and not self._world.jumped_since(trio.current_time() - settings.send_timeout):
                self._world.complain(f"{node.name}: a device takes nothing for {late:.6f} s too long")

    def _look_at_unread(self, node: "SimulatedNode") -> None:
        """See that what has come is read."""
        now = trio.current_time()
        for sock in node.kernel.sockets.values():
            since = sock.unread_since()
            if since is not None and now - since > _UNREAD and not self._world.jumped_since(since):
                self._world.complain(f"{node.name} does not read what a device sent at {since:.6f}")

    def _bound(self, node: "SimulatedNode", what: str, size: float, most: float) -> None:
        if size > most:
            self._world.complain(f"{node.name}: {what}: {size}, and at most {most} are allowed")

    # --- time to authenticate ---

    def watch_authentication(self, talk: "Talk") -> None:
        """See that a connection is not there any more at 3.0 s, unless it has authenticated by then."""
        world = self._world
        assert talk.link.opened is not None
        due = talk.link.opened + 3.0
        # Bytes are under way, there and back.
        slack = _ROUNDING + 2 * world.plan.network.delay[1] + 2 * world.plan.network.tick

        def see() -> None:
            if talk.over or talk.told_close is not None or talk.authenticated or talk.auth_sent:
                return
            excused = talk.done & {"dark", "half-close", "silent"} or talk.node.draining or talk.node.killed
            if not excused and not world.jumped_since(talk.began):
                world.complain(
                    f"{talk.device.name} ({talk.beginning}) is there {3 + slack:.6f} s unauthenticated"
                )

        world.agenda.at(due + slack, see)

    # --- revocations ---

    async def disconnect(
        self, node: "SimulatedNode", content: dict[str, Any], before: float, until: float | None
    ) -> None:
        """Ask for a disconnect, and remember what follows from it."""
        world = self._world
        asked = trio.current_time()
        names = content.get("user"), content.get("group")
        self._revocations.append(Revocation(*names, inf, asked, inf, inf, node))
        answer = await node.request("/v1/disconnect", content)
        world.log("disconnect", f"{content} {answer}")
        if answer.status not in (0, 202, 503):
            world.complain(f"disconnect was answered with {answer}")
        ends = asked + node.settings.revocation_seconds
        if until is not None:
            ends = until - node.unix(0.0)
        if answer.status == 202:
            self._revocations.append(Revocation(*names, before, asked, trio.current_time(), ends, node))
        world.log_in_anew(content.get("user"), content.get("group"))

    def user_deleted(self, user: str, at: float) -> None:
        """A ``user-delete`` has its place: older tokens are refused from then on."""
        now = trio.current_time()
        self._revocations.append(Revocation(user, None, at, now, inf, inf, None))

    def may_be_forbidden(self, talk: "Talk") -> bool:
        """Whether somebody who was told 4403 may have been revoked."""
        tokens = [token for token in (talk.token, talk.asking) if token is not None]
        tokens += [asked.token for asked in talk.asked if asked.token is not None]
        return any(each.names(token, self._skew) for each in self._revocations for token in tokens)

    def session_begun(self, talk: "Talk", token: Token, written: float) -> None:
        """A token was accepted: it must not be revoked, nor have expired."""
        self._see_revoked(talk, token, written, "was authenticated")
        now = talk.node.unix(written)
        if not talk.slow and now > token.expires_at + _ROUNDING and not self._world.jumped_since(talk.began):
            self._world.complain(f"{talk.device.name} was authenticated with {token} at {now}")

    def event_written(self, talk: "Talk", written: float) -> None:
        """An event was sent to a session: it must not be revoked, nor have expired."""
        token = talk.token
        if token is None or talk.slow or not self._world.good_network:
            return  # it may have been decided long before
        self._see_revoked(talk, token, written, "was told an event")
        now = talk.node.unix(written)
        if now > token.expires_at + _ROUNDING and not talk.asked and not self._world.jumped_since(talk.began):
            self._world.complain(f"{talk.device.name} was told an event at {now} with {token}")

    def _see_revoked(self, talk: "Talk", token: Token, written: float, what: str) -> None:
        if not self._world.good_network:
            return
        for revocation in self._revocations:
            if not revocation.names(token, -self._skew) or revocation.node is None:
                continue
            if self._knows(talk.node, revocation, written) and written < revocation.until - _ROUNDING:
                self._world.complain(f"{talk.device.name} {what} with {token}, and there is {revocation}")

    def _knows(self, node: "SimulatedNode", revocation: Revocation, written: float) -> bool:
        """Whether a node must know of a revocation by then."""
        world = self._world
        if world.plan.engine == "memory":
            return node is revocation.node and written > revocation.done + _ROUNDING
        if world.stepped or "max_revocations" in world.plan.settings:
            return False  # see `_look_at_kept_revocations`
        since = world.handovers.kept_since(revocation)
        if world.handovers.has_asked_between(node, since, written):
            return True
        return written > since + _TOLD_WITHIN and not world.jumped_since(since)

    # --- in the end ---

    async def finish(self) -> None:
        """See that every device that is there has everything, and an answer to all that it said."""
        for follower in self._world.followers():
            follower.finish()
        if self._world.redis is not None:
            self._world.handovers.check_skipped()
        for device in self._world.devices:
            if device.unanswered():
                device.complain(f"{device.unanswered()} messages have no answer")

    def all_gone(self) -> None:
        """See that nothing is left of devices that have gone."""
        self.look()
        for node in self._world.nodes:
            if node is None:
                continue
            left = self._left_at(node)
            if isinstance(node.engine, RedisEngine):
                left["users followed"] = len(node.engine._streams)
                left["feeds"] = sum(
                    bool(each.feed.watches) for each in node.engine._streams._followed.values()
                )
            elif isinstance(node.engine, MemoryEngine):
                left["turns"] = len(node.engine._turns)
            if any(left.values()):
                self._world.complain(f"{node.name} is left with {left}")
            # What waits for the end, and the parking.
            nurseries = (node.connections, node.node._connections)
            tasks = [task.name for each in nurseries if each is not None for task in each.child_tasks]
            if len(tasks) != 2:
                self._world.complain(f"{node.name} is left with the tasks {sorted(tasks)}")
            counts = node.node.metrics
            if counts.connections_opened != sum(counts.closes.values()):
                self._world.complain(
                    f"{node.name} opened {counts.connections_opened} and closed {counts.closes}"
                )

    def node_gone(self, node: "SimulatedNode") -> None:
        """See that nothing is left of the devices of a node that has ended."""
        left = self._left_at(node)
        if any(left.values()):
            self._world.complain(f"{node.name} has ended and is left with {left}")

    def _left_at(self, node: "SimulatedNode") -> dict[str, int]:
        server = node.node
        assert server.parking is not None
        return {
            "devices": len(tuple(server.devices())),
            "handshakes": len(server._half_open) + len(server._reserved),
            "users with devices": server._router.users(),
            "parked": len(server.parking),
            "looked at": len(node.kernel.poller),
            "open sockets": len(node.kernel.sockets),
            "send buffers": len(server.budget._waiting) + len(server.budget._leaving),
            "bytes that wait": server.budget.bytes,
            "devices that are due": sum(
                timed.due == due and isinstance(timed, Device) for due, _, timed in server.timers._heap
            ),
        }

    def conclude(self) -> None:
        """See that what was accepted was published, that nothing is left, and what nodes had to say."""
        world = self._world
        self._check_streams()
        for link in world.links:
            if link.closed is None and link.opened is not None:
                world.complain("a node is gone and has left a connection open")
                break
        if self._tasks_left():
            world.complain(f"tasks are left: {self._tasks_left()}")
        for entry in world.node_log:
            if entry["log_level"] in ("error", "critical", "exception"):
                world.complain(f"a node failed: {entry}")

    def _tasks_left(self) -> list[str]:
        """Tasks beside the one that asks."""
        root = trio.lowlevel.current_root_task()
        assert root is not None
        main = trio.lowlevel.current_task()
        left, nurseries = [], list(main.child_nurseries)
        while nurseries:
            for task in nurseries.pop().child_tasks:
                left.append(task.name)
                nurseries += task.child_nurseries
        return sorted(left)

    def _check_streams(self) -> None:
        """Each event that is accepted is in its stream once, and in its place."""
        world = self._world
        published = world.published
        seen: dict[int, tuple[str, str, float]] = {}
        times = Counter(fact.number for line in world.truth.lines.values() for fact in line.facts)
        for (user, epoch), line in world.truth.lines.items():
            if any(earlier >= later for earlier, later in zip(line.places, line.places[1:], strict=False)):
                world.complain(f"the places of {user} do not rise")
            there = line.there()
            once = [fact.number for fact in there if times[fact.number] == 1]
            records = [published[number] for number in once if number in published]
            self._check_order(user, records)
            for fact in there:
                record = published.get(fact.number)
                if record is None:
                    world.complain(f"{fact} is in a stream and was never published")
                    continue
                if (record.user, record.name) != (user, fact.name):
                    world.complain(f"{record} is in a stream as {fact} of {user}")
                if fact.number in seen and not self._may_be_twice(
                    record, seen[fact.number], (user, epoch, fact.at)
                ):
                    world.complain(f"{fact.number} is in the streams twice")
                seen[fact.number] = user, epoch, fact.at
        for record in published.values():
            if record.told < inf and record.number not in seen and not self._may_be_lost(record):
                world.complain(f"{record.number} was accepted and is in no stream")

    def _check_order(self, user: str, records: list["Published"]) -> None:
        """What was accepted before something else was sent comes before it."""
        earliest = inf
        for record in reversed(records):
            if earliest < record.asked - _ROUNDING:
                self._world.complain(f"{record.number} of {user} stands before what was accepted earlier")
            earliest = min(earliest, record.told)

    def _may_be_twice(
        self, record: "Published", one: tuple[str, str, float], other: tuple[str, str, float]
    ) -> bool:
        """Ids are forgotten with a node's memory, where few are remembered, and after some time."""
        settings = self._world.settings
        forgotten = (
            settings.idempotency_events < 1000 or other[2] >= one[2] + settings.idempotency_seconds - 1
        )
        forgotten = forgotten or self._world.stepped
        new_memory = self._world.plan.engine == "memory" and one[:2] != other[:2]
        return record.id is not None and (forgotten or new_memory)

    def _may_be_lost(self, record: "Published") -> bool:
        """What was accepted and not routed is lost with a node's memory; for Redis see `Handovers`."""
        if self._world.plan.engine != "memory":
            handovers = self._world.handovers
            return any(
                handovers.may_be_gone(user, epoch, fact) or handovers.was_begun_anew(user, line, fact)
                for (user, epoch), line in self._world.truth.lines.items()
                for fact in line.facts
                if fact.number == record.number
            )
        # A node that has drained has no device that could still be told of it.
        return record.node is not None and (record.node.killed or record.node.draining)

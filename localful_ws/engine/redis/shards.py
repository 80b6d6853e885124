"""The servers that have the keys: a single one, the one that the Sentinels name, or those of a Cluster.

What concerns one server ends there: the others are written to, read and heard meanwhile.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import trio

from localful_ws.engine.redis.cluster import ClusterMap
from localful_ws.engine.redis.errors import NOT_READY, RedisRefusedError, RedisUnavailableError
from localful_ws.engine.redis.keys import SLOTS, hash_slot
from localful_ws.engine.redis.link import Link, Server
from localful_ws.engine.redis.lua import Script
from localful_ws.engine.redis.rounds import Rounds
from localful_ws.engine.redis.sentinels import Sentinels
from localful_ws.engine.redis.servers import Place, Servers
from localful_ws.engine.redis.shard import PATIENCE, Shard, ShardOwner
from localful_ws.redis_url import Deployment
from localful_ws.wakeup import Signal

Argument = str | bytes | int | float

PASSING: Final = NOT_READY | {"TRYAGAIN", "ASK"}
"""What a slot on its way in a Cluster, or a server that is just being replaced, answers."""

_REDIRECTION: Final = re.compile(r"\S+ (\d{1,5}) (\S*):(\d{1,5})(?!\S)", re.ASCII)
_PASSING_PAUSE: Final = 0.03
# All that is asked of the same server waits meanwhile.
_REPLICAS_MS: Final = 500


class Shards:
    """All of them, and which has what.

    Args:
        servers: What the URL says.
        owner: Whose they are.
        longest_pause: The most seconds between two attempts to reach one.
        replicas: How many replicas must have a write before it can be relied on.

    Attributes:
        servers: As above.
        owner: As above.
        longest_pause: As above.
        is_cluster: Whether the keys are spread over several servers, so that a script may use those of one
            slot only.
        losses: How often one was lost.
    """

    def __init__(
        self, servers: Servers, owner: ShardOwner, longest_pause: float, *, replicas: int = 0
    ) -> None:
        self.servers = servers
        self.owner = owner
        self.longest_pause = longest_pause
        self.losses = 0
        deployment = servers.address.deployment
        self.is_cluster = deployment is Deployment.CLUSTER
        self._replicas = replicas
        self._sentinels: Sentinels | None = None
        if deployment is Deployment.SENTINEL:
            self._sentinels = Sentinels(servers, self._take_named)
        # In a Cluster nobody has anything as long as nothing is known of it.
        single = deployment is Deployment.SINGLE
        self.first = Shard(self, servers.first[0] if single else None)
        self.of_slot: list[Shard] = [self.first] * (SLOTS if self.is_cluster else 1)
        self.by_place: dict[Place, Shard] = {}
        self._changed = Signal()
        self._nursery: trio.Nursery | None = None
        self.tried = False

    @property
    def publish_command(self) -> str:
        """The command by which scripts publish."""
        return "SPUBLISH" if self.is_cluster else "PUBLISH"

    def of(self, name: str | bytes) -> Shard:
        """Who has a key or channel."""
        if not self.is_cluster:
            return self.of_slot[0]
        return self.of_slot[hash_slot(name.encode() if isinstance(name, str) else name)]

    async def run(self) -> None:
        """Stay connected to all until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self.is_cluster:
                await ClusterMap(self).keep()
            else:
                if self._sentinels is not None:
                    nursery.start_soon(self._sentinels.run)
                await self.first.run()

    # --- commands ---

    async def run_script(
        self,
        script: Script,
        keys: Sequence[str | bytes],
        arguments: Sequence[Argument] = (),
        *,
        is_patient: bool = True,
    ) -> Any:
        """Run a script where its first key is.

        Args:
            script: The script.
            keys: Its keys, in a Cluster all of one slot.
            arguments: Its arguments.
            is_patient: Whether to wait for what passes (`PASSING`), however long that takes.

        Raises:
            RedisUnavailableError: If Redis is away.
            RedisRefusedError: If Redis does not do it.
        """
        [reply] = await self.run_scripts(script, [(keys, arguments)], is_patient=is_patient)
        return reply

    async def run_scripts(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str | bytes], Sequence[Argument]]],
        written: Callable[[list[Any]], None] | None = None,
        *,
        is_patient: bool = True,
    ) -> list[Any]:
        """Run a script several times at once, and return its replies.

        Args:
            script: The script.
            calls: Keys, in a Cluster all of one slot, and arguments.
            written: Given if what it writes is to be relied on: called with the replies. Then it is seen that
                the servers are still those to write to, and that as many replicas have it as must.
            is_patient: As above.

        Raises:
            RedisUnavailableError: If Redis is away, or what was written can't be relied on.
            RedisRefusedError: If Redis does not do it.
        """
        commands: list[tuple[str | bytes, tuple[Argument, ...]]] = [
            (keys[0], ("EVALSHA", script.digest, len(keys), *keys, *arguments)) for keys, arguments in calls
        ]
        links = [await self.link_to(key) for key, _ in commands]
        sent = [link.send(*command) for link, (_, command) in zip(links, commands, strict=True)]
        replies = []
        for index, (key, command) in enumerate(commands):
            try:
                reply = await sent[index].wait()
            except RedisRefusedError as error:
                try:
                    links[index], reply = await self._again(
                        error, key, command, script, is_patient=is_patient
                    )
                except RedisRefusedError as refused:
                    if written is not None:
                        self.owner.wrote(self.of(key), script, refused)
                    raise
            replies.append(reply)
        if written is not None:
            written(replies)
            for key, _ in commands:
                self.owner.wrote(self.of(key), script, None)
            for link in dict.fromkeys(links):
                if link.confirming is not None:
                    await link.confirming.join()
        return replies

    async def call(self, key: str | bytes, *command: Argument) -> Any:
        """Have a command done where a key is; raises like `run_script`."""
        try:
            return await (await self.link_to(key)).call(*command)
        except RedisRefusedError as error:
            return (await self._again(error, key, command, None))[1]

    async def link_to(self, key: str | bytes) -> Link:
        """The connection to who has a key; one that was just lost is waited for.

        Raises:
            RedisUnavailableError: If there is none.
        """
        while True:
            shard = self.of(key)
            if shard.link is not None:
                return shard.link
            if not shard.is_expected:
                raise RedisUnavailableError("Redis can't be reached just now.")
            with trio.move_on_at(shard.expected_until):
                await self._changed.wait()

    async def wait_for(self, key: str | bytes) -> None:
        """Wait until who has a key is there."""
        while self.of(key).link is None:
            await self._changed.wait()

    async def _again(
        self,
        error: RedisRefusedError,
        key: str | bytes,
        command: Sequence[Argument],
        script: Script | None,
        *,
        is_patient: bool = True,
    ) -> tuple[Link, Any]:
        """Go after an answer that says where, how, or when to ask again; raises any other."""
        while True:
            link: Link | None = None
            if error.code == "NOSCRIPT" and script is not None:
                command = ("EVAL", script.text, *command[2:])
            elif error.code == "MOVED" and (moved := self._read_redirection(error)):
                self.give(moved)
            elif error.code == "ASK" and (link := self._link_to_ask(error)) is not None:
                link.send("ASKING")
            elif error.code in PASSING and is_patient:
                await trio.sleep(_PASSING_PAUSE)
            else:
                if error.code == "READONLY":
                    self.of(key).restart()
                raise error
            if link is None:
                link = await self.link_to(key)
            try:
                return link, await link.call(*command)
            except RedisRefusedError as refused:
                error = refused

    # --- who is there ---

    async def wait_change(self) -> None:
        """Wait until one is there that was not, or was lost."""
        await self._changed.wait()

    def note_change(self) -> None:
        """A shard is there, or was lost."""
        self._changed.set()
        self.owner.changed()

    def note_loss(self) -> None:
        """One was lost, or could not be reached."""
        self.tried = True
        self.note_change()

    async def find(self, shard: Shard) -> Server:
        """Which server a shard is to be on.

        Raises:
            RedisUnavailableError: If that can't be said.
        """
        if self._sentinels is not None:
            return self.servers.at(await self._sentinels.find())
        if shard.server is None:
            raise RedisUnavailableError("Nothing is known of the Cluster.")
        return shard.server

    def make_rounds(self, link: Link) -> Rounds | None:
        """What it takes to see that writes over a connection can be relied on; None if nothing."""
        sentinels, replicas = self._sentinels, self._replicas
        checks: list[Callable[[], Awaitable[None]]] = []
        if replicas:

            async def wait_for_replicas() -> None:
                if await link.call("WAIT", replicas, _REPLICAS_MS) < replicas:
                    raise RedisUnavailableError(f"Fewer than {replicas} replicas have taken it.")

            checks.append(wait_for_replicas)
        if sentinels is not None:
            place = (link.server.host, link.server.port or 0)
            checks.append(lambda: sentinels.confirm(place))
        return Rounds(checks) if checks else None

    def _take_named(self, place: Place) -> None:
        server = self.first.server
        if server is not None and (server.host, server.port) != place:
            self.first.restart()

    # --- the map of a Cluster ---

    def take_moved(self, error: RedisRefusedError) -> None:
        """Take note that a slot is elsewhere."""
        self.give(self._read_redirection(error))

    def shard_at(self, place: Place) -> Shard:
        """The server at a place, which is connected to from now on."""
        shard = self.by_place.get(place)
        if shard is None:
            shard = self.by_place[place] = Shard(self, self.servers.at(place))
            shard.expect(PATIENCE)
            if self._nursery is not None:
                self._nursery.start_soon(self._run_shard, shard)
        return shard

    def _read_redirection(self, error: RedisRefusedError) -> dict[int, Shard]:
        """Who ``MOVED 3999 host:port`` and ``ASK 3999 host:port`` send us to; no host is the one we know.

        Nobody if it can't be understood.
        """
        said = _REDIRECTION.match(str(error))
        if said is None or not self.is_cluster or int(said[1]) >= SLOTS:
            return {}
        return {int(said[1]): self.shard_at((said[2] or self.servers.first[0].host, int(said[3])))}

    def _link_to_ask(self, error: RedisRefusedError) -> Link | None:
        return next((shard.link for shard in self._read_redirection(error).values()), None)

    async def _run_shard(self, shard: Shard) -> None:
        with shard.scope:
            await shard.run()

    def give(self, slots: Mapping[int, Shard]) -> None:
        """Have slots belong to these; those who follow what is in them are told to look anew."""
        moved = False
        for slot, shard in slots.items():
            before = self.of_slot[slot]
            if before is not shard:
                moved = True
                self.of_slot[slot] = shard
                for channel in before.subscriptions.wanted_in(slot):
                    before.subscriptions.drop(channel)
                    shard.subscriptions.want(channel)
        if moved:
            self.note_change()

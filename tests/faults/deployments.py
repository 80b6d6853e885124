"""Redis as it is deployed in production, with what goes wrong there: Sentinel, Cluster, refused writes."""

from abc import ABC, abstractmethod
from binascii import crc_hqx
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import trio
from attrs import Factory, define

from tests.redis_server import RedisServer, redis_cluster, redis_replicas, redis_sentinels

from .plan import Fault, Trouble
from .refusals import Spell
from .resp import RedisReplyError, command
from .streams import stream_key
from .troubles import MASTERS

SLOTS = 16384
_NAME = "main"
_LOOK = 0.02
_WITHIN = 15.0
"""Seconds within which a failover must be over, as far as Redis is concerned."""
_KEYS_AT_ONCE = 100
Address = tuple[str, int]


def slot_of(user: str) -> int:
    """The slot of a Cluster that a user's keys are in."""
    _, _, rest = stream_key(user).partition("{")
    return crc_hqx(rest.partition("}")[0].encode(), 0) % SLOTS


def master_of(user: str) -> int:
    """The number of the master of a Cluster that a user is on at first."""
    # The first of them may have a slot less than the others: see `redis_cluster`.
    return next(index for index in range(MASTERS) if slot_of(user) < SLOTS * (index + 1) // MASTERS)


def masters_of(users: Iterable[str]) -> dict[str, int]:
    """The numbers of the masters of a Cluster that users are on at first."""
    return {user: master_of(user) for user in users}


@define(eq=False)
class Deployment(ABC):
    """Servers, and what befalls them.

    Attributes:
        users: The users.
        spells: What has befallen them.
    """

    about: ClassVar[str]
    refuses_only_in_spells: ClassVar[bool] = False
    """Whether no publish may fail outside of `spells`."""
    whole_streams: ClassVar[bool] = False
    """Whether the streams have everything in the end, so that they are the truth."""

    users: Collection[str]
    spells: list[Spell] = Factory(list)

    @contextmanager
    @abstractmethod
    def open(self) -> Iterator[str]:
        """Run them for the length of a block; the setting ``engine`` comes back."""
        yield ""

    @abstractmethod
    async def carry_out(self, fault: Fault) -> None:
        """Have something go wrong, and wait until it is over."""

    @abstractmethod
    async def stream_of(self, user: str) -> list[Any]:
        """All entries of a user's stream, as the server has them that is the master in the end."""

    def lossy(self) -> frozenset[str]:
        """The users of whose streams Redis may have lost the end."""
        return frozenset(user for spell in self.spells if spell.what in _CRASHES for user in spell.users)

    def _spell(self, what: str, began: float, users: Collection[str]) -> None:
        self.spells.append(Spell(what, began, trio.current_time(), frozenset(users)))


_CRASHES = {Trouble.KILL_MASTER.value, Trouble.STALL_MASTER.value}


async def _read_stream(server: Address, user: str) -> Any:
    return await command(server, "XRANGE", stream_key(user), "-", "+")


def _at(server: RedisServer) -> Address:
    return "127.0.0.1", server.port


@define(eq=False)
class Sentinel(Deployment):
    """A master, two replicas and three sentinels."""

    about = "a master, two replicas, three sentinels: SENTINEL FAILOVER, though nothing is wrong"
    _servers: list[RedisServer] = Factory(list)
    _sentinels: list[RedisServer] = Factory(list)

    @contextmanager
    def open(self) -> Iterator[str]:
        """See `Deployment`."""
        config = (
            f"sentinel down-after-milliseconds {_NAME} 1000",
            f"sentinel failover-timeout {_NAME} 2000",
        )
        with (
            redis_replicas(2, appendonly=True) as self._servers,
            redis_sentinels(self._servers[0], _NAME, 3, *config, replicas=2) as self._sentinels,
        ):
            hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self._sentinels)
            yield f"redis+sentinel://{hosts}/{_NAME}"

    async def carry_out(self, fault: Fault) -> None:
        """See `Deployment`."""
        before = await self._master()
        began = trio.current_time()
        if fault.kind is Trouble.SENTINEL_FAILOVER:
            await self._ask_for_failover()
            await self._wait_for_another(before)
            self._spell(fault.kind.value, began, self.users)
            return
        (server,) = [each for each in self._servers if each.port == before]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_be_gone, server, fault)
            await self._wait_for_another(before)
            self._spell(fault.kind.value, began, self.users)

    async def stream_of(self, user: str) -> Any:
        """See `Deployment`."""
        return await _read_stream(("127.0.0.1", await self._master()), user)

    async def _master(self) -> int:
        """The port of the master, once all sentinels agree on it."""
        with trio.fail_after(_WITHIN):
            while True:
                said = {
                    tuple(await command(_at(sentinel), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", _NAME))
                    for sentinel in self._sentinels
                }
                if len(said) == 1:
                    return int(said.pop()[1])
                await trio.sleep(_LOOK)

    async def _ask_for_failover(self) -> None:
        """Ask for one; a sentinel that is still at the last one, or has no good replica, is asked again."""
        with trio.fail_after(_WITHIN):
            while True:
                for sentinel in self._sentinels:
                    with suppress(RedisReplyError):
                        await command(_at(sentinel), "SENTINEL", "FAILOVER", _NAME)
                        return
                await trio.sleep(_LOOK)

    async def _wait_for_another(self, before: int) -> None:
        with trio.fail_after(_WITHIN):
            while await self._master() == before:  # noqa: ASYNC110 (nobody says so)
                await trio.sleep(_LOOK)


@define(eq=False)
class CrashingSentinel(Sentinel):
    """The same, whose master is killed or stopped; see `Sentinel`."""

    about = "the same: the master is killed or stopped, once with its replicas behind, and comes back"


_NO_REPLICATION = ("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
_REPLICATION = ("ACL", "SETUSER", "default", "+@all")


async def _be_gone(server: RedisServer, fault: Fault) -> None:
    """Kill or stop a server, whose replicas may be behind by then, and have it back after a while."""
    if fault.behind:
        for each in (_NO_REPLICATION, ("CLIENT", "KILL", "TYPE", "replica")):
            await command(_at(server), *each)
        await trio.sleep(fault.behind)
    if fault.kind is Trouble.KILL_MASTER:
        await trio.to_thread.run_sync(server.kill)
        await trio.sleep(fault.seconds)
        await trio.to_thread.run_sync(server.start)
    else:
        server.pause()
        try:
            await trio.sleep(fault.seconds)
        finally:
            server.resume()
        await command(_at(server), *_REPLICATION)


@define(eq=False)
class Cluster(Deployment):
    """A Cluster of three masters."""

    about = "a Cluster of three masters, between which the slots of users are moved, key by key"
    refuses_only_in_spells = True
    whole_streams = True
    _servers: list[RedisServer] = Factory(list)
    _ids: list[str] = Factory(list)
    _owners: dict[str, list[int]] = Factory(dict)

    @contextmanager
    def open(self) -> Iterator[str]:
        """See `Deployment`."""
        with self._open() as self._servers:
            self._ids = [server.cli("cluster", "myid") for server in self._servers]
            self._owners = {user: [master_of(user)] for user in self.users}
            hosts = ",".join(f"127.0.0.1:{server.port}" for server in self._servers)
            yield f"redis+cluster://{hosts}"

    @contextmanager
    def _open(self) -> Iterator[list[RedisServer]]:
        with redis_cluster(MASTERS) as servers:
            yield servers

    async def carry_out(self, fault: Fault) -> None:
        """Move a slot, key by key, with all the others of the slot staying behind for a while."""
        assert fault.user is not None
        owners = self._owners[fault.user]
        if fault.place:
            there = (owners[-1] + fault.place) % MASTERS
        else:
            there = owners[-2] if len(owners) > 1 else (owners[-1] + 1) % MASTERS
        began = trio.current_time()
        await self._move(slot_of(fault.user), owners[-1], there, fault.seconds)
        owners.append(there)
        self._spell(fault.kind.value, began, [fault.user])

    async def _move(self, slot: int, here: int, there: int, seconds: float) -> None:
        source, target = _at(self._servers[here]), _at(self._servers[there])
        await command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self._ids[here])
        await command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self._ids[there])
        rested = False
        while keys := await command(source, "CLUSTER", "GETKEYSINSLOT", slot, _KEYS_AT_ONCE):
            some = keys if rested else keys[: max(1, len(keys) // 2)]
            await command(source, "MIGRATE", *target, "", 0, 2000, "KEYS", *some)
            if not rested:
                await trio.sleep(seconds)
                rested = True
        for index in (there, here, *range(MASTERS)):
            await command(_at(self._servers[index]), "CLUSTER", "SETSLOT", slot, "NODE", self._ids[there])

    async def stream_of(self, user: str) -> Any:
        """See `Deployment`."""
        return await _read_stream(_at(self._servers[self._owners[user][-1]]), user)


@define(eq=False)
class ReplicatedCluster(Cluster):
    """A Cluster of three masters with a replica each."""

    about = "a Cluster of three masters with a replica each: one is killed, one fails over as planned"
    whole_streams = False

    @contextmanager
    def _open(self) -> Iterator[list[RedisServer]]:
        # Otherwise no slot is served while one has no master.
        options = ("--cluster-require-full-coverage", "no")
        with redis_cluster(MASTERS, 1, *options, appendonly=True) as servers:
            yield servers

    async def carry_out(self, fault: Fault) -> None:
        """See `Deployment`."""
        master, replica = self._servers[fault.place], self._servers[MASTERS + fault.place]
        users = [user for user in self.users if master_of(user) == fault.place]
        began = trio.current_time()
        if fault.kind is Trouble.CLUSTER_FAILOVER:
            await command(_at(replica), "CLUSTER", "FAILOVER")
            await self._wait_for_role(replica, "master")
            self._spell(fault.kind.value, began, users)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_be_gone, master, fault)
            await self._wait_for_role(replica, "master")
            self._spell(fault.kind.value, began, users)
        await self._wait_for_role(master, "slave")

    async def stream_of(self, user: str) -> Any:
        """See `Deployment`."""
        number = master_of(user)
        for server in (self._servers[number], self._servers[MASTERS + number]):
            if (await command(_at(server), "ROLE"))[0] == "master":
                return await _read_stream(_at(server), user)
        raise AssertionError(f"nobody has the slot of {user}")

    async def _wait_for_role(self, server: RedisServer, role: str) -> None:
        with trio.fail_after(_WITHIN):
            while (await command(_at(server), "ROLE"))[0] != role:  # noqa: ASYNC110 (nobody says so)
                await trio.sleep(_LOOK)


_REFUSE: dict[Trouble, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Trouble.OUT_OF_MEMORY: (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    Trouble.NO_REPLICAS: (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
    # Nobody listens there: it keeps what it has, and waits.
    Trouble.READ_ONLY: (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    Trouble.NO_PERMISSION: (
        ("ACL", "SETUSER", "default", "-@write"),
        ("ACL", "SETUSER", "default", "+@all"),
    ),
}


@define(eq=False)
class Refusing(Deployment):
    """One server that refuses writes for spells."""

    about = "one Redis, which refuses writes for spells: OOM, NOREPLICAS, READONLY, NOPERM"
    refuses_only_in_spells = True
    whole_streams = True
    _servers: list[RedisServer] = Factory(list)

    @contextmanager
    def open(self) -> Iterator[str]:
        """See `Deployment`."""
        with RedisServer() as server:
            self._servers = [server]
            yield server.url

    async def carry_out(self, fault: Fault) -> None:
        """See `Deployment`."""
        assert isinstance(fault.kind, Trouble)
        begin, end = _REFUSE[fault.kind]
        (server,) = self._servers
        began = trio.current_time()
        await command(_at(server), *begin)
        refused = trio.current_time()
        await trio.sleep(fault.seconds)
        refusing = (refused, trio.current_time())
        await command(_at(server), *end)
        self.spells.append(
            Spell(fault.kind.value, began, trio.current_time(), frozenset(self.users), refusing)
        )

    async def stream_of(self, user: str) -> Any:
        """See `Deployment`."""
        (server,) = self._servers
        return await _read_stream(_at(server), user)


DEPLOYMENTS: dict[str, type[Deployment]] = {
    "sentinel-planned": Sentinel,
    "sentinel-crash": CrashingSentinel,
    "cluster-slots": Cluster,
    "cluster-failover": ReplicatedCluster,
    "refused-writes": Refusing,
}

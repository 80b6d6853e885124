"""Runs on Redis as it is deployed in production, which fails over, moves slots, and refuses writes."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

import httpx
import trio
from attrs import Factory, define, field

from .aof import read_entry
from .check import check_devices, check_streams
from .deployments import DEPLOYMENTS, Cluster, Deployment, ReplicatedCluster, master_of, masters_of
from .devices import Device
from .nodes import Node
from .one_redis import EVERYTHING
from .plan import Fault, Kind, Trouble
from .publisher import SMALL_BATCHES, OverHttp, Publisher, make_http
from .reader import Audience, Rules, Stream
from .refusals import Look, check_ready, check_refusals, check_spells, check_waits
from .revoking import Login, Revoker, check_login, make_logins, try_all
from .run import DEVICES, GROUPS, USERS, VAULTS, Mode, Run
from .told import Told, check_told, had_by_everybody
from .troubles import make_troubles, moved_users, quiet_users

PRODUCTION = Mode(EVERYTHING, Rules(always_resumes=False), may_log_errors=True)
PUBLISHERS = 8
"""Together they publish some 200 times a second."""
NOTICED_WITHIN = 3.0
"""Seconds within which a node must say that it is not ready when writes are refused."""
READY_AFTER = 2.0
"""Seconds within which it must be ready again."""
SERVED_AFTER = 2.0
"""Seconds after some trouble in which a publish may still fail."""
WAIT_AT_MOST = 3.0
"""Seconds that an event may wait for, beside the time for which its slot has no master."""
_LOOK_PAUSE = 0.1


@define(eq=False)
class ProductionStorm:
    """Carries out troubles one after another, while devices reset their connections and logins are ended.

    Attributes:
        deployment: What they befall.
        devices: The devices, in the order of their numbers.
        revoker: Ends logins.
    """

    deployment: Deployment
    devices: Sequence[Device]
    revoker: Revoker

    async def run(self, plan: Sequence[Fault]) -> None:
        """Carry out a whole plan; afterwards everything runs again."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.revoker.run)
            nursery.start_soon(self._reset, plan, trio.current_time())
            await self._trouble(plan, trio.current_time())

    async def _reset(self, plan: Sequence[Fault], began: float) -> None:
        for fault in plan:
            if isinstance(fault.kind, Kind):
                await trio.sleep_until(began + fault.at)
                for number in fault.devices:
                    self.devices[number].reset(fault.seconds)

    async def _trouble(self, plan: Sequence[Fault], began: float) -> None:
        for fault in plan:
            if isinstance(fault.kind, Trouble):
                await trio.sleep_until(began + fault.at)
                await self.deployment.carry_out(fault)


@define(eq=False)
class Production(Run):
    """A run on a deployment; see `Run`.

    Attributes:
        name: One of `DEPLOYMENTS`.
    """

    name: str = ""
    _deployment: Deployment = field(init=False)
    _http: OverHttp = field(init=False)
    _logins: list[Login] = Factory(list)
    _revoker: Revoker = field(init=False)
    _looks: list[Look] = Factory(list)

    @property
    def plan(self) -> list[Fault]:
        """The faults."""
        return make_troubles(self.name, self.seed, self.seconds, DEVICES, masters_of(USERS))

    @contextmanager
    def open_redis(self) -> Iterator[str]:
        """See `Run`."""
        self._deployment = DEPLOYMENTS[self.name](USERS)
        with self._deployment.open() as url:
            yield url

    def make_storm(self, processes: trio.Nursery) -> ProductionStorm:
        """See `Run`."""
        self._logins = make_logins(self.seed, self.seconds, self._users_of_logins(), self.nodes)
        self._revoker = Revoker(self._logins, self.nodes, Random(f"{self.seed} revoker"))
        return ProductionStorm(self._deployment, self.devices, self._revoker)

    def make_publishers(self, http: httpx.AsyncClient) -> list[Publisher]:
        """Each publishes for users who have the same troubles, so that none waits for another's."""
        urls = [node.internal_url for node in self.nodes.values()]
        self._http = OverHttp(
            http,
            urls,
            Random(f"{self.seed} http"),
            self.outcome.complaints,
            divided=isinstance(self._deployment, Cluster),
        )
        crowds = self._crowds()
        publishers = []
        for number in range(PUBLISHERS):
            crowd = dict.fromkeys(crowds[number % len(crowds)], GROUPS)
            random = Random(f"{self.seed} http{number}")
            publishers.append(Publisher(f"http{number}", self._http, random, crowd, VAULTS, SMALL_BATCHES))
        return publishers

    def _crowds(self) -> list[list[str]]:
        moved = moved_users(self.plan)
        crowds: dict[tuple[int, bool], list[str]] = defaultdict(list)
        for user in USERS:
            master = master_of(user) if isinstance(self._deployment, ReplicatedCluster) else 0
            crowds[master, user in moved].append(user)
        return list(crowds.values())

    def _users_of_logins(self) -> list[str]:
        """Those whose devices are never all away: nobody else's may be there then either."""
        return [user for user in USERS if user not in quiet_users(self.plan)]

    def accompany(self, nursery: trio.Nursery) -> None:
        """Have logins knock, and look whether the nodes are ready."""
        for login in self._logins:
            nursery.start_soon(login.run)
        for node in self.nodes.values():
            nursery.start_soon(self._look, node)

    async def _look(self, node: Node) -> None:
        async with make_http() as http:
            while True:
                at = trio.current_time()
                try:
                    ready = (await http.get(f"{node.internal_url}/readyz")).status_code == 200
                except httpx.TransportError:
                    ready = False
                self._looks.append(Look(node.name, at, ready))
                await trio.sleep(_LOOK_PAUSE)

    async def conclude(self, processes: trio.Nursery) -> None:
        """Start a node anew, and see that no node lets in a token whose login was ended."""
        node = next(iter(self.nodes.values()))
        await node.kill()
        await node.start(processes)
        self.outcome.complaints += await try_all(self._logins, self.nodes)

    def write_down(self) -> None:
        """See `Run`."""
        super().write_down()
        for login in self._logins:
            self.write_log(login, f"{login.group}.log")

    async def check(self, publishers: Sequence[Publisher]) -> list[str]:
        """Compare what devices were told with what publishers were promised, and with what is left."""
        deployment = self._deployment
        lossy = deployment.lossy()
        sent = [each for some in publishers for each in some.sent]
        told = [
            Told(Audience(device.name, device.group, device.vaults), device.user, device.log, device.times)
            for device in self.devices
        ]
        self.streams = {
            user: Stream(
                [
                    read_entry(entry_id, dict(zip(fields[::2], fields[1::2], strict=True)))
                    for entry_id, fields in await deployment.stream_of(user)
                ]
            )
            for user in USERS
        }
        left = {entry.data["id"] for stream in self.streams.values() for entry in stream.entries}
        lost = [each for some in publishers for each in some.published if each.id not in left]
        excused = had_by_everybody(told, sent) | {each.id for each in lost if each.user in lossy}
        kept = [
            each
            for some in publishers
            for each in some.published
            if each.id in left or each.id not in excused
        ]
        complaints = check_streams(kept, self.streams)
        complaints += check_told(told, sent, lossy)
        if deployment.whole_streams:
            complaints += check_devices(self.devices, self.streams, self.mode.rules)
        for login in self._logins:
            complaints += check_login(login)
        complaints += self._revoker.complaints
        answers, spells = self._http.answers, deployment.spells
        if deployment.refuses_only_in_spells:
            complaints += check_refusals(answers, spells, SERVED_AFTER)
        if isinstance(deployment, ReplicatedCluster):
            complaints += check_waits(sent, spells, WAIT_AT_MOST)
        complaints += check_spells(answers, spells)
        if any(spell.refusing for spell in spells):
            looks = [look for look in self._looks if look.at > self.storm_began]
            complaints += check_ready(looks, spells, NOTICED_WITHIN, READY_AFTER)
        self.outcome.figures |= {
            "publishes": len(answers),
            "not answered with 202": sum(answer.status != 202 for answer in answers),
            "accepted events not in the streams in the end": len(lost),
            "longest wait in milliseconds": round(
                1000 * max(each.accepted - each.began for each in sent if each.accepted < math.inf)
            ),
            "logins ended": len(self._logins),
        }
        self.outcome.notes += [
            f"{spell.began - self.storm_began:6.2f} to {spell.ended - self.storm_began:6.2f}  {spell.what}"
            for spell in spells
        ]
        return complaints

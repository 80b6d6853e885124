"""Runs on one Redis, which is killed, paused, and in one mode loses the end of its file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

import httpx
import trio
from attrs import define, field

from tests.redis_server import RedisServer

from .check import check_devices, check_streams
from .plan import Fault, make_plan
from .publisher import OverHttp, OverIntake, Publisher
from .reader import Rules
from .resp import command
from .run import DEVICES, GROUPS, SETTINGS, USERS, VAULTS, Mode, Run, Settings
from .storm import Storm
from .streams import read_all, start_redis

HTTP_PUBLISHERS = 3
INTAKE_LOOKS = 50

EVERYTHING: Settings = {
    **SETTINGS,
    "history-events": 1_000_000,
    "send-buffer-events": 1_000_000,
    "send-buffer-bytes": "64MiB",
    "send-budget": "256MiB",
    "redis-queue-bytes": "16KiB",
}
_LITTLE: Settings = {**SETTINGS, "history-events": 10, "send-buffer-events": 8, "redis-queue-bytes": "2KiB"}
MODES = {
    "long-history": Mode(EVERYTHING, Rules()),
    "short-history": Mode(_LITTLE, Rules(always_resumes=False)),
    # What it loses no node gives back here; that they do is seen in deployments.
    "lossy-redis": Mode(
        {**EVERYTHING, "redis-handover-seconds": 0}, Rules(always_resumes=False, loses_end=True)
    ),
}


@define(eq=False)
class OneRedis(Run):
    """A run on one Redis; see `Run`."""

    _redis: RedisServer = field(init=False)
    _storm: Storm = field(init=False)

    @property
    def plan(self) -> list[Fault]:
        """The faults."""
        return make_plan(self.seed, self.seconds, DEVICES)

    @contextmanager
    def open_redis(self) -> Iterator[str]:
        """See `Run`."""
        with start_redis() as self._redis:
            yield self._redis.url

    def make_storm(self, processes: trio.Nursery) -> Storm:
        """See `Run`."""
        loses_end = self.mode.rules.loses_end
        self._storm = Storm(self.nodes, self._redis, self.devices, processes, loses_end)
        return self._storm

    def make_publishers(self, http: httpx.AsyncClient) -> list[Publisher]:
        """Some over HTTP through any node, and one through the intake."""
        urls = [node.internal_url for node in self.nodes.values()]
        groups = dict.fromkeys(USERS, GROUPS)
        over_http = OverHttp(http, urls, Random(f"{self.seed} http"), self.outcome.complaints)
        over_intake = OverIntake(("127.0.0.1", self._redis.port))
        publishers = []
        for number in range(HTTP_PUBLISHERS + 1):
            deliver = over_http if number < HTTP_PUBLISHERS else over_intake
            name = f"http{number}" if number < HTTP_PUBLISHERS else "intake"
            publishers.append(Publisher(name, deliver, Random(f"{self.seed} {name}"), groups, VAULTS))
        return publishers

    def accompany(self, nursery: trio.Nursery) -> None:
        """There is nothing else."""

    async def conclude(self, processes: trio.Nursery) -> None:
        """See that all is taken from the intake, and nothing was rejected."""
        address = ("127.0.0.1", self._redis.port)
        waiting = 0
        for _ in range(INTAKE_LOOKS):
            waiting = await command(address, "XLEN", "localful:intake")
            if not waiting:
                break
            # What was published last may still have to be taken out.
            await trio.sleep(0.1)
        rejected = await command(address, "XLEN", "localful:intake:rejected")
        if rejected or waiting:
            self.outcome.complaints.append(f"the intake has rejected {rejected} and left {waiting}")

    async def check(self, publishers: Sequence[Publisher]) -> list[str]:
        """Compare what devices were told with all that was ever in the streams."""
        rules = self.mode.rules
        self.streams, complaints = await read_all(
            self._redis, USERS, all_kept=rules.always_resumes, earlier=self._storm.written
        )
        published = [each for some in publishers for each in some.published]
        # What Redis loses of the intake may never have been in a stream.
        unsure = {"intake"} if rules.loses_end else set()
        complaints += check_streams(published, self.streams, unsure)
        complaints += check_devices(self.devices, self.streams, rules)
        return complaints

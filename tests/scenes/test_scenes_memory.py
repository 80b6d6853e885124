"""Every scene, played on a whole daemon over memory streams, on a clock that jumps."""

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from localful_ws.conform.device import LiveDevice
from localful_ws.conform.live import LiveStage, Tolerance
from localful_ws.conform.play import play
from localful_ws.conform.scenes import Scene, read_scenes
from localful_ws.conform.terms import Issuer, Terms
from tests.scenes.memory_site import open_memory_site
from tests.world import REDIS, SECRET, STARTED, WORLDS

# Timers fire when they are due, and what follows takes no time.
EXACT = Tolerance(early=1e-6, late=1e-3, quiet=0.0)
SCENES = read_scenes()
# What is logged as a failure, and is the point of the scene.
COMPLAINTS = {
    "publish-without-the-key": {"a request without the publisher key was refused"},
    "a-fault-of-the-server": {"a connection failed"},
}
# Redis tells the time by a clock of its own, can't be lost at will, and takes real time over megabytes.
NEEDS_ANOTHER_CLOCK = {"history-seconds", "idempotency-seconds"}
MEGABYTES = {"slow-consumer", "slow-consumer-by-bytes"}


def can_be_on_redis(scene: Scene) -> bool:
    return (
        scene.wants <= {"drain", "keys-away", "keys-back"}
        and NEEDS_ANOTHER_CLOCK.isdisjoint(scene.given)
        and scene.name not in MEGABYTES
    )


@pytest.mark.kinds(*WORLDS)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_scene_in_memory(scene: Scene, kind: str, autojump_clock: MockClock) -> None:
    if kind == REDIS and not can_be_on_redis(scene):
        pytest.skip("Redis has a clock and a life of its own")
    async with open_memory_site(kind, scene) as site:
        async with trio.open_nursery() as nursery:
            stage = LiveStage(site, scene, nursery, site.world.began, EXACT, strict=True)
            await play(scene, stage, Terms(Issuer(SECRET), int(STARTED)))
            await stage.leave()
        assert set(site.world.take_failures()) == COMPLAINTS.get(scene.name, set())


async def test_a_device_that_stops_reading_twice_reads_again(nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    device = LiveDevice(trio.current_time, shows_pings=True)
    await device.connect(ours, nursery)
    for _ in range(2):
        await device.stop_reading()
        await wait_all_tasks_blocked()
    await theirs.send_all(b"anything")
    await wait_all_tasks_blocked()
    assert not device.seen
    await device.read_again()
    await wait_all_tasks_blocked()
    assert [seen.action for seen in device.seen] == ["gets-rubbish"]

"""What befalls nodes and the engine while a world is stormy."""

from random import Random
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from .nodes import SimulatedNode
    from .world import World


class Blows:
    """Deals blows, drawn from the plan.

    Args:
        world: Whom they befall.
        random: What they are drawn from.
    """

    def __init__(self, world: "World", random: Random) -> None:
        self._world = world
        self._random = random

    async def run(self) -> None:
        """Deal blows for as long as there are to be faults."""
        world, random = self._world, self._random
        blows = world.plan.blows
        if not blows:
            await trio.sleep(world.plan.seconds)
            return
        async with trio.open_nursery() as nursery:
            while True:
                wait = random.expovariate(sum(blows.values()) / 60)
                if trio.current_time() + wait > world.plan.seconds:
                    break
                await trio.sleep(wait)
                (blow,) = random.choices(list(blows), list(blows.values()))
                world.log("blow", blow)
                nursery.start_soon(self._deal, blow)

    async def _deal(self, blow: str) -> None:  # noqa: C901 - one case for each
        world, random = self._world, self._random
        match blow:
            case "drain":
                await self._restart(random.randrange(len(world.nodes)), kill=False)
            case "kill":
                await self._restart(random.randrange(len(world.nodes)), kill=True)
            case "disconnect-user":
                await self._disconnect(user=random.choice(world.users))
            case "disconnect-login":
                user = random.choice(world.users)
                await self._disconnect(user=user, group=random.choice(world.groups_of(user)))
            case "disconnect-group":
                await self._disconnect(group=random.choice(world.groups_of(random.choice(world.users))))
            case "pause":
                world.jump(random.choice((0.01, 1.0, 4.0, 40.0)) * random.random())
            case "wall-clock":
                world.step_wall_clock(random.choice((-3.0, 3.0, 20.0, 3600.0)) * random.random())
            case "reset-all":
                for device in world.devices:
                    if device.talk is not None:
                        device.talk.give_up("reset")
            case "probe":
                world.checks.look()
            case "redis-down":
                await self._take_redis_down(random.choice((0.2, 3.0, 15.0)) * random.random())
            case "redis-stall":
                self._disturb()
                if world.redis is not None:
                    world.redis.stall(random.choice((0.2, 2.0, 8.0)) * random.random())
            case "redis-lose-one":
                self._disturb()
                if world.redis is not None and world.redis.links:
                    world.redis.lose(random.choice(world.redis.links))
            case "redis-forget":
                self._disturb()
                if world.redis is not None:
                    world.redis.go_down()
                    world.redis.forget_streams()
                    await trio.sleep(0.2)
                    world.redis.up = True

            case "failover":
                late = random.choice((0.0, 4.0)) * random.random()
                await self._fail_over(
                    random.choice((0.05, 1.0, 5.0)) * random.random(),
                    random.choice((0.05, 0.05, 3.0)) * (0.5 + random.random()),
                    {random.randrange(len(world.nodes)): late},
                )

    async def _fail_over(self, lacking: float, down: float, late: dict[int, float]) -> None:
        """Have another server come in the place of Redis, that lacks what was written last.

        Args:
            lacking: In the last so many seconds.
            down: Seconds until it can be connected to.
            late: How many seconds later than others nodes can connect to it.
        """
        redis = self._world.redis
        self._disturb()
        if redis is not None and redis.up:
            self._world.handovers.fail_over(lacking)
            await trio.sleep(down)
            redis.up = True
            redis.cut_off = {node: trio.current_time() + seconds for node, seconds in late.items()}
            self._disturb()

    def _disturb(self) -> None:
        self._world.redis_disturbed = trio.current_time()

    async def _take_redis_down(self, seconds: float) -> None:
        redis = self._world.redis
        self._disturb()
        if redis is not None:
            redis.go_down()
            await trio.sleep(seconds)
            redis.up = True
            self._disturb()

    async def _restart(self, index: int, *, kill: bool) -> None:
        world = self._world
        node = world.nodes[index]
        if node is None or not node.ready or node.draining:
            return
        if kill:
            node.kill()
            self._cut_off(node)
        else:
            node.stop()
        await node.stopped.wait()
        world.checks.node_gone(node)
        self._cut_off(node)
        world.nodes[index] = None
        world.log(node.name, "is gone")
        await trio.sleep(self._random.random() * 2)
        await world.start_node(index)

    def _cut_off(self, node: "SimulatedNode") -> None:
        """What the kernel does for a process that is gone."""
        for device in self._world.devices:
            if device.talk is not None and device.talk.node is node:
                device.talk.link.break_off()

    async def _disconnect(self, *, user: str | None = None, group: str | None = None) -> None:
        world, random = self._world, self._random
        node = world.pick_node(random)
        if node is None:
            return
        named = {"user": user, "group": group}
        content: dict[str, object] = {key: value for key, value in named.items() if value is not None}
        until = None
        if random.random() < 0.5:
            until = node.clock.now() + random.uniform(1, 30)
            content["until"] = until
        before = world.wall()
        await world.checks.disconnect(node, content, before, until)

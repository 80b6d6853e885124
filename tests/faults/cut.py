"""Two nodes lose Redis over the network for a while, a third does not: ``python -m faults.cut``.

One node's packets vanish without a word, the other's link goes down. Run it in a network namespace of its
own; `tests/faults/test_cut.py` does.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from random import Random

import httpx
import trio
from attrs import define, frozen

from .check import check_devices, check_streams
from .devices import Authenticated, Device, Ended, Refused
from .network import Namespace, open_namespace, take_loopback_up
from .nodes import Node, make_token
from .publisher import OverHttp, OverIntake, Publisher, make_http
from .reader import Rules
from .streams import read_all, start_redis

CUT_SECONDS = 10.0
REDIS_TIMEOUT = 1.0
REDIS_RETRY = 1.0
# A silent loss shows after the longest pause between two pings and the wait for the answer to one.
NOTICED_WITHIN = 2 * REDIS_TIMEOUT + 1.0
ANSWERED_WITHIN = REDIS_TIMEOUT + 1.0
# A device that comes while Redis is away waits for it as long as it may take to authenticate.
AUTH_TIMEOUT = 1.0
BACK_WITHIN = REDIS_RETRY + 2 * REDIS_TIMEOUT + 1.0
DELIVERED_WITHIN = 2.0
# A node that read the intake and was cut off keeps the others from it for a while.
TAKEN_OVER_WITHIN = 5.0
WHOLE_WITHIN = 60.0

USERS = ("ada", "bob")
GROUPS = ("phone", "laptop", "tablet")
VAULTS = ("v0", "v1")
DEVICES_OF_A_NODE = 6
SETTINGS: dict[str, str | int | float] = {
    "redis-timeout": REDIS_TIMEOUT,
    "redis-retry": REDIS_RETRY,
    "auth-timeout": AUTH_TIMEOUT,
    "history-events": 100_000,
    "send-buffer-events": 100_000,
}
# What is done to a node's link to Redis, and undone.
Change = Callable[[Namespace], Awaitable[None]]


@define(eq=False)
class Site:
    """A node in its namespace, with devices that connect to it alone.

    Attributes:
        namespace: Where the node is.
        node: The node.
        devices: Its devices.
        publisher: A publisher that knows no other node.
    """

    namespace: Namespace
    node: Node
    devices: list[Device]
    publisher: Publisher

    async def wait_until_ready(self, http: httpx.AsyncClient, *, ready: bool, within: float) -> float:
        """Wait until ``/readyz`` says so, while ``/healthz`` says 200 all the time.

        Returns:
            After how many seconds it did.
        """
        began = trio.current_time()
        wanted = 200 if ready else 503
        with trio.move_on_after(within):
            while True:
                health = await http.get(f"{self.node.internal_url}/healthz")
                assert health.status_code == 200, f"{self.node.name}: healthz says {health.status_code}"
                readiness = await http.get(f"{self.node.internal_url}/readyz")
                if readiness.status_code == wanted:
                    return trio.current_time() - began
                await trio.sleep(0.05)
        raise AssertionError(f"{self.node.name}: readyz does not say {wanted} after {within:g} s")

    async def see_refusal(self, http: httpx.AsyncClient) -> None:
        """See that a publish is refused in time, with a time to come back."""
        body = {"event": "user-update", "user": USERS[0], "data": {"id": "never accepted"}}
        with trio.fail_after(ANSWERED_WITHIN):
            answer = await http.post(f"{self.node.internal_url}/v1/events", json=body)
        assert answer.status_code == 503, answer.text
        assert answer.json()["identifier"] == "engine-unavailable", answer.text
        assert int(answer.headers["retry-after"]) > 0

    async def see_newcomer_sent_away(self) -> None:
        """See that a device that comes now is told to come again later."""
        newcomer = make_device(99, self.node)
        with trio.fail_after(AUTH_TIMEOUT + ANSWERED_WITHIN):
            await newcomer.connect(self.node.name)
        assert newcomer.log == [Refused("try-again-later"), Ended(1013, "try-again-later")], newcomer.log

    def see_connections_stayed(self) -> None:
        """See that each device has had one connection, which is still there."""
        for device in self.devices:
            assert sum(isinstance(record, Authenticated) for record in device.log) == 1, device.name
            ends = [record for record in device.log if isinstance(record, Ended | Refused)]
            assert not ends, f"{device.name}: {ends}"


@frozen
class Scene:
    """What there is.

    Attributes:
        sites: The nodes; the first two will be cut off, the last will not.
        intake: A publisher that knows no node.
        background: A publisher that goes on all the time, through the last node.
        http: Asks nodes how they are.
    """

    sites: Sequence[Site]
    intake: Publisher
    background: Publisher
    http: httpx.AsyncClient

    async def play(self) -> None:
        """Cut, look, restore, look."""
        *cut, near = self.sites
        for site in self.sites:
            await site.wait_until_ready(self.http, ready=True, within=WHOLE_WITHIN)
        async with trio.open_nursery() as nursery:
            for site in self.sites:
                for device in site.devices:
                    nursery.start_soon(device.run)
            for site in self.sites:
                for device in site.devices:
                    await device.authenticated.wait()
            await self._mark_through_all("before")
            stopped = trio.Event()
            async with trio.open_nursery() as publishing:
                publishing.start_soon(self.background.run, stopped.is_set)
                await self._cut_and_restore(cut, near, publishing)
                stopped.set()
            await self._mark_through_all("last")
            await self._mark_through_all("after the last")
            nursery.cancel_scope.cancel()

    async def _cut_and_restore(self, cut: Sequence[Site], near: Site, publishing: trio.Nursery) -> None:
        silent, down = cut
        ends = trio.current_time() + CUT_SECONDS
        await silent.namespace.lose_packets()
        await down.namespace.take_link_down()
        for site in cut:
            # Nobody can know whether these get through. They are repeated until accepted, and come once.
            publishing.start_soon(site.publisher.mark, f"during, through {site.node.name}")
        await self._wait_until_ready(cut, ready=False, within=NOTICED_WITHIN)
        await near.wait_until_ready(self.http, ready=True, within=0.5)
        for site in cut:
            await site.see_refusal(self.http)
            await site.see_newcomer_sent_away()
        await near.publisher.mark("during, through near")
        await self._see_everywhere("during, through near", [near])
        await self.intake.mark("during, through intake")
        await self._see_everywhere("during, through intake", [near], within=TAKEN_OVER_WITHIN)
        await trio.sleep_until(ends)
        for site in cut:
            await site.wait_until_ready(self.http, ready=False, within=0.5)
            site.see_connections_stayed()
            assert not any(device.marker("during, through near").is_set() for device in site.devices)
        await silent.namespace.lose_no_more()
        await down.namespace.take_link_up()
        await self._wait_until_ready(cut, ready=True, within=BACK_WITHIN)
        for name in ("near", "intake", *(site.node.name for site in cut)):
            await self._see_everywhere(f"during, through {name}", self.sites)

    async def _wait_until_ready(self, sites: Sequence[Site], *, ready: bool, within: float) -> None:
        async def wait(site: Site) -> None:
            after = await site.wait_until_ready(self.http, ready=ready, within=within)
            print(f"{site.node.name}: {'ready' if ready else 'not ready'} after {after:.1f} s")

        async with trio.open_nursery() as nursery:
            for site in sites:
                nursery.start_soon(wait, site)

    async def _mark_through_all(self, marker: str) -> None:
        """Publish a marker in every way there is, and see it at all devices."""
        publishers = (*(site.publisher for site in self.sites), self.intake)
        for publisher in publishers:
            await publisher.mark(f"{marker}, through {publisher.name}")
            within = TAKEN_OVER_WITHIN if publisher is self.intake else DELIVERED_WITHIN
            await self._see_everywhere(f"{marker}, through {publisher.name}", self.sites, within=within)

    async def _see_everywhere(
        self, marker: str, sites: Sequence[Site], *, within: float = DELIVERED_WITHIN
    ) -> None:
        with trio.move_on_after(within):
            for site in sites:
                for device in site.devices:
                    await device.marker(marker).wait()
        late = [
            device.name for site in sites for device in site.devices if not device.marker(marker).is_set()
        ]
        assert not late, f"'{marker}' has not come to {late}"


def make_device(number: int, node: Node) -> Device:
    """Make a device that connects to this node alone."""
    return Device(
        number,
        USERS[number % len(USERS)],
        GROUPS[number % len(GROUPS)],
        VAULTS[: number % (len(VAULTS) + 1)],
        {node.name: (node.host, node.port)},
        make_token,
        Random(number),
    )


async def main() -> None:
    """Set the scene, play it, and see that everybody got everything.

    Raises:
        AssertionError: If anything is wrong.
    """
    await take_loopback_up()
    with (
        trio.fail_after(WHOLE_WITHIN),
        start_redis("--bind", "0.0.0.0", "--protected-mode", "no") as redis,
    ):
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(make_http())
            groups = dict.fromkeys(USERS, GROUPS)
            through_intake = OverIntake(("127.0.0.1", redis.port))
            intake = Publisher("intake", through_intake, Random("intake"), groups, VAULTS)
            sites = []
            for number, name in enumerate(("silent", "down", "near"), 1):
                namespace = await stack.enter_async_context(open_namespace(number))
                engine = f"redis://{namespace.redis_address}:{redis.port}/0"
                node = Node(name, {**SETTINGS, "engine": engine}, namespace.address, namespace.wrapper)
                stack.push_async_callback(node.kill)
                first = number * DEVICES_OF_A_NODE
                devices = [make_device(first + each, node) for each in range(DEVICES_OF_A_NODE)]
                deliver = OverHttp(http, [node.internal_url], Random(number))
                publisher = Publisher(name, deliver, Random(number), groups, VAULTS)
                sites.append(Site(namespace, node, devices, publisher))
            async with trio.open_nursery() as processes:
                for site in sites:
                    await site.node.start(processes)
                through_near = sites[-1].publisher.deliver
                background = Publisher("background", through_near, Random("background"), groups, VAULTS)
                await Scene(sites, intake, background, http).play()
                for site in sites:
                    await site.node.kill()
        streams, complaints = await read_all(redis, USERS, all_kept=True)
    publishers = (intake, background, *(site.publisher for site in sites))
    complaints += check_streams([each for some in publishers for each in some.published], streams)
    for site in sites:
        site.see_connections_stayed()
        complaints += check_devices(site.devices, streams, Rules())
        complaints += site.node.complaints()
    assert not complaints, "\n".join(complaints[:20])
    count = sum(len(stream.entries) for stream in streams.values())
    print(f"{count} events came to everybody whom they concern, in order, once")


if __name__ == "__main__":
    trio.run(main)

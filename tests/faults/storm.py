"""Does what a plan says to the nodes, Redis and the devices."""

import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

import trio
from attrs import Factory, define

from tests.redis_server import RedisServer

from .aof import lose_end, read_streams
from .devices import Device
from .nodes import Node
from .plan import Fault, Kind
from .resp import command
from .streams import Written


@define(eq=False)
class Storm:
    """Carries out faults.

    Attributes:
        nodes: The nodes, by name.
        redis: The Redis they share.
        devices: The devices, in the order of their numbers.
        processes: Runs what reads the nodes' output.
        loses_end: Whether Redis loses the end of its file when it is killed.
        written: What was in the file whenever that happened.
    """

    nodes: Mapping[str, Node]
    redis: RedisServer
    devices: Sequence[Device]
    processes: trio.Nursery
    loses_end: bool = False
    written: list[Written] = Factory(list)

    async def run(self, plan: Sequence[Fault]) -> None:
        """Carry out a whole plan; afterwards everything runs again."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for fault in plan:
                await trio.sleep_until(began + fault.at)
                nursery.start_soon(self.carry_out, fault)

    async def carry_out(self, fault: Fault) -> None:
        """Carry out one fault, to its end."""
        match fault.kind:
            case Kind.KILL_NODE:
                node = self._node(fault)
                await node.kill()
                await trio.sleep(fault.seconds)
                await node.start(self.processes)
            case Kind.PAUSE_NODE:
                await self._pause_node(self._node(fault), fault.seconds)
            case Kind.STALL_NODE:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pause_node, self._node(fault), fault.seconds)
                    await trio.sleep(fault.seconds / 4)
                    await self._drop("pubsub")
            case Kind.KILL_REDIS:
                await self._kill_redis(fault)
            case Kind.PAUSE_REDIS:
                self.redis.pause()
                await trio.sleep(fault.seconds)
                self.redis.resume()
            case Kind.DROP_SUBSCRIBERS:
                await self._drop("pubsub")
            case Kind.DROP_COMMANDS:
                await self._drop("normal")
            case Kind.RESET_DEVICES | Kind.DEVICES_AWAY:
                for number in fault.devices:
                    self.devices[number].reset(fault.seconds)

    def _node(self, fault: Fault) -> Node:
        assert fault.node is not None
        return self.nodes[fault.node]

    async def _kill_redis(self, fault: Fault) -> None:
        await trio.to_thread.run_sync(self.redis.kill)
        if self.loses_end:
            self.written.append(read_streams(self.redis.directory))
            lose_end(self.redis.directory, fault.size)
        await trio.sleep(fault.seconds)
        await trio.to_thread.run_sync(self.redis.start)

    async def _pause_node(self, node: Node, seconds: float) -> None:
        node.signal(signal.SIGSTOP)
        await trio.sleep(seconds)
        node.signal(signal.SIGCONT)

    async def _drop(self, kind: str) -> None:
        """Have Redis drop all connections of a kind; if it is away they are dropped already."""
        with suppress(OSError):
            await command(("127.0.0.1", self.redis.port), "CLIENT", "KILL", "TYPE", kind)

"""Nodes in network namespaces of their own, and links to Redis that can be cut without a word.

Needs `unshare`, `nsenter` and `ip`, and the right to use them: root, or a user namespace.
"""

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define

_PROBE = ("ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1")
_WAYS = (("unshare", "--net"), ("unshare", "--user", "--map-root-user", "--net"))
# Nobody has it: what is sent there is thrown away by the other end, and neither end learns of it.
_NOBODY = "02:00:00:00:00:01"


def find_way_in() -> tuple[tuple[str, ...] | None, str]:
    """Find the command that runs another in a new network namespace; or None, and why there is none."""
    reasons = []
    for way in _WAYS:
        try:
            done = subprocess.run([*way, *_PROBE], capture_output=True, text=True, timeout=10, check=False)
        except OSError as error:
            return None, f"no network namespaces: {error}"
        if done.returncode == 0:
            return way, ""
        reasons.append(f"{' '.join(way)}: {done.stderr.strip()}")
    return None, f"no network namespaces: {'; '.join(reasons)}"


@define(eq=False)
class Namespace:
    """A network namespace with two links here: one for devices and publishers, one for Redis.

    Attributes:
        number: Makes its addresses.
        pid: A process that lives in it.
    """

    number: int
    pid: int

    @property
    def wrapper(self) -> tuple[str, ...]:
        """What to put before a command that is to run in it."""
        return "nsenter", f"--target={self.pid}", "--net", "--"

    @property
    def address(self) -> str:
        """Its address for devices and publishers."""
        return f"10.78.{self.number}.2"

    @property
    def redis_address(self) -> str:
        """The address under which it reaches Redis, which is here."""
        return f"10.77.{self.number}.1"

    async def connect(self) -> None:
        """Make the two links."""
        await self._inside("link", "set", "lo", "up")
        for name, network in (("devices", 78), ("redis", 77)):
            here = f"{name}{self.number}"
            await _ip("link", "add", here, "type", "veth", "peer", "name", name, "netns", str(self.pid))
            await _ip("address", "add", f"10.{network}.{self.number}.1/30", "dev", here)
            await self._inside("address", "add", f"10.{network}.{self.number}.2/30", "dev", name)
            await _ip("link", "set", here, "up")
            await self._inside("link", "set", name, "up")

    async def lose_packets(self) -> None:
        """Have all packets between it and Redis vanish, in both directions."""
        await self._send_to(_NOBODY, _NOBODY)

    async def lose_no_more(self) -> None:
        """Undo `lose_packets`."""
        here = json.loads(await _ip("-json", "link", "show", f"redis{self.number}"))
        there = json.loads(await self._inside("-json", "link", "show", "redis"))
        await self._send_to(here[0]["address"], there[0]["address"])

    async def _send_to(self, here: str, there: str) -> None:
        """Set the hardware addresses that the two ends of the link to Redis send to."""
        permanent = ("nud", "permanent", "dev")
        await _ip(
            "neighbour",
            "replace",
            f"10.77.{self.number}.2",
            "lladdr",
            there,
            *permanent,
            f"redis{self.number}",
        )
        await self._inside("neighbour", "replace", self.redis_address, "lladdr", here, *permanent, "redis")

    async def take_link_down(self) -> None:
        """Take Redis's end of the link down, which the node's kernel sees as a cable pulled out."""
        await _ip("link", "set", f"redis{self.number}", "down")

    async def take_link_up(self) -> None:
        """Undo `take_link_down`."""
        await _ip("link", "set", f"redis{self.number}", "up")

    async def _inside(self, *arguments: str) -> str:
        return await _run(*self.wrapper, "ip", *arguments)


async def take_loopback_up() -> None:
    """Make 127.0.0.1 reachable here, which it is not in a new namespace."""
    await _ip("link", "set", "lo", "up")


@asynccontextmanager
async def open_namespace(number: int) -> AsyncIterator[Namespace]:
    """Make a namespace with its links, for the length of the block.

    It is gone with the last process in it; the one that holds it ends when this process does.
    """
    holder = await trio.lowlevel.open_process(
        ["unshare", "--net", "sh", "-c", "echo ready; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdin is not None
        assert holder.stdout is not None
        async with holder.stdin, holder.stdout:
            assert await holder.stdout.receive_some() == b"ready\n"
            namespace = Namespace(number, holder.pid)
            await namespace.connect()
            yield namespace
    finally:
        with trio.CancelScope(shield=True):
            holder.kill()
            await holder.wait()


async def _ip(*arguments: str) -> str:
    return await _run("ip", *arguments)


async def _run(*command: str) -> str:
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.decode().strip()}"
    return done.stdout.decode()

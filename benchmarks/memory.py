"""Where the bytes of an idle connection are: a node in this process, its devices in another, tracemalloc on.

    python -m benchmarks.memory [--connections N]

Prints a table by package for each transport. tracemalloc sees what Python allocates; what the C library and
the kernel hold for a socket is not in it, so the sums are below the RSS of the `connections` scenario.
"""

import gc
import tracemalloc
from collections import Counter
from functools import partial
from pathlib import Path

import click
import trio

from benchmarks.crowd import Crowd
from benchmarks.model import JWT_SECRET, PUBLISHER_KEY, Routes, Speaks, Target
from localful_ws.clock import Clock
from localful_ws.engine.memory import MemoryEngine
from localful_ws.server.listeners import address, bind
from localful_ws.server.node import Node
from localful_ws.server.verifier import build_verifier
from localful_ws.settings import Settings
from localful_ws.tcp import accept_connections

CONNECT_SECONDS = 120.0
# The longest match wins.
PLACES = {
    "localful_ws/protocol/": "the protocol object, session and subscription",
    "localful_ws/server/device": "the device",
    "localful_ws/server/": "opening, parking, pumps and timers",
    "localful_ws/tokens/": "the session's strings",
    "json/": "the strings of the messages",
    "wsproto/": "wsproto",
    "trio_websocket/": "trio-websocket",
    "h11/": "h11",
    "trio/": "Trio: tasks, waiting, channels, locks",
    "attrs generated": "Trio: tasks, waiting, channels, locks",
    "socket.py": "the socket object",
}


async def measure(transport: str, connections: int) -> Counter[str]:
    """Bytes per idle connection, by place."""
    settings = Settings(
        jwt_secret=JWT_SECRET.encode(),
        publisher_key=PUBLISHER_KEY,
        max_connections=connections + 100,
        transport=transport,
    )
    clock = Clock()
    engine = MemoryEngine(settings, clock)
    node = Node(settings, clock, build_verifier(settings, clock.now), engine)
    listening = bind("127.0.0.1", 0, setting="port", backlog=settings.backlog)
    target = Target(address(listening)[1], 0, Speaks.CONTRACT, Routes.CONTRACT, settings.path)
    async with trio.open_nursery() as nursery:
        serving = await nursery.start(node.run)
        nursery.start_soon(accept_connections, listening, node.serve_stream, serving)
        crowd = await trio.to_thread.run_sync(Crowd, target, 0)
        try:
            before = await grow(crowd, 100)
            after = await grow(crowd, connections)
        finally:
            await trio.to_thread.run_sync(crowd.close)
            nursery.cancel_scope.cancel()
    return Counter({place: (after[place] - before[place]) // connections for place in after})


async def grow(crowd: Crowd, by: int) -> Counter[str]:
    """Connect so many more devices; returns the bytes by place once they are idle."""
    await trio.to_thread.run_sync(crowd.prepare, by)
    await trio.to_thread.run_sync(partial(crowd.connect, window=64, timeout=CONNECT_SECONDS))
    await trio.sleep(0.5)
    gc.collect()
    bytes_by_place: Counter[str] = Counter()
    for statistic in tracemalloc.take_snapshot().statistics("filename"):
        bytes_by_place[place_of(statistic.traceback[0].filename)] += statistic.size
    return bytes_by_place


def place_of(filename: str) -> str:
    """The place in `PLACES` that a file belongs to."""
    path = Path(filename).as_posix()
    return PLACES.get(max((part for part in PLACES if part in path), key=len, default=""), "elsewhere")


@click.command()
@click.option("--connections", default=2000, show_default=True, help="Idle connections.")
def main(connections: int) -> None:
    """Print where the bytes of an idle connection are, for each transport."""
    measured = {}
    for transport in ("lean", "trio-websocket"):
        tracemalloc.start()
        measured[transport] = trio.run(measure, transport, connections)
        tracemalloc.stop()
    places = sorted(
        {place for by_place in measured.values() for place in by_place},
        key=lambda place: -measured["trio-websocket"][place],
    )
    click.echo("| where | lean | trio-websocket |\n|---|--:|--:|")
    for place in places:
        lean, trio_websocket = measured["lean"][place], measured["trio-websocket"][place]
        if max(lean, trio_websocket) >= 10:
            click.echo(f"| {place} | {lean:,} | {trio_websocket:,} |")
    sums = [sum(measured[transport].values()) for transport in ("lean", "trio-websocket")]
    click.echo(f"| **all that Python allocated** | **{sums[0]:,}** | **{sums[1]:,}** |")


if __name__ == "__main__":
    main()

"""Does the client notice what it must? `python -m benchmarks.check` shows it a peer that does wrong."""

import sys

import attrs
import click

from benchmarks.model import BenchmarkError
from benchmarks.running import running
from benchmarks.scenarios import SCENARIOS
from benchmarks.sizes import QUICK
from benchmarks.servers import SERVERS, Server, start_python

FAULTS = (
    *("lose", "repeat", "lose-and-repeat", "wrong-user", "echo", "wrong-vault", "alter", "leak", "swap"),
    *("no-cursor", "bad-cursor", "two-cursors", "same-cursor"),
)
SIZES = attrs.evolve(QUICK, fanout_devices=20, delivery_timeout=3.0)


def faulty(fault: str) -> Server:
    """The peer with this fault."""
    start = start_python("benchmarks.peers.faulty", BENCH_FAULT=fault)
    return attrs.evolve(SERVERS["websockets"], name=f"faulty-{fault}", start=start)


def outcome(fault: str) -> str | None:
    """What the client says; None if it is content."""
    try:
        with running(faulty(fault)) as server:
            SCENARIOS["fanout"].run(server, SIZES, 1000, 0)
    except BenchmarkError as error:
        return str(error)
    return None


def main() -> None:
    """Exit with 1 if a fault goes unnoticed, or if its absence is noticed."""
    line = SERVERS["websockets"].missing()
    if line is not None:
        sys.exit(f"the check needs a peer: {line}")
    wrong = 0
    for fault in ("nothing", *FAULTS):
        said = outcome(fault)
        is_right = (said is None) == (fault == "nothing")
        wrong += not is_right
        click.echo(f"{'ok ' if is_right else 'BAD'} {fault}: {said or 'content'}"[:200])
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

"""Does the client notice what it must? `python -m benchmarks.check` shows it a peer that does wrong."""

import sys

import attrs
import click

from benchmarks.model import BenchmarkError
from benchmarks.running import running
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import SERVERS, Server, start_python
from benchmarks.sizes import QUICK

NO_FAULT = "nothing"
FAULTS = (
    *("lose", "repeat", "lose-and-repeat", "wrong-user", "echo", "wrong-vault", "alter", "leak", "swap"),
    *("no-cursor", "bad-cursor", "two-cursors", "same-cursor"),
)
IN_SCENARIOS = {
    "fanout": (NO_FAULT, *FAULTS),
    "single": (NO_FAULT, "lose", "repeat", "wrong-user", "echo"),
    "ping": (NO_FAULT, "no-ping"),
    "abuse": (NO_FAULT, "keep", "close"),
    "crowd": (NO_FAULT, "wrong-user"),
    "leak": (NO_FAULT,),
    "soak": (NO_FAULT, "repeat", "close"),
}
"""What each scenario is shown; it must be content with no fault, and with nothing else."""
SIZES = attrs.evolve(
    QUICK,
    fanout_devices=20,
    delivery_timeout=3.0,
    ping_devices=20,
    crowd_devices=250,
    abuse_sockets=5,
    abuse_kinds=("silence",),
    abuse_seconds=6.0,
    abuse_silent=0,
    leak_connects=200,
    soak_seconds=2.0,
)
MOST_CONNECTIONS = 300


def faulty(fault: str) -> Server:
    """The peer with this fault."""
    if fault == "no-ping":
        return SERVERS["websockets-no-ping"]
    start = start_python("benchmarks.peers.faulty", BENCH_FAULT=fault)
    return attrs.evolve(SERVERS["websockets"], name=f"faulty-{fault}", start=start)


def outcome(scenario: str, fault: str) -> str | None:
    """What the client says; None if it is content."""
    what = SCENARIOS[scenario]
    try:
        with running(faulty(fault), what.setup) as server:
            result = what.run(server, SIZES, MOST_CONNECTIONS, 0)
    except BenchmarkError as error:
        return str(error)
    return "; ".join(result.failures) or None


def main() -> None:
    """Exit with 1 if a fault goes unnoticed, or if its absence is noticed."""
    line = SERVERS["websockets"].missing()
    if line is not None:
        sys.exit(f"the check needs a peer: {line}")
    wrong = 0
    for scenario, faults in IN_SCENARIOS.items():
        for fault in faults:
            said = outcome(scenario, fault)
            is_right = (said is None) == (fault == NO_FAULT)
            wrong += not is_right
            click.echo(f"{'ok ' if is_right else 'BAD'} {scenario}, {fault}: {said or 'content'}"[:200])
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

"""The command line of the simulator: replay a seed, try many, or go on until stopped."""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import count, islice
from pathlib import Path

from .bugs import BUGS
from .day import DEVICES, simulate_day
from .run import Outcome, run_seed

KEPT = Path(__file__).with_name("kept_seeds.txt")
_SHOWN = 3
_BUG_SEEDS = 1000


def main() -> int:
    """Do what the arguments say; the exit status is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="replay a seed, and print all that happens")
    what.add_argument("--seeds", help="try these: 0-999")
    what.add_argument("--until-stopped", action="store_true", help="try new seeds, and keep those that fail")
    what.add_argument(
        "--bugs", action="store_true", help="plant each bug, and see after how many seeds it shows"
    )
    what.add_argument("--day", action="store_true", help="one day of many devices")
    parser.add_argument("--bug", choices=BUGS, help="plant this bug")
    parser.add_argument("--from", type=int, default=None, dest="first", help="where --until-stopped begins")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--quiet", action="store_true", help="print only what is wrong")
    options = parser.parse_args()
    if options.day:
        return _day()
    if options.bugs:
        return _find_bugs()
    if options.seed is not None:
        with BUGS[options.bug]() if options.bug else nullcontext():
            return _replay(options.seed, quiet=options.quiet)
    if options.until_stopped:
        first = options.first if options.first is not None else int(time.time())
        return _try(count(first), options.jobs, keep=True)
    begin, _, end = options.seeds.partition("-")
    return _try(range(int(begin), int(end or begin) + 1), options.jobs, keep=False)


def _replay(seed: int, *, quiet: bool) -> int:
    outcome = run_seed(seed, say=None if quiet else print)
    _report(outcome)
    for name, figure in outcome.figures.items():
        print(f"  {name}: {figure}")
    print(f"  digest: {outcome.digest}")
    return bool(outcome.complaints)


def _report(outcome: Outcome) -> None:
    if not outcome.complaints:
        print(f"seed {outcome.seed}: nothing is wrong in {outcome.seconds:.1f} s")
        return
    print(f"seed {outcome.seed}: {len(outcome.complaints)} things are wrong")
    for complaint in outcome.complaints[:_SHOWN]:
        print(f"  {complaint}")
    print(f"replay it with: python -m tests.simulation --seed {outcome.seed}", flush=True)


def _try(seeds: Iterable[int], jobs: int, *, keep: bool) -> int:
    began = time.monotonic()
    done = failed = 0
    simulated = 0.0
    try:
        for outcome in _outcomes(seeds, jobs):
            done += 1
            simulated += outcome.seconds
            if outcome.complaints:
                failed += 1
                _report(outcome)
                if keep:
                    keep_seed(outcome)
            if done % 500 == 0:
                print(f"{done} seeds, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    except KeyboardInterrupt:
        print()
    took = time.monotonic() - began
    print(f"{done} seeds, {failed} failed; {simulated / 3600:.1f} h simulated in {took:.0f} s")
    return bool(failed)


def _outcomes(seeds: Iterable[int], jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        waiting = iter(seeds)
        # A pool would take all of an endless sequence at once.
        while some := list(islice(waiting, 20 * jobs)):
            yield from pool.imap_unordered(_run_lean, some)


def _run_lean(seed: int) -> Outcome:
    outcome = run_seed(seed)
    outcome.figures = {}
    return outcome


def keep_seed(outcome: Outcome) -> None:
    """Keep a seed that fails, as a test."""
    if outcome.seed not in kept_seeds():
        with KEPT.open("a", encoding="utf-8") as file:
            file.write(f"{outcome.seed}  # {outcome.complaints[0][:100]}\n")


def kept_seeds() -> list[int]:
    """The seeds that failed once."""
    lines = KEPT.read_text(encoding="utf-8").splitlines()
    return [int(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]


def _find_bugs() -> int:
    missed = 0
    for name in BUGS:
        seeds, complaint = find_bug(name, _BUG_SEEDS)
        missed += complaint is None
        print(
            f"{name}: {f'not in {seeds} seeds' if complaint is None else f'{seeds} seeds'}  {complaint}",
            flush=True,
        )
    return bool(missed)


def find_bug(name: str, seeds: int) -> tuple[int, str | None]:
    """Plant a bug and look for it; how many seeds that took, and what was wrong; None if it was not found."""
    for seed in range(seeds):
        with BUGS[name]():
            outcome = run_seed(seed)
        if outcome.complaints:
            return seed + 1, outcome.complaints[0]
    return seeds, None


def _day() -> int:
    began, busy = time.monotonic(), time.process_time()
    outcome = simulate_day()
    took, busy = time.monotonic() - began, time.process_time() - busy
    _report(outcome)
    for name, figure in outcome.figures.items():
        print(f"  {name}: {figure}")
    print(f"a day of {DEVICES} devices in {took:.1f} s, of which {busy:.1f} s of processor")
    return bool(outcome.complaints)


if __name__ == "__main__":
    sys.exit(main())

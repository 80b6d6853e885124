"""Fuzz with atheris, one target after the other: ``python -m tests.fuzz frames --seconds 60``.

What is new goes to .fuzz/, an input that fails to .fuzz/crashes/. ``--minimise`` instead takes into the
corpora what .fuzz/ has that covers more than they do.
"""

import argparse
import subprocess
import sys

from tests.fuzz.targets import CORPORA, HERE, TARGETS

WORK = HERE.parents[1] / ".fuzz"
LONGEST_INPUT = 4096
SECONDS_AN_INPUT = 5


def main() -> int:
    """Fuzz; the exit status is 1 if any input failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)}; default: all"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--minimise", action="store_true", help="see above")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    failed = [
        target
        for target in options.targets or TARGETS
        if not (_minimise(target) if options.minimise else _fuzz(target, options.seconds))
    ]
    if failed:
        print(f"\nfailed: {', '.join(failed)}; the inputs are in {WORK / 'crashes'}")
    return int(bool(failed))


def _fuzz(target: str, seconds: int) -> bool:
    found, crashes = WORK / target, WORK / "crashes"
    for directory in (found, crashes):
        directory.mkdir(parents=True, exist_ok=True)
    print(f"\n=== {target}", flush=True)
    return _run(
        target,
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST_INPUT}",
        f"-timeout={SECONDS_AN_INPUT}",
        f"-dict={HERE / 'dictionary.txt'}",
        f"-artifact_prefix={crashes}/{target}-",
        "-print_final_stats=1",
        # What is new is written to the first one.
        str(found),
        str(CORPORA / target),
    )


def _minimise(target: str) -> bool:
    return _run(target, "-merge=1", f"-max_len={LONGEST_INPUT}", str(CORPORA / target), str(WORK / target))


def _run(target: str, *arguments: str) -> bool:
    command = [sys.executable, "-m", "tests.fuzz.run", target, *arguments]
    return subprocess.run(command, cwd=HERE.parents[1], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())

"""Mutate the core and ask its tests: ``python -m tests.mutation``.

mutmut makes one small change after the other and runs the tests that come by it. This runs mutmut, says how
many mutants each package had and how many were killed, and lists those that survived and are not explained in
survivors.md. The exit status is 1 if there are any, or if too few were killed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import define, frozen
from mutmut.stats import status_by_exit_code

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MUTANTS = ROOT / "mutants"
SURVIVORS = HERE / "survivors.md"
# Together, whatever else is mutated has a score of its own.
JUDGED = {"localful_ws.protocol": 95.0, "localful_ws.routing": 95.0}
KILLED = {"killed", "timeout", "segfault"}
"""A mutant that never ends, as when a loop waits for what no longer comes, was noticed too."""
UNTRIED = "not checked"
NICE = 10


@frozen
class Survivor:
    """A mutant that no test noticed: where it is, and the lines before and after."""

    where: str
    before: str
    after: str


@define
class Score:
    """What became of a package's mutants."""

    killed: int = 0
    untried: int = 0
    all: int = 0

    @property
    def percent(self) -> float:
        """How many of a hundred were killed."""
        return 100 * self.killed / self.all if self.all else 0.0


def main() -> int:
    """Run, count, compare."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants by name, with *; all if left out")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--hours", type=float, default=2.0, help="the longest that mutmut may take")
    parser.add_argument("--again", action="store_true", help="keep what the last run found out")
    parser.add_argument("--report", action="store_true", help="don't run, report the last run")
    options = parser.parse_args()
    if not options.report:
        if not options.again:
            shutil.rmtree(MUTANTS, ignore_errors=True)
        run(options.names, options.processes, options.hours * 3600)
    return report(dict(outcomes()))


def run(names: list[str], processes: int, seconds: float) -> None:
    """Have mutmut go through the mutants whose outcome it doesn't know yet."""
    os.nice(NICE)
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(processes), *names]
    try:
        subprocess.run(command, cwd=ROOT, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        print("\nThe time is over; --again goes on from here.")


def outcomes() -> Iterator[tuple[str, str]]:
    """Every mutant by name, and what became of it in mutmut's words."""
    for path in sorted((MUTANTS / "localful_ws").rglob("*.meta")):
        for name, code in json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            yield name, status_by_exit_code[code]


def report(outcome: Mapping[str, str]) -> int:
    """Print the scores and the survivors; returns the exit status."""
    scores: dict[str, Score] = {}
    for name in outcome:
        score = scores.setdefault(package_of(name), Score())
        score.all += 1
        score.killed += outcome[name] in KILLED
        score.untried += outcome[name] == UNTRIED
    for package, score in sorted(scores.items()):
        untried = f", {score.untried} not tried" if score.untried else ""
        print(f"{package:24} {score.killed:5} of {score.all:5} killed  {score.percent:5.1f} %{untried}")
    explained = explained_survivors()
    found = {survivor(name) for name in outcome if outcome[name] not in KILLED | {UNTRIED}}
    for title, some in (
        ("not explained", found - explained),
        ("explained, and not there", explained - found),
    ):
        print(f"\n{title}: {len(some)}")
        for one in sorted(some, key=lambda one: one.where):
            print(f"  {one.where}\n    - {one.before}\n    + {one.after}")
    low = [package for package, least in JUDGED.items() if scores.get(package, Score()).percent < least]
    if low:
        print(f"\ntoo few killed in {', '.join(low)}")
    return int(bool(low or found - explained or any(score.untried for score in scores.values())))


def package_of(name: str) -> str:
    """``localful_ws.protocol`` of a mutant in one of its modules."""
    return ".".join(name.split(".")[:2])


def survivor(name: str) -> Survivor:
    """What a mutant changed, from what mutmut shows of it."""
    shown = subprocess.run(
        [sys.executable, "-m", "mutmut", "show", name], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    changes = {sign: " ".join(changed_lines(shown, sign)) for sign in "-+"}
    module, _, function = name.rpartition(".")
    function = re.sub(r"__mutmut_\d+$", "", function).removeprefix("x_").replace("ǁ", ".").removeprefix("x.")
    return Survivor(f"{module.removeprefix('localful_ws.')}.{function}", changes["-"], changes["+"])


def changed_lines(diff: str, sign: str) -> Iterator[str]:
    """The lines of a diff with this sign, without it."""
    for line in diff.splitlines():
        if line.startswith(sign) and not line.startswith(3 * sign):
            yield line[1:].strip()


def explained_survivors() -> set[Survivor]:
    """What survivors.md lists: ### where, perhaps a reason, and a diff."""
    text = SURVIVORS.read_text(encoding="utf-8")
    found = set()
    sections = re.findall(r"^### `([^`]+)`$.*?^```diff$\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for where, diff in sections:
        for pair in re.findall(r"^- (.*)\n\+ (.*)$", diff, re.MULTILINE):
            found.add(Survivor(where, *pair))
    return found


if __name__ == "__main__":
    sys.exit(main())

"""A run from its seed to a text that says what came of it."""

import shutil
import tempfile
import time
import traceback
from pathlib import Path

import trio
from attrs import frozen

from .deployments import DEPLOYMENTS
from .one_redis import MODES, OneRedis
from .production import PRODUCTION, Production
from .run import Outcome, Run

_SHOWN = 20


@frozen
class Report:
    """What came of a run.

    Attributes:
        outcome: Complaints and figures.
        text: The same to read, in case of complaints with the plan and the command that repeats it.
    """

    outcome: Outcome
    text: str


def make_run(seed: int, seconds: float, mode: str, directory: Path, *, keep: bool = False) -> Run:
    """Make the run of a seed; see `run_plan`."""
    if mode in DEPLOYMENTS:
        return Production(seed, seconds, PRODUCTION, directory, keep, name=mode)
    return OneRedis(seed, seconds, MODES[mode], directory, keep)


def run_plan(seed: int, seconds: float, mode: str, *, keep: bool = False) -> Report:
    """Run the plan of a seed in a directory of its own, which stays if something is wrong, or to ``keep``.

    Args:
        seed: Makes the plan.
        seconds: How long there are faults.
        mode: One of `MODES`, or one of `DEPLOYMENTS`.
        keep: Whether what everybody saw is kept in any case.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"localful-faults-{seed}-"))
    run = make_run(seed, seconds, mode, directory, keep=keep)
    began = time.monotonic()
    try:
        trio.run(run.run)
    except Exception:
        run.outcome.complaints.append(traceback.format_exc())
    outcome = run.outcome
    lines = [
        f"seed {seed}, {mode}: {time.monotonic() - began:.0f} s for {len(run.plan)} faults",
        f"calm after {outcome.calm_after:.1f} s",
        ", ".join(f"{count} {what}" for what, count in outcome.figures.items()),
        *outcome.notes,
    ]
    if keep:
        lines.append(f"What everybody saw is in {directory}.")
    elif not outcome.complaints:
        shutil.rmtree(directory)
    if not outcome.complaints:
        return Report(outcome, "\n".join(lines))
    complaints = outcome.complaints
    lines += ["The plan, in seconds:", *map(str, run.plan), f"Complaints: {len(complaints)}"]
    lines += complaints[:_SHOWN]
    lines += [
        f"What everybody saw is in {directory}.",
        f"Again: python -m tests.faults --seed {seed} --seconds {seconds:g} --mode {mode}",
    ]
    return Report(outcome, "\n".join(lines))

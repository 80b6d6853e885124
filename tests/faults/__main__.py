"""Run plans of faults, as in ``python -m tests.faults --seed 7 --seconds 30 --mode long-history``."""

import argparse
import sys
from pathlib import Path

from tests.faults.deployments import DEPLOYMENTS
from tests.faults.one_redis import MODES
from tests.faults.report import make_run, run_plan

WAYS = [*MODES, *DEPLOYMENTS]


def main() -> int:
    """Run each seed in each mode; the exit status is 1 if anything is wrong."""
    abouts = [f"  {name:18} {deployment.about}" for name, deployment in DEPLOYMENTS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        epilog="\n".join(["Deployments, beside the modes of one Redis that is killed and paused:", *abouts]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, nargs="+", default=[1], help="one or more")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long there are faults")
    parser.add_argument("--mode", choices=WAYS, nargs="+", default=WAYS)
    parser.add_argument("--plan", action="store_true", help="only print the plans")
    parser.add_argument("--keep", action="store_true", help="write down what everybody saw in any case")
    options = parser.parse_args()
    if options.plan:
        for seed in options.seed:
            for mode in options.mode:
                plan = make_run(seed, options.seconds, mode, Path()).plan
                print(f"seed {seed}, {mode}", *plan, sep="\n")
        return 0
    failed = False
    for seed in options.seed:
        for mode in options.mode:
            report = run_plan(seed, options.seconds, mode, keep=options.keep)
            print(report.text, flush=True)
            failed |= bool(report.outcome.complaints)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""The command line of the simulator."""

import argparse
import time

from .run import run_seed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds")
    options = parser.parse_args()
    if options.seed is not None:
        outcome = run_seed(options.seed, say=print)
        print(outcome)
        if "error" in outcome.figures:
            raise outcome.figures["error"]
        return bool(outcome.complaints)
    first, _, last = options.seeds.partition("-")
    began = time.perf_counter()
    slowest = []
    failed = 0
    for seed in range(int(first), int(last) + 1):
        start = time.process_time()
        outcome = run_seed(seed)
        slowest.append((time.process_time() - start, seed))
        if outcome.complaints:
            failed += 1
            print(seed, len(outcome.complaints), outcome.complaints[0][:300], flush=True)
    print(failed, "failed", time.perf_counter() - began, sum(t for t, _ in slowest), sorted(slowest)[-5:])
    return 0

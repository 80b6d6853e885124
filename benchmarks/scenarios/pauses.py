"""The daemon's garbage collector, as its metrics tell."""

import re

NAME = "localful_ws_gc_pause_seconds"
BUCKET = re.compile(rf'{NAME}_bucket\{{.*?le="([^"]+)".*?\}}')


def collector_pauses(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """How many collector pauses lay between two looks at `/metrics`, and how long they were.

    Returns:
        `gc_pauses`, `gc_pauses_ms` (their sum) and `gc_longest_ms` (the bound of the highest bucket that has
        one); nothing where the server has no such metric.
    """
    grown = {name: value - before.get(name, 0) for name, value in after.items() if name.startswith(NAME)}
    if not grown:
        return {}
    count = sum(value for name, value in grown.items() if name.startswith(f"{NAME}_count"))
    total = sum(value for name, value in grown.items() if name.startswith(f"{NAME}_sum"))
    up_to: dict[float, float] = {}
    for name, value in grown.items():
        bound = BUCKET.fullmatch(name)
        if bound is not None:
            up_to[float(bound[1])] = up_to.get(float(bound[1]), 0) + value
    longest = min((bound for bound, pauses in up_to.items() if pauses == count), default=0.0)
    return {
        "gc_pauses": count,
        "gc_pauses_ms": 1000 * total,
        "gc_longest_ms": 1000 * longest if count else 0.0,
    }

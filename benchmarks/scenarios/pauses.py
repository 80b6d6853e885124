"""The daemon's garbage collector, as its metrics tell."""

PREFIX = "localful_ws_gc_pause_seconds"


def collector_pauses(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """How many collector pauses lay between two looks at `/metrics`, and how long they were.

    Returns:
        `gc_pauses` and `gc_pauses_ms` (their sum); nothing where the server has no such metric.
    """
    grown = {name: value - before.get(name, 0) for name, value in after.items() if name.startswith(PREFIX)}
    if not grown:
        return {}
    return {
        "gc_pauses": sum(value for name, value in grown.items() if name.startswith(f"{PREFIX}_count")),
        "gc_pauses_ms": 1000
        * sum(value for name, value in grown.items() if name.startswith(f"{PREFIX}_sum")),
    }

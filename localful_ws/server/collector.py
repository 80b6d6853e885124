"""Python's garbage collector, kept from walking every idle connection (see benchmarks/README.md).

What exists when the daemon has started lives as long as the daemon, so it is frozen: moved out of the
collector's sight. Connections come and go and are never frozen. The thresholds are raised, because a young
collection at every 700 new objects makes old ones frequent too, and those walk all that is alive.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def tuned_collector(threshold: int, observe_pause: Callable[[int, float], None]) -> Iterator[None]:
    """Freeze what exists, raise the thresholds, and report every pause until the end of the block.

    Args:
        threshold: New objects until a young collection; 0 leaves the interpreter's thresholds alone.
        observe_pause: Called after each collection with its generation and seconds.
    """
    started = 0.0

    def watch(phase: str, info: dict[str, int]) -> None:
        nonlocal started
        if phase == "start":
            started = time.perf_counter()
        else:
            observe_pause(info["generation"], time.perf_counter() - started)

    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    if threshold:
        gc.set_threshold(threshold, 20, 100)
    gc.callbacks.append(watch)
    try:
        yield
    finally:
        gc.callbacks.remove(watch)
        gc.set_threshold(*before)
        gc.unfreeze()

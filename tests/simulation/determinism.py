"""Everything that would differ from run to run, drawn from a seed instead."""

import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from unittest.mock import patch

import trio

# What Hypothesis uses, too: with it Trio sorts the tasks that can run before it shuffles them, with this
# generator. There is no public way.
_run = trio._core._run


@contextmanager
def determined(seed: int) -> Iterator[None]:
    """Make a `trio.run` in this block the same for the same seed.

    Trio still runs tasks in a random order, but always the same one. What the daemon draws comes from the
    seed as well: keys, epochs, nonces, pauses.
    """
    drawn = Random(f"{seed} secrets")
    state = random.getstate()
    with (
        patch.object(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        patch.object(secrets, "token_bytes", lambda size=32: drawn.randbytes(size)),
        patch.object(secrets, "token_hex", lambda size=32: drawn.randbytes(size).hex()),
    ):
        _run._r.seed(f"{seed} scheduler")
        random.seed(f"{seed} module")
        try:
            yield
        finally:
            random.setstate(state)

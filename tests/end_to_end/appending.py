"""A process that appends events to a history for a long simulated time, and says how much it has grown.

    python -m tests.end_to_end.appending LIMIT SIZE...

Each event's data has a size of up to one of the sizes, drawn anew each time.
"""

import sys
from pathlib import Path
from random import Random

from localful_ws.engine import ReplayLimits
from localful_ws.engine.history import History, HistoryLimits
from localful_ws.protocol import Event, EventName

_EVENTS = 80_000
_A_SECOND = 77
_USERS = 5000
_LOOK_EVERY = 500


def main(limit: int, sizes: list[int]) -> None:
    """Print the growth of the resident memory in bytes, the largest of many."""
    random = Random(1)
    history = History(HistoryLimits(events=1000, seconds=300.0, bytes=limit))
    filler = b"x" * max(sizes)
    before, grown = _resident(), 0
    for number in range(_EVENTS):
        now = number / _A_SECOND
        user = f"user-{random.randrange(_USERS)}"
        data = b'"%b"' % filler[: random.randint(0, random.choice(sizes))]
        cursor = history.cursor(user)
        entry = history.append(Event(EventName.ITEM_CREATE, user, f"vault-of-{user}", "g", data), now)
        if number % _LOOK_EVERY == 0:
            told = history.since(user, cursor, ReplayLimits(), now)
            assert told is not None
            assert told[0].frame == entry.frame
            grown = max(grown, _resident() - before)
            assert history.bytes <= limit
    print(grown)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


if __name__ == "__main__":
    main(int(sys.argv[1]), [int(size) for size in sys.argv[2:]])

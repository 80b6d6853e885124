"""Events in groups: the runs in which they are delivered, and the pieces in which their frames are sent."""

from collections.abc import Iterable, Sequence
from itertools import chain

from localful_ws.engine import Entry
from localful_ws.protocol import EventName

_PIECE = 65536  # bytes; what is longer gains nothing from going out in one piece
LIFE_ENDING = frozenset({EventName.VAULT_DELETE, EventName.USER_DELETE})
"""After these, what follows is decided anew."""


def runs_of(entries: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
    """Sort a batch by user, each user's events in the order given.

    A run ends after an event that ends a vault or a user, since what follows is decided anew.
    """
    if len(entries) == 1:
        return (entries,)
    by_user: dict[str, list[list[Entry]]] = {}
    for entry in entries:
        runs = by_user.get(entry.event.user)
        if runs is None:
            by_user[entry.event.user] = [[entry]]
        elif runs[-1][-1].event.name in LIFE_ENDING:
            runs.append([entry])
        else:
            runs[-1].append(entry)
    return chain.from_iterable(by_user.values())


def pieces_of(frames: Sequence[bytes | memoryview]) -> list[tuple[bytes, Sequence[bytes | memoryview]]]:
    """Join frames to pieces of some 64 KiB, given joined and one by one; a longer frame is its own piece."""
    pieces: list[tuple[bytes, Sequence[bytes | memoryview]]] = []
    piece: list[bytes | memoryview] = []
    size = 0
    for frame in frames:
        if piece and size + len(frame) > _PIECE:
            pieces.append((b"".join(piece), piece))
            piece, size = [], 0
        piece.append(frame)
        size += len(frame)
    if piece:
        pieces.append((b"".join(piece), piece))
    return pieces

"""What can go wrong with Redis."""

from collections.abc import Iterator
from typing import Final

import trio


class RedisUnavailableError(Exception):
    """Redis can't be reached, or doesn't answer as it should; the text is a sentence without secrets."""


class RedisUnsuitableError(RedisUnavailableError):
    """Redis is there, and is not one that can be worked with: too old, or not what its URL says."""


class RedisRefusedError(Exception):
    """Redis answered that it does not do it. The text is Redis' own, and begins with the error's code."""

    @property
    def code(self) -> str:
        """What kind of error it is, such as ``OOM`` or ``MOVED``."""
        return str(self).partition(" ")[0]


NOT_READY: Final = frozenset({"LOADING", "CLUSTERDOWN", "MASTERDOWN"})
"""What a server answers that has just been started, or hears nothing of the others."""

REDIS_ERRORS: Final = (RedisUnavailableError, RedisRefusedError)
"""All that asking Redis for something may raise."""


def raise_single(group: BaseExceptionGroup[BaseException]) -> None:
    """Raise what is in a group that a nursery has made, if it is one thing.

    Several errors of Redis count as one: when a connection is lost, more than one task hears of it. Whoever
    is cancelled meanwhile is cancelled, and hears of no loss.
    """
    cancelled, rest = group.split(trio.Cancelled)
    leaves = [] if rest is None else list(_leaves(rest))
    if cancelled is not None and all(isinstance(leaf, REDIS_ERRORS) for leaf in leaves):
        raise cancelled
    leaves = list(_leaves(group))
    if all(isinstance(leaf, REDIS_ERRORS) for leaf in leaves):
        first = min(leaves, key=lambda leaf: not isinstance(leaf, RedisUnavailableError))
        raise first from first.__cause__
    if len(group.exceptions) == 1:
        only = group.exceptions[0]
        raise only from only.__cause__


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error

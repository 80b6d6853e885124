"""Whether Redis takes what is written, and why not: told once, counted by reason, and tried again."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

from localful_ws.engine.redis.errors import RedisRefusedError, RedisUnavailableError
from localful_ws.engine.redis.lua import PUBLISH, Script
from localful_ws.engine.redis.shard import Shard
from localful_ws.wakeup import Signal

_log = structlog.get_logger(__name__)

_TRY_EVERY: Final = 1.0
# Each is a series of its own, and a proxy may say anything.
_MOST_REASONS: Final = 30
_KNOWN: Final = ("unavailable", "timeout", "OOM", "MISCONF", "NOREPLICAS", "READONLY", "NOPERM", "WRONGTYPE")


class Refusals:
    """The servers that refuse what is written, until one write succeeds there.

    Args:
        probe: Writes something to a server that is of no use.
        changed: Called when it may be another answer whether all take what is written.

    Attributes:
        counts: How many writes were not confirmed, by the reason.
    """

    def __init__(self, probe: Callable[[Shard], Awaitable[object]], changed: Callable[[], None]) -> None:
        # Known reasons are there from the start, as 0: else a rate() would miss the first increase.
        self.counts: Counter[str] = Counter(dict.fromkeys(_KNOWN, 0))
        self._probe = probe
        self._changed = changed
        self._refusing: dict[Shard, dict[Script, str]] = {}
        self._refused = Signal()

    def count(self, code: str) -> None:
        """A write was not confirmed, for this reason."""
        self.counts[code if code in self.counts or len(self.counts) < _MOST_REASONS else "other"] += 1

    @property
    def reason(self) -> str | None:
        """Why something is refused, in Redis' words; None if nothing is."""
        return next((reason for some in self._refusing.values() for reason in some.values()), None)

    def note(self, shard: Shard, script: Script, error: RedisRefusedError) -> None:
        """A write was refused."""
        reasons = self._refusing.setdefault(shard, {})
        is_known = error.code in {known.partition(" ")[0] for known in reasons.values()}
        reasons[script] = str(error)
        if not is_known:
            _log.error("Redis refuses what is written; trying on", reason=str(error))
        self._refused.set()
        self._changed()

    def forget(self, shard: Shard, script: Script | None = None) -> None:
        """A write like that, or any, was taken."""
        if not self._refusing or shard not in self._refusing:
            return
        reasons = self._refusing[shard]
        if script is None:
            reasons.clear()
        else:
            reasons.pop(script, None)
        if not reasons:
            del self._refusing[shard]
            _log.warning("Redis takes what is written again")
            self._changed()

    async def run(self) -> None:
        """Try again, until cancelled."""
        while True:
            while not self._refusing:
                await self._refused.wait()
            await trio.sleep(_TRY_EVERY)
            for shard in list(self._refusing):
                if shard.link is None:
                    del self._refusing[shard]  # it is lost, which is another matter
                    continue
                try:
                    await self._probe(shard)
                except RedisRefusedError as error:
                    self.note(shard, PUBLISH, error)
                except RedisUnavailableError:
                    continue
                else:
                    self.forget(shard)

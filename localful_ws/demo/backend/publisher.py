"""The publisher: takes what is in the outbox to the WebSocket server, in order."""

import math
from collections.abc import Callable, Sequence
from enum import Enum

import httpx
import msgspec
import structlog
import trio
from attrs import frozen

from localful_ws.demo.backend import outbox
from localful_ws.demo.backend.database import Database
from localful_ws.demo.backend.errors import ApiError
from localful_ws.demo.backend.outbox import Entry
from localful_ws.demo.backend.settings import BackendSettings

_log = structlog.get_logger(__name__)

_FIRST_PAUSE = 0.1
# What no repetition will change: the request itself is wrong.
_REFUSALS = (400, 413, 422)


class _Fate(Enum):
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@frozen
class _Outcome:
    """What became of a request.

    Attributes:
        fate: Whether its entries are done with.
        reason: What the server said, or what went wrong.
        index: Which event of a batch was refused, if the server says so.
        pause: How many seconds the server wants to be left alone.
    """

    fate: _Fate
    reason: str = ""
    index: int | None = None
    pause: float = 0.0


class Publisher:
    """Publishes the outbox. There must be one only, or one may overtake the other.

    An entry is deleted after its 202. A crash in between, an answer that got lost, a 503: in all of these
    cases the same entries go out again, first and in the same order, with the ids they had; what the server
    has had already it counts as duplicates and delivers to nobody. It remembers ids for
    ``idempotency-seconds`` (five minutes).

    Args:
        database: Where the outbox is.
        client: Knows the address of the server's internal port, and the publisher key.
        settings: Sizes and times.
        random: Gives numbers from 0 to 1, for pauses.
    """

    def __init__(
        self,
        database: Database,
        client: httpx.AsyncClient,
        settings: BackendSettings,
        random: Callable[[], float],
    ) -> None:
        self._database = database
        self._client = client
        self._settings = settings
        self._random = random
        self._wake = trio.Event()
        self._limit = settings.batch_events
        self._failures = 0

    def wake(self) -> None:
        """Say that there may be something in the outbox."""
        self._wake.set()

    async def run(self) -> None:
        """Publish, for ever."""
        while True:
            # Before the outbox is read: what is committed after that wakes us.
            self._wake = trio.Event()
            pause = await self._publish_some()
            if pause is None:
                with trio.move_on_after(self._settings.idle_seconds):
                    await self._wake.wait()
            elif pause:
                await trio.sleep(pause)

    async def _publish_some(self) -> float | None:
        """Publish what goes into one request; returns how long to pause, or None if there was nothing."""
        try:
            entries = await self._database.read(
                lambda connection: outbox.first_entries(connection, self._limit)
            )
            if not entries:
                return None
            outcome = await self._post(entries)
            if outcome.fate is _Fate.ACCEPTED:
                await self._database.write(lambda connection: outbox.remove(connection, entries))
                self._limit = self._settings.batch_events
                self._failures = 0
                return 0.0
            if outcome.fate is _Fate.REFUSED:
                await self._handle_refusal(entries, outcome)
                return 0.0
        except ApiError as error:  # the database is busy
            outcome = _Outcome(_Fate.UNKNOWN, error.message)
        return self._pause_after(outcome)

    async def _post(self, entries: Sequence[Entry]) -> _Outcome:
        path = entries[0].path
        body = entries[0].body
        if path == outbox.EVENTS:
            body = f'{{"events":[{",".join(entry.body for entry in entries)}]}}'
        try:
            with trio.fail_after(self._settings.publish_seconds):
                response = await self._client.post(path, content=body.encode())
        except (httpx.HTTPError, trio.TooSlowError) as error:
            return _Outcome(_Fate.UNKNOWN, type(error).__name__)
        if response.status_code == 202:
            return _Outcome(_Fate.ACCEPTED)
        refused = response.status_code in _REFUSALS
        return _Outcome(
            _Fate.REFUSED if refused else _Fate.UNKNOWN,
            reason=f"HTTP {response.status_code}: {_word(response)}",
            index=_index(response),
            pause=_seconds(response.headers.get("Retry-After")),
        )

    async def _handle_refusal(self, entries: Sequence[Entry], outcome: _Outcome) -> None:
        """Let the entry that can't be published not hold up the others."""
        if outcome.index is not None and 0 <= outcome.index < len(entries):
            refused = entries[outcome.index]
        elif len(entries) == 1:
            refused = entries[0]
        else:  # it is about the batch, or about nobody knows which: by halves one finds out
            self._limit = max(1, len(entries) // 2)
            return
        _log.error("an entry of the outbox was refused", position=refused.position, reason=outcome.reason)
        await self._database.write(lambda connection: outbox.set_aside(connection, refused, outcome.reason))

    def _pause_after(self, outcome: _Outcome) -> float:
        longest = self._settings.retry_seconds
        # Its exponent has a bound as well: a daemon may be away for days.
        growing = min(longest, _FIRST_PAUSE * 2.0 ** min(self._failures, 30))
        self._failures += 1
        pause = min(longest, max(growing * (0.5 + self._random() / 2), outcome.pause))
        _log.warning("publishing failed; trying again", reason=outcome.reason, seconds=round(pause, 3))
        return pause


class _Context(msgspec.Struct):
    index: int | None = None


class _ErrorBody(msgspec.Struct):
    identifier: str = ""
    context: _Context = msgspec.field(default_factory=_Context)


def _read(response: httpx.Response) -> _ErrorBody:
    try:
        return msgspec.json.decode(response.content, type=_ErrorBody)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _ErrorBody()  # a proxy's page, perhaps


def _word(response: httpx.Response) -> str:
    return _read(response).identifier or response.reason_phrase


def _index(response: httpx.Response) -> int | None:
    return _read(response).context.index


def _seconds(header: str | None) -> float:
    try:
        seconds = float(header or 0)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0

"""What waits to be published, and what comes of each answer: the rules of docs/publishing.md, without I/O."""

import json
import logging
import re
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from attrs import define, field, frozen, validators

from localful_ws.publisher.errors import (
    EventRefusedError,
    PublisherClosedError,
    PublisherError,
    QueueFullError,
    http_sentence,
)

_log = logging.getLogger("localful_ws.publisher")

EVENTS = "/v1/events"
DISCONNECT = "/v1/disconnect"

_ACCEPTED = 202
_FIRST_PAUSE = 0.1
_LONGEST_RETRY_AFTER = 60.0
_UNAUTHORIZED = 401
_UNAUTHORIZED_PAUSE = 5.0
# Of the statuses from 400 to 499: what is no event's fault, and what may be the fault of one among others.
_TRIED_AGAIN = (_UNAUTHORIZED, 408, 429)
_PERHAPS_OF_ONE = (400, 413, 422)
# A 503 that is about a deletion or a disconnect, and may last for hours: what else waits goes on.
_NO_ROOM = "too-many-revocations"

OnRefused = Callable[[dict[str, Any], EventRefusedError], None]
"""Is given an event back, with the id that it had, and why it was refused."""
OnTrouble = Callable[[str], None]
"""Is told, in a sentence, why nothing gets through at present; once, until that changes."""


@frozen(kw_only=True)
class PublisherLimits:
    """How much at once, and how long.

    Attributes:
        waiting: Events that may wait.
        waiting_bytes: Their size as JSON.
        batch: Events in a request; at most the server's ``max-batch``.
        batch_bytes: Their size. An event that is larger goes by itself.
        timeout: Seconds that the server has to answer.
        longest_pause: Seconds that the pauses between attempts grow to.
    """

    waiting: int = field(default=10_000, validator=validators.ge(1))
    waiting_bytes: int = field(default=64 * 1024 * 1024, validator=validators.ge(1))
    batch: int = field(default=1000, validator=validators.ge(1))
    batch_bytes: int = field(default=1024 * 1024, validator=validators.ge(1))
    timeout: float = field(default=10.0, validator=validators.gt(0))
    longest_pause: float = field(default=30.0, validator=validators.gt(0))


@define(eq=False)
class Entry:
    """An event or a disconnect that waits.

    Attributes:
        number: Its place in the order, from 1.
        path: Where to post it.
        content: It.
        text: It, as JSON.
        outcome: How many connections a disconnect closes, or why this came to nothing; None for now.
    """

    number: int
    path: str
    content: dict[str, Any]
    text: bytes
    outcome: int | PublisherError | None = None


@frozen
class Request:
    """What to post next: events in a row, or one disconnect."""

    entries: Sequence[Entry]

    @property
    def path(self) -> str:
        """Where to."""
        return self.entries[0].path

    @property
    def body(self) -> bytes:
        """What."""
        texts = [entry.text for entry in self.entries]
        return b'{"events":[' + b",".join(texts) + b"]}" if self.path == EVENTS else texts[0]


@frozen
class Answer:
    """What came of a request.

    Attributes:
        status: The HTTP status; 0 if there was no answer.
        body: The body; without an answer, a sentence that says why.
        retry_after: The header of that name.
    """

    status: int
    body: bytes = b""
    retry_after: str = ""


class PublishQueue:
    """What waits, and what is to be done next. One request at a time: order is kept.

    Args:
        limits: How much at once.
        on_refused: Is given what was refused; None logs it.
        on_trouble: Is told why nothing gets through; None logs it.
        draw: Draws a number from 0 to 1, for pauses.
        now: Tells the time, in Unix seconds.
    """

    def __init__(
        self,
        limits: PublisherLimits,
        on_refused: OnRefused | None,
        on_trouble: OnTrouble | None,
        draw: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._on_refused = on_refused or _log_refused
        self._on_trouble = on_trouble or _log_trouble
        self._draw = draw
        self._now = now
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._is_closed = False
        self._last = 0
        self._batch = limits.batch
        self._failures = 0
        self._told: str | None = None

    @property
    def last(self) -> int:
        """The number of what was put in last."""
        return self._last

    def is_settled(self, number: int) -> bool:
        """Whether everything up to this number has been accepted or refused.

        Raises:
            PublisherClosedError: If it never will be.
        """
        if self._entries:
            return self._entries[0].number > number
        if number > self._last:
            raise PublisherClosedError("The publisher was closed before this had left.")
        return True

    def put_event(self, event: Mapping[str, Any]) -> str:
        """Take an event in; returns its id, which is made here if it has none.

        Raises:
            QueueFullError: If too much waits.
            PublisherClosedError: If the publisher is closed.
            TypeError: If it can't be JSON.
            ValueError: If it can't be JSON.
        """
        content = dict(event)
        if content.get("id") is None:
            content["id"] = str(uuid.uuid4())
        self._put(EVENTS, content)
        event_id: str = content["id"]
        return event_id

    def put_disconnect(self, user: str | None, group: str | None, until: float | None) -> Entry:
        """Take a disconnect in; raises as `put_event` does. Its outcome comes to be in the entry.

        It is of this moment, whenever it gets through: logins that begin in between are not meant.
        """
        given = {"user": user, "group": group, "until": until, "issuedBefore": self._now()}
        return self._put(DISCONNECT, {key: value for key, value in given.items() if value is not None})

    def next_request(self) -> Request | None:
        """What to post next, until there is an answer to it; None if nothing waits."""
        if not self._entries:
            return None
        if self._entries[0].path == DISCONNECT:
            return Request([self._entries[0]])
        batch: list[Entry] = []
        size = 0
        for entry in islice(self._entries, self._batch):
            size += len(entry.text) + 1
            if entry.path == DISCONNECT or (batch and size > self._limits.batch_bytes):
                break
            batch.append(entry)
        return Request(batch)

    def take_answer(self, request: Request, answer: Answer) -> float:
        """Draw the consequences of an answer; returns how many seconds to wait before the next request."""
        status, entries = answer.status, request.entries
        found = _read(answer.body) if status else {}
        identifier, message = (_text(found.get(key)) for key in ("identifier", "message"))
        if status == _ACCEPTED:
            self._told = None
            self._failures = 0
            self._batch = min(self._batch * 2, self._limits.batch)
            closed = found.get("closed")
            self._remove(entries, closed if isinstance(closed, int) else 0)
            return 0.0
        has_no_room = identifier == _NO_ROOM
        if status in _TRIED_AGAIN or not (400 <= status < 500 or has_no_room):
            reason = http_sentence(status, identifier, message) if status else answer.body.decode()
            return self._pause(status, reason, answer.retry_after)
        self._failures = 0
        if (status in _PERHAPS_OF_ONE or has_no_room) and len(entries) > 1:
            index = _index(found, len(entries))
            if index is None:
                self._batch = len(entries) // 2
                return 0.0
            entries = [entries[index]]
            message = message.removeprefix(f"events[{index}]: ")
        elif request.path == EVENTS:
            message = message.removeprefix("events[0]: ")
        self._refuse(entries, EventRefusedError(status, identifier, message))
        return 0.0

    def close(self) -> None:
        """Take nothing more in."""
        self._is_closed = True

    def take_rest(self) -> list[dict[str, Any]]:
        """Give up what still waits; returns the events of it."""
        rest, self._entries = list(self._entries), deque()
        if rest:
            # Whoever waits for one of these is told.
            self._last = rest[0].number - 1
        for entry in rest:
            entry.outcome = PublisherClosedError("The publisher was closed before the disconnect had left.")
        return [entry.content for entry in rest if entry.path == EVENTS]

    def _put(self, path: str, content: dict[str, Any]) -> Entry:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        if self._is_closed:
            raise PublisherClosedError("The publisher is closed.")
        is_full = len(self._entries) >= self._limits.waiting
        if is_full or (self._entries and self._bytes + len(text) > self._limits.waiting_bytes):
            raise QueueFullError("Too many events wait to be published.")
        self._last += 1
        entry = Entry(self._last, path, content, text)
        self._entries.append(entry)
        self._bytes += len(text)
        return entry

    def _remove(self, entries: Sequence[Entry], outcome: int | PublisherError) -> None:
        for entry in entries:
            entry.outcome = outcome
            self._entries.remove(entry)
            self._bytes -= len(entry.text)

    def _refuse(self, entries: Sequence[Entry], error: EventRefusedError) -> None:
        self._remove(entries, error)
        for entry in entries:
            if entry.path == EVENTS:
                _call(self._on_refused, entry.content, error)

    def _pause(self, status: int, reason: str, retry_after: str) -> float:
        if reason != self._told:
            self._told = reason
            _call(self._on_trouble, reason)
        longest = self._limits.longest_pause
        pause = min(longest, _FIRST_PAUSE * 2.0 ** min(self._failures, 20)) * (0.5 + self._draw() / 2)
        self._failures += 1
        if status == _UNAUTHORIZED:
            pause = max(pause, _UNAUTHORIZED_PAUSE)
        if re.fullmatch(r"[0-9]{1,9}", retry_after):
            pause = max(pause, min(float(retry_after), _LONGEST_RETRY_AFTER))
        return pause


def _read(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):  # a proxy's page, perhaps
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _index(found: Mapping[str, Any], count: int) -> int | None:
    """Which event of a batch was refused, if the server says so."""
    context = found.get("context")
    index = context.get("index") if isinstance(context, dict) else None
    return index if type(index) is int and 0 <= index < count else None


def _call(callback: Callable[..., None], *arguments: object) -> None:
    try:
        callback(*arguments)
    except Exception:
        _log.exception("a callback of the publisher has failed")


def _log_refused(event: Mapping[str, Any], error: EventRefusedError) -> None:
    _log.error("the server refused %s %s: %s", event.get("event"), event["id"], error)


def _log_trouble(reason: str) -> None:
    _log.warning("publishing fails and is tried again: %s", reason)

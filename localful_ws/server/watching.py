"""Watching one user's events as the server accepts them, for an operator: as lines of JSON.

A watcher follows the user's stream as a device does, whether or not the user has one here, and is told all of
it: data events of any vault, and each event's origin group. It hurts nobody: what it does not take in time it
misses, and it is told how much.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from localful_ws.engine import Engine, Entry, Position
from localful_ws.wakeup import Signal

MOST_WATCHERS: Final = 16
"""Watchers of one node."""

MOST_LINES: Final = 500
"""Lines that may wait for one watcher."""

MOST_DATA_BYTES: Final = 4096
"""The size of an event's data up to which it is shown."""

_BREAKS_TO_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")
_encode = msgspec.json.Encoder().encode


class TooManyWatchersError(Exception):
    """As many watch as may."""


class Watcher:
    """One that watches: what waits for it.

    Args:
        user: Whose events.
        now: The present, in Unix seconds.
    """

    def __init__(self, user: str, now: Callable[[], float]) -> None:
        self.user = user
        self._now = now
        self._lines: deque[bytes] = deque()
        self._missed = 0
        self._ended = False
        self._changed = Signal()

    def begin(self, position: Position, *, resumes: bool) -> None:
        """Tell where it begins, and what it missed before."""
        resumed = {"resumed": position.missed is not None} if resumes else {}
        self._put(self._line("watching", user=self.user, cursor=position.cursor, **resumed))
        for entry in position.missed or ():
            self.tell(entry)

    def tell(self, entry: Entry) -> None:
        """Tell an event, unless too much is waiting."""
        if self._ended:
            return
        if len(self._lines) >= MOST_LINES:
            self._missed += 1
            return
        event, data = entry.event, entry.data
        # Its id is left out: an engine need not keep it.
        optional = {"vault": event.vault, "group": event.group}
        shown: dict[str, object] = {
            "event": event.name.value,
            **{key: value for key, value in optional.items() if value is not None},
            "cursor": entry.cursor,
            "bytes": len(data),
        }
        if len(data) <= MOST_DATA_BYTES:
            # Untouched but for line breaks, which in JSON stand only between tokens.
            shown["data"] = msgspec.Raw(data.translate(_BREAKS_TO_SPACES))
        self._put(self._line("event", **shown))

    def lose(self) -> None:
        """Tell that events were missed that can't be had any more."""
        if len(self._lines) >= MOST_LINES:
            self._missed += 1
        else:
            self._put(self._line("lost"))

    def end(self) -> None:
        """Tell no more: the node is about to stop."""
        self._put(self._line("end", reason="draining"))
        self._ended = True

    def alive(self) -> bytes:
        """A line that says nothing but that the watch goes on."""
        return self._line("alive")

    async def take(self) -> bytes:
        """Wait for lines, and take those that are there; none if there will be no more."""
        while not self._lines and not self._ended:
            await self._changed.wait()
        if self._missed:
            self._lines.append(self._missed_line())
        lines = b"".join(self._lines)
        self._lines.clear()
        return lines

    def _put(self, line: bytes) -> None:
        if self._ended:
            return
        if self._missed:
            self._lines.append(self._missed_line())
        self._lines.append(line)
        self._changed.set()

    def _missed_line(self) -> bytes:
        missed, self._missed = self._missed, 0
        return self._line("missed", count=missed)

    def _line(self, kind: str, **more: object) -> bytes:
        return _encode({"type": kind, "time": self._now(), **more}) + b"\n"


class Watching:
    """All who watch at one node.

    Args:
        engine: Brings the events.
        now: The present, in Unix seconds.
    """

    def __init__(self, engine: Engine, now: Callable[[], float]) -> None:
        self._engine = engine
        self._now = now
        self._places = MOST_WATCHERS
        self._ended = False
        self._watchers: dict[str, list[Watcher]] = {}

    @asynccontextmanager
    async def watch(self, user: str, since: str | None = None) -> AsyncIterator[Watcher]:
        """Watch a user's events for the length of the block.

        Args:
            user: Whose.
            since: The cursor after which to go on, if it was watched before.

        Raises:
            TooManyWatchersError: If there is no place for another one.
            localful_ws.engine.EngineUnavailableError: If the user's stream can't be followed now.
        """
        if not self._places:
            raise TooManyWatchersError
        self._places -= 1
        watcher = Watcher(user, self._now)

        def begin(position: Position) -> None:
            watcher.begin(position, resumes=since is not None)
            self._watchers.setdefault(user, []).append(watcher)
            if self._ended:
                watcher.end()

        try:
            await self._engine.join(user, since, begin)
            yield watcher
        finally:
            self._places += 1
            if self._forget(watcher):
                self._engine.leave(user)

    def tell(self, entries: Sequence[Entry]) -> None:
        """Tell events to whoever watches their users, in order."""
        if not self._watchers:
            return
        for entry in entries:
            for watcher in self._watchers.get(entry.event.user, ()):
                watcher.tell(entry)

    def lose(self, user: str) -> None:
        """Tell whoever watches this user that something was missed."""
        for watcher in self._watchers.get(user, ()):
            watcher.lose()

    def end(self) -> None:
        """End all watching: the node is about to stop."""
        self._ended = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.end()

    def _forget(self, watcher: Watcher) -> bool:
        """Tell a watcher no more; says whether it was told anything."""
        watchers = self._watchers.get(watcher.user, [])
        if watcher not in watchers:
            return False
        watchers.remove(watcher)
        if not watchers:
            del self._watchers[watcher.user]
        return True

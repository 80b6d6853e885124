"""The publisher: takes what is in the outbox to the WebSocket server, in order."""

import json
import sqlite3
from collections.abc import Callable, Sequence

import httpx
import structlog
import trio

from localful_ws.demo.backend import outbox
from localful_ws.demo.backend.database import Database
from localful_ws.demo.backend.errors import ApiError
from localful_ws.demo.backend.outbox import Entry
from localful_ws.demo.backend.settings import BackendSettings
from localful_ws.publisher import EventRefusedError, Publisher, PublisherLimits, open_publisher

_log = structlog.get_logger(__name__)

_BUSY_PAUSE = 0.1
# What an entry can be to blame for; 503 is handed back only where the server has no room for a revocation.
# Anything else is an address or a proxy, which somebody will mend.
_OF_AN_ENTRY = (400, 413, 422, 503)


class OutboxPublisher:
    """Publishes the outbox. There must be one only, or one may overtake the other.

    Entries are deleted after all of them were accepted. After a crash before that they go out again, first
    and in the same order, with the ids they had; what the server has had already it counts as duplicates and
    delivers to nobody. It remembers ids for ``idempotency-seconds`` (five minutes).

    Args:
        database: Where the outbox is.
        settings: Where the server is; sizes and times.
        transport: How to reach the server, if not over the network.
        random: Gives numbers from 0 to 1, for pauses.
        now: The present, in Unix seconds.
    """

    def __init__(
        self,
        database: Database,
        settings: BackendSettings,
        transport: httpx.AsyncBaseTransport | None,
        random: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._settings = settings
        self._opening = open_publisher(
            settings.intake_url,
            settings.publisher_key,
            on_refused=lambda event, error: self._refused.update({event["id"]: error}),
            on_trouble=lambda reason: _log.warning("publishing failed; trying again", reason=reason),
            limits=PublisherLimits(
                batch=settings.batch_events,
                timeout=settings.publish_seconds,
                longest_pause=settings.retry_seconds,
            ),
            close_timeout=0,  # what is left stays in the outbox
            transport=transport,
            draw=random,
            now=now,
        )
        self._refused: dict[str, EventRefusedError] = {}
        self._wake = trio.Event()

    def wake(self) -> None:
        """Say that there may be something in the outbox."""
        self._wake.set()

    async def run(self) -> None:
        """Publish, for ever."""
        async with self._opening as publisher:
            while True:
                # Before the outbox is read: what is committed after that wakes us.
                self._wake = trio.Event()
                try:
                    pause = await self._publish_some(publisher)
                except ApiError as error:  # the database is busy
                    _log.warning("the outbox is busy; trying again", reason=error.message)
                    pause = _BUSY_PAUSE
                if pause is None:
                    with trio.move_on_after(self._settings.idle_seconds):
                        await self._wake.wait()
                else:
                    await trio.sleep(pause)

    async def _publish_some(self, publisher: Publisher) -> float | None:
        """Publish what is in the outbox first; returns how long to pause, or None if there was nothing."""
        limit = self._settings.batch_events
        entries = await self._database.read(lambda connection: outbox.first_entries(connection, limit))
        if not entries:
            return None
        self._refused.clear()
        for entry in entries:
            await self._publish(publisher, entry)
        await publisher.flush()
        for error in self._refused.values():
            if error.status not in _OF_AN_ENTRY:
                _log.error("publishing was refused; trying again", reason=str(error))
                return self._settings.retry_seconds
        await self._database.write(lambda connection: self._settle(connection, entries))
        return 0.0

    async def _publish(self, publisher: Publisher, entry: Entry) -> None:
        body = json.loads(entry.body)
        if entry.path == outbox.EVENTS:
            publisher.publish(body)
            return
        try:
            await publisher.disconnect(**body)
        except EventRefusedError as error:
            self._refused[entry.id] = error

    def _settle(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.id in self._refused:
                reason = str(self._refused[entry.id])
                _log.error("an entry of the outbox was refused", position=entry.position, reason=reason)
                outbox.set_aside(connection, entry, reason)
        outbox.remove(connection, entries)

"""SQLite under Trio: one connection, one transaction at a time, each on a worker thread."""

import sqlite3
from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

from localful_ws.demo.backend.errors import busy
from localful_ws.demo.backend.schema import SCHEMA

T = TypeVar("T")

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Offload(Protocol):
    """Runs what blocks; `trio.to_thread.run_sync` is one."""

    async def __call__(self, sync_fn: Callable[[], T], /) -> T:
        """Run ``sync_fn`` elsewhere, and return or raise what it does."""
        ...


async def in_thread(sync_fn: Callable[[], T], /) -> T:
    """Run ``sync_fn`` on a worker thread. What has begun is never abandoned: a commit is a commit."""
    return await trio.to_thread.run_sync(sync_fn)


class Database:
    """The database.

    The work of a transaction is a plain function that is given the connection. It runs on a worker thread, so
    it touches nothing but the connection and its own arguments.

    Args:
        path: Its file.
        busy_seconds: How long to wait for a turn, and for other processes.
        offload: Where transactions run.
    """

    def __init__(self, path: str, busy_seconds: float, offload: Offload = in_thread) -> None:
        self._offload = offload
        self._busy_seconds = busy_seconds
        self._turn = trio.Lock()
        self._on_commit: Callable[[], None] = lambda: None
        # No implicit transactions. The lock keeps threads from using the connection at the same time.
        self.connection = sqlite3.connect(
            path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
        )
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.executescript(SCHEMA)

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called after each commit of `write`, in Trio's thread."""
        self._on_commit = callback

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work``, which sees one state of the database however many statements it takes.

        Raises:
            ApiError: 503, if it doesn't get its turn in time.
        """
        return await self._transact("BEGIN", work)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` and commit what it did; if it raises, nothing has happened.

        Raises:
            ApiError: 503, if it doesn't get its turn in time.
        """
        result = await self._transact("BEGIN IMMEDIATE", work)
        self._on_commit()
        return result

    def close(self) -> None:
        """Close it."""
        self.connection.close()

    async def _transact(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        with trio.move_on_after(self._busy_seconds) as waiting:
            await self._turn.acquire()
        if waiting.cancelled_caught:
            raise busy()
        try:
            return await self._offload(lambda: transact(self.connection, begin, work))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode in _BUSY:
                raise busy() from None
            raise
        finally:
            self._turn.release()


def transact(connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``work`` between ``begin`` and COMMIT, or ROLLBACK if it raises."""
    connection.execute(begin)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result

"""A publisher on Trio or asyncio."""

import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import httpx

from localful_ws.publisher.errors import PublisherError
from localful_ws.publisher.queue import Answer, OnRefused, OnTrouble, PublisherLimits, PublishQueue, Request

_log = logging.getLogger("localful_ws.publisher")


class Publisher:
    """Publishes events, in order. `open_publisher` makes one. For one event loop: not for other threads."""

    def __init__(self, queue: PublishQueue, client: httpx.AsyncClient, timeout: float) -> None:
        self._queue = queue
        self._client = client
        self._timeout = timeout
        self._changed = anyio.Event()
        self._running = anyio.CancelScope(shield=True)
        self._ended = anyio.Event()

    def publish(self, event: Mapping[str, Any]) -> str:
        """Have an event published. Returns at once.

        Args:
            event: What ``POST /v1/events`` takes: ``event``, ``user``, ``vault``, ``group``, ``data`` and
                ``id``. It is written as JSON here and now.

        Returns:
            Its id: its own, or the UUID that was made for it.

        Raises:
            QueueFullError: If too much waits.
            PublisherClosedError: If the publisher is closed.
            TypeError: If it can't be written as JSON.
            ValueError: If it can't be written as JSON.
        """
        event_id = self._queue.put_event(event)
        self._notify()
        return event_id

    async def flush(self) -> None:
        """Wait until everything published so far has been accepted, or refused. Bound it as you see fit.

        Raises:
            PublisherClosedError: If the publisher is closed before that.
        """
        number = self._queue.last
        while not self._queue.is_settled(number):
            await self._changed.wait()

    async def disconnect(
        self, *, user: str | None = None, group: str | None = None, until: float | None = None
    ) -> int:
        """End sessions, after what was published before, and wait for that.

        Only those are meant whose tokens were issued before this call, however often it is tried. If the
        wait is cancelled, the disconnect goes out all the same.

        Args:
            user: Whose sessions: alone, all of the user's; with ``group``, those of this one login.
            group: The login's token group. Alone only where no two users have groups of the same id: it is
                every user's group of this id.
            until: Until which Unix second tokens are refused; None for ``revocation-seconds`` from then on.

        Returns:
            How many connections are being closed.

        Raises:
            EventRefusedError: If the server refuses it.
            QueueFullError: If too much waits.
            PublisherClosedError: If the publisher is closed, or is before it has left.
        """
        entry = self._queue.put_disconnect(user, group, until)
        self._notify()
        while entry.outcome is None:
            await self._changed.wait()
        if isinstance(entry.outcome, PublisherError):
            raise entry.outcome
        return entry.outcome

    async def close(self, timeout: float = 5.0) -> list[dict[str, Any]]:  # noqa: ASYNC109 - it bounds a last effort
        """Take nothing more, and wait for what was taken, even if cancelled.

        Args:
            timeout: For so many seconds.

        Returns:
            The events that are left. Some of them may have been accepted; they have ids, so to publish them
            later is harmless.
        """
        self._queue.close()
        with anyio.move_on_after(timeout, shield=True):
            await self.flush()
        with anyio.CancelScope(shield=True):
            self._running.cancel()
            await self._ended.wait()
        rest = self._queue.take_rest()
        self._notify()
        return rest

    async def run(self) -> None:
        """Publish until closed. `open_publisher` calls it."""
        try:
            with self._running:
                while True:
                    request = self._queue.next_request()
                    if request is None:
                        await self._changed.wait()
                        continue
                    pause = self._queue.take_answer(request, await self._post(request))
                    self._notify()
                    await anyio.sleep(pause)
        finally:
            self._ended.set()

    async def _post(self, request: Request) -> Answer:
        try:
            with anyio.fail_after(self._timeout):
                response = await self._client.post(request.path, content=request.body)
        except TimeoutError:
            return Answer(0, b"No answer: it took too long.")
        except httpx.HTTPError as error:
            return Answer(0, f"No answer: {type(error).__name__}.".encode())
        return Answer(response.status_code, response.content, response.headers.get("Retry-After", ""))

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


def open_publisher(
    url: str,
    key: str,
    *,
    on_refused: OnRefused | None = None,
    on_trouble: OnTrouble | None = None,
    limits: PublisherLimits | None = None,
    close_timeout: float = 5.0,
    transport: httpx.AsyncBaseTransport | None = None,
    draw: Callable[[], float] = random.random,
    now: Callable[[], float] = time.time,
) -> AbstractAsyncContextManager[Publisher]:
    """Publish as long as the ``async with`` block lasts.

    Leaving the block, also by being cancelled, waits for what is still to leave. How many events are left is
    logged; call `Publisher.close` yourself to have them.

    Args:
        url: The server's internal port: ``http://127.0.0.1:42103``.
        key: The publisher key.
        on_refused: Is given each event that the server refused; None logs it. It must not wait.
        on_trouble: Is told why nothing gets through; None logs it. It must not wait.
        limits: How much at once, and how long.
        close_timeout: How many seconds leaving the block may take. With 0 nothing is logged: for outboxes,
            where what is left still is.
        transport: How to reach the server, if not over the network; a transport of httpx.
        draw: Draws a number from 0 to 1, for pauses.
        now: Tells the time, in Unix seconds, for disconnects.

    Raises:
        ValueError: If the URL is none, or the key can't be one. The message doesn't hold the key.
    """
    if not _is_url(url):
        raise ValueError(
            "The URL must begin with http:// or https://, a host, and a port from 1 to 65535 if any."
        )
    if not (key and key.isascii() and key.isprintable()):
        raise ValueError("The publisher key must be printable ASCII.")
    limits = limits or PublisherLimits()
    queue = PublishQueue(limits, on_refused, on_trouble, draw, now)
    client = httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        timeout=limits.timeout,
        transport=transport,
        # Proxies are for the world outside; the key must not go to one.
        trust_env=False,
    )
    return _run_publisher(queue, client, limits, close_timeout)


def _is_url(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return (
        parsed.scheme in ("http", "https")
        and parsed.host != ""
        and (parsed.port is None or 1 <= parsed.port <= 65535)
    )


@asynccontextmanager
async def _run_publisher(
    queue: PublishQueue, client: httpx.AsyncClient, limits: PublisherLimits, close_timeout: float
) -> AsyncIterator[Publisher]:
    failure: Exception | None = None
    async with client, anyio.create_task_group() as tasks:
        publisher = Publisher(queue, client, limits.timeout)
        tasks.start_soon(publisher.run)
        try:
            yield publisher
        except Exception as error:
            # What the block raised leaves it as it was, not in a group.
            failure = error
        finally:
            rest = await publisher.close(close_timeout)
            if rest and close_timeout > 0:
                _log.warning("the publisher was closed with %d events left", len(rest))
    if failure is not None:
        raise failure

"""A publisher for threads: a `Publisher` on an event loop in a thread of its own."""

import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import Any, Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from localful_ws.publisher.errors import PublisherClosedError
from localful_ws.publisher.publisher import Publisher, open_publisher
from localful_ws.publisher.queue import OnRefused, OnTrouble, PublisherLimits

_T = TypeVar("_T")


class ThreadPublisher:
    """Publishes events, in order, from whatever thread. Close it, or have a ``with`` block do so.

    Its thread begins with the first event, so that a process may fork before. The callbacks are called in
    that thread: they may publish, but not wait. Arguments and errors are those of `open_publisher` and
    `Publisher`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        on_refused: OnRefused | None = None,
        on_trouble: OnTrouble | None = None,
        limits: PublisherLimits | None = None,
        close_timeout: float = 5.0,
    ) -> None:
        self._opening = open_publisher(
            url, key, on_refused=on_refused, on_trouble=on_trouble, limits=limits, close_timeout=close_timeout
        )
        self._lock = threading.Lock()
        # A daemon: a program that forgets to close must end all the same.
        self._thread = threading.Thread(target=self._run, name="localful-publisher", daemon=True)
        self._opened: Future[tuple[BlockingPortal, Publisher]] = Future()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def publish(self, event: Mapping[str, Any]) -> str:
        """Have an event published, as `Publisher.publish` does."""
        if threading.current_thread() is self._thread:
            return self._opened.result()[1].publish(event)

        async def publish(publisher: Publisher) -> str:
            return publisher.publish(event)

        return self._call(publish)

    def flush(self, timeout: float | None = None) -> None:
        """Wait, as `Publisher.flush` does; raises `TimeoutError` if it takes over ``timeout`` seconds."""
        self._call(lambda publisher: publisher.flush(), timeout)

    def disconnect(
        self,
        *,
        user: str | None = None,
        group: str | None = None,
        until: float | None = None,
        timeout: float | None = None,
    ) -> int:
        """End sessions, as `Publisher.disconnect` does; `TimeoutError` as with `flush`."""
        return self._call(
            lambda publisher: publisher.disconnect(user=user, group=group, until=until), timeout
        )

    def close(self, timeout: float = 5.0) -> list[dict[str, Any]]:
        """Take nothing more, and wait for what was taken, as `Publisher.close` does."""
        with self._lock:
            is_running = self._is_started() and not self._is_closed
        rest = self._call(lambda publisher: publisher.close(timeout)) if is_running else []
        self._end()
        return rest

    def _is_started(self) -> bool:
        return self._thread.ident is not None

    def _end(self) -> None:
        with self._lock:
            is_first, self._is_closed = not self._is_closed, True
        # From here on nothing starts the thread.
        if not self._is_started():
            return
        if is_first:
            portal, _ = self._opened.result()
            portal.call(portal.stop)
        self._thread.join()

    def _call(self, action: Callable[[Publisher], Awaitable[_T]], timeout: float | None = None) -> _T:
        portal, publisher = self._open()
        try:
            future: Future[_T] = portal.start_task_soon(action, publisher)
        except RuntimeError:
            if self._is_closed:
                raise PublisherClosedError("The publisher is closed.") from None
            raise
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise

    def _open(self) -> tuple[BlockingPortal, Publisher]:
        with self._lock:
            if self._is_closed:
                raise PublisherClosedError("The publisher is closed.")
            if not self._is_started():
                self._thread.start()
        return self._opened.result()

    def _run(self) -> None:
        anyio.run(self._serve)

    async def _serve(self) -> None:
        async with BlockingPortal() as portal, self._opening as publisher:
            self._opened.set_result((portal, publisher))
            await portal.sleep_until_stopped()

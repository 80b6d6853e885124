"""The HTTP API's side: posts events over keep-alive connections, in the client's own loop."""

import contextlib
import select
import socket
import time
from collections import deque
from collections.abc import Sequence

from benchmarks.client import Client
from benchmarks.model import PUBLISHER_KEY, BenchmarkError, Event, to_json

PIPELINE = 32
IDLE_SECONDS = 30.0
"""A connection that was idle for longer is not used again: the daemon hangs up on one after a minute."""


def request(port: int, path: str, body: bytes) -> bytes:
    """A POST, whole."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {PUBLISHER_KEY}\r\n"
        f"Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Publisher:
    """Posts events and checks that every request is answered with 202 (nchan: any 2xx).

    Args:
        client: Whose loop and ledger are used.
        connections: Keep-alive connections; with one, requests follow each other and so do events.
    """

    def __init__(self, client: Client, connections: int = 1) -> None:
        self.client = client
        self.posts = 0
        """Requests made so far."""
        self.last_answer = b""
        """The last right one, all its bytes: they stay the same for a second, as the date in it does."""
        self._per_event = "{user}" in client.target.publish_path
        self._queue: deque[bytes] = deque()
        self._lines = [
            _Line(self, pipeline=PIPELINE if self._per_event else 1) for _index in range(connections)
        ]

    def prepare(self, events: Sequence[Event]) -> int:
        """Make requests of them, one batch where the server knows batches, for `start` to post.

        Returns:
            How many deliveries must follow.
        """
        target = self.client.target
        deliveries = self.client.ledger.publish(events)
        if self._per_event:
            for event in events:
                path = target.publish_path.format(user=event.user)
                self._queue.append(request(target.internal_port, path, to_json(event.delivered())))
        else:
            bodies = [event.published() for event in events]
            body = to_json(bodies[0] if len(bodies) == 1 else {"events": bodies})
            self._queue.append(request(target.internal_port, target.publish_path, body))
        return deliveries

    def start(self) -> None:
        """Post what was prepared, as fast as answers come; don't wait."""
        for line in self._lines:
            if not self._queue:
                return
            line.send_next()

    def publish(self, events: Sequence[Event]) -> int:
        """Post them, as one batch where the server knows batches; don't wait.

        Returns:
            How many deliveries must follow.
        """
        deliveries = self.prepare(events)
        self.start()
        return deliveries

    def publish_and_wait(self, events: Sequence[Event], timeout: float = 30.0) -> int:
        """Post them and wait until every device that must have them has them."""
        deliveries = self.publish(events)
        self.client.run_until(self.is_done, timeout, f"delivery of {len(events)} events")
        return deliveries

    def is_done(self) -> bool:
        """Whether all is answered and delivered."""
        return self.client.ledger.outstanding <= 0 and self.is_idle()

    def is_idle(self) -> bool:
        """Whether every request is answered."""
        return not self._queue and not any(line.unanswered for line in self._lines)

    def take(self) -> bytes | None:
        """The next request to send."""
        if not self._queue:
            return None
        self.posts += 1
        return self._queue.popleft()

    def close(self) -> None:
        """Hang up."""
        for line in self._lines:
            line.close()


class _Line:
    """One keep-alive connection."""

    def __init__(self, publisher: Publisher, *, pipeline: int) -> None:
        self.publisher = publisher
        self.unanswered = 0
        self.pipeline = pipeline
        self.buffer = b""
        self.unsent = b""
        self.connect()

    def connect(self) -> None:
        """Open the connection."""
        client = self.publisher.client
        self.used = time.monotonic()
        self.sock = socket.create_connection(("127.0.0.1", client.target.internal_port), timeout=5)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(0)
        self.mask = select.EPOLLIN
        client.watch(self.sock, self.on_ready, self.mask)

    def send_next(self) -> None:
        """Send as many requests as may be on their way at once."""
        while self.unanswered < self.pipeline and not self.unsent:
            data = self.publisher.take()
            if data is None:
                return
            now = time.monotonic()
            if not self.unanswered and now - self.used > IDLE_SECONDS:
                self.close()
                self.connect()
            self.used = now
            self.unanswered += 1
            self.unsent = data
            self.flush()

    def flush(self) -> None:
        """Hand the rest to the kernel as soon as it takes it."""
        with contextlib.suppress(BlockingIOError):
            self.unsent = self.unsent[self.sock.send(self.unsent) :]
        mask = select.EPOLLIN | (select.EPOLLOUT if self.unsent else 0)
        if mask != self.mask:
            self.mask = mask
            self.publisher.client.change(self.sock, self.on_ready, mask)

    def on_ready(self, mask: int) -> None:
        """Read answers, send what is left."""
        if mask & select.EPOLLOUT and self.unsent:
            self.flush()
        if mask & select.EPOLLIN:
            chunk = self.sock.recv(1 << 16)
            if not chunk:
                if self.unanswered:
                    raise BenchmarkError("the server hung up on the publisher")
                # It was idle for so long that the server closed it.
                self.close()
                self.connect()
                return
            self.buffer += chunk
            if self.buffer == self.publisher.last_answer:
                self.buffer = b""
                self.unanswered -= 1
            while self.buffer and self.answer():
                self.unanswered -= 1
        self.send_next()

    def answer(self) -> bool:
        """Cut one whole answer off the buffer; False if it isn't whole."""
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return False
        lines = head.lower().split(b"\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), None
        )
        if length is None:
            raise BenchmarkError(f"an answer to the publisher without Content-Length: {head!r}")
        if len(rest) < length:
            return False
        status = int(lines[0].split(b" ")[1])
        if status // 100 != 2 or (
            status != 202 and "{user}" not in self.publisher.client.target.publish_path
        ):
            raise BenchmarkError(f"the publisher got {status}: {rest[:300]!r}")
        if len(rest) == length:
            self.publisher.last_answer = self.buffer
        self.buffer = rest[length:]
        return True

    def close(self) -> None:
        """Hang up."""
        self.publisher.client.unwatch(self.sock)
        self.sock.close()

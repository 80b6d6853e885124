"""The publisher for threads, against a server in a thread."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from localful_ws.publisher import EventRefusedError, PublisherClosedError, ThreadPublisher

pytestmark = pytest.mark.sockets

PATIENCE = 30


class Server(ThreadingHTTPServer):
    """Accepts what is posted, but for users named "refused", and holds back what it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.events: list[dict[str, Any]] = []
        self.open = threading.Event()
        self.open.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.open.wait(PATIENCE)
        events = body.get("events", [body])
        wrong = [index for index, event in enumerate(events) if event["user"] == "refused"]
        if wrong:
            self.answer(422, {"identifier": "invalid-body", "message": "No.", "context": {"index": wrong[0]}})
        elif self.path == "/v1/disconnect":
            self.answer(202, {"closed": 2})
        else:
            self.server.events += events
            self.answer(202, {"accepted": len(events)})

    def answer(self, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.open.set()
        server.shutdown()
        thread.join(PATIENCE)


def update(user: str, number: int = 0) -> dict[str, Any]:
    return {"event": "user-update", "user": user, "data": number}


def test_from_many_threads(server: Server) -> None:
    refused: list[tuple[str, int]] = []
    with ThreadPublisher(
        server.url, "key", on_refused=lambda event, error: refused.append((event["id"], error.status))
    ) as publisher:

        def publish(user: str) -> None:
            for number in range(50):
                publisher.publish(update(user, number))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(publish, "abcd"))
        wrong = publisher.publish(update("refused"))
        publisher.flush(PATIENCE)
        assert refused == [(wrong, 422)]
        assert publisher.disconnect(user="a", timeout=PATIENCE) == 2
        with pytest.raises(EventRefusedError, match=r"^HTTP 422: No. \(invalid-body\)$"):
            publisher.disconnect(user="refused", timeout=PATIENCE)
    for user in "abcd":
        assert [event["data"] for event in server.events if event["user"] == user] == list(range(50))


def test_a_callback_may_publish(server: Server) -> None:
    def again(event: dict[str, Any], _: EventRefusedError) -> None:
        publisher.publish(event | {"user": "a"})

    with ThreadPublisher(server.url, "key", on_refused=again, close_timeout=PATIENCE) as publisher:
        event_id = publisher.publish(update("refused"))
        publisher.flush(PATIENCE)
    assert server.events == [update("a") | {"id": event_id}]


def test_leaving_the_block_waits_for_what_is_to_leave(server: Server) -> None:
    with ThreadPublisher(server.url, "key", close_timeout=PATIENCE) as publisher:
        publisher.publish(update("a"))
    assert len(server.events) == 1
    with pytest.raises(PublisherClosedError):
        publisher.publish(update("a"))
    assert publisher.close() == []


def test_closing_gives_back_what_is_left(server: Server) -> None:
    server.open.clear()
    publisher = ThreadPublisher(server.url, "key")
    first = publisher.publish(update("a"))
    with pytest.raises(TimeoutError):
        publisher.flush(0.01)
    with ThreadPoolExecutor(1) as pool:
        flushing = pool.submit(publisher.flush, PATIENCE)
        with pytest.raises(TimeoutError):
            flushing.result(0.01)
        assert [event["id"] for event in publisher.close(0)] == [first]
        with pytest.raises(PublisherClosedError):
            flushing.result(PATIENCE)


def test_what_was_never_used_is_closed_all_the_same() -> None:
    with ThreadPublisher("http://127.0.0.1:1", "key") as publisher:
        pass
    with pytest.raises(PublisherClosedError):
        publisher.publish(update("a"))
    other = ThreadPublisher("http://127.0.0.1:1", "key")
    assert other.close() == other.close() == publisher.close() == []
    with pytest.raises(PublisherClosedError):
        other.flush()
    assert "localful-publisher" not in {thread.name for thread in threading.enumerate()}


def test_refuses_what_cannot_be_at_once() -> None:
    with pytest.raises(ValueError, match="must begin with http"):
        ThreadPublisher("ws://127.0.0.1:1", "key")

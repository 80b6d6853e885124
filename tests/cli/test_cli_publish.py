"""``localful-ws publish``, against the server's own reading of a publish."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from localful_ws.cli import main
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import PublishError, PublishLimits, decode_publish_body

KEY = "a-publisher-key-that-nobody-may-see"
Handler = Callable[[httpx.Request], httpx.Response]


class Server:
    """Accepts what can be accepted.

    Attributes:
        batches: What was accepted, publish by publish.
        requests: Every request.
        clients: With which options HTTP clients were made.
    """

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self.requests: list[httpx.Request] = []
        self.clients: list[dict[str, Any]] = []
        self.handle: Handler = self.accept

    def accept(self, request: httpx.Request) -> httpx.Response:
        try:
            events = decode_publish_body(request.content, PublishLimits(max_events=3))
        except PublishError as error:
            body = {"statusCode": error.status, "message": error.message, "context": error.context}
            return httpx.Response(error.status, json=body)
        known = {event.id for batch in self.batches for event in batch}
        new = [event for event in events if event.id is None or event.id not in known]
        self.batches.append(new)
        duplicates = {"duplicates": len(events) - len(new)} if len(new) < len(events) else {}
        return httpx.Response(202, json={"accepted": len(new), **duplicates})

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.handle(request)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    make_client = httpx.Client

    def make_connected_client(**options: Any) -> httpx.Client:
        server.clients.append(options)
        return make_client(transport=httpx.MockTransport(server.answer), **options)

    monkeypatch.setattr(httpx, "Client", make_connected_client)
    return server


def run(*arguments: str, stdin: bytes = b"", environment: dict[str, str] | None = None) -> Result:
    variables = {f"LOCALFUL_WS_{name.upper()}": value for name, value in (environment or {}).items()}
    return CliRunner().invoke(
        main, ["publish", *arguments], input=stdin, env={"LOCALFUL_WS_PUBLISHER_KEY": KEY} | variables
    )


def test_an_event_is_published(server: Server) -> None:
    result = run("--user", "ada", "--vault", "v1", "--group", "phone", "item-create", '{"a": 1.50, "b": "ü"}')
    assert (result.exit_code, result.stdout, result.stderr) == (0, "1 event was accepted.\n", "")
    data = '{"a": 1.50, "b": "ü"}'.encode()
    assert server.batches == [[Event(EventName.ITEM_CREATE, "ada", "v1", "phone", data)]]
    (request,) = server.requests
    assert str(request.url) == "http://127.0.0.1:42103/v1/events"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    # A proxy set up for the world outside must not see the key.
    assert server.clients[0]["trust_env"] is False


@pytest.mark.parametrize(
    ("arguments", "stdin", "data"),
    [
        ([], b"{}", b"null"),
        (["null"], b"", b"null"),
        (["-"], b" [1, 2]\n", b"[1, 2]"),
        (['"x"'], b"", b'"x"'),
    ],
)
def test_data_is_given_or_read_or_left_out(
    server: Server, arguments: list[str], stdin: bytes, data: bytes
) -> None:
    assert run("--user", "ada", "user-update", *arguments, stdin=stdin).exit_code == 0
    assert server.batches == [[Event(EventName.USER_UPDATE, "ada", data=data)]]


@pytest.mark.parametrize(
    ("arguments", "environment", "url"),
    [
        (["--url", "http://api.example:1"], {"internal_port": "5"}, "http://api.example:1/v1/events"),
        ([], {"publish_url": "http://api.example:2"}, "http://api.example:2/v1/events"),
        ([], {"internal_host": "::", "internal_port": "3"}, "http://[::1]:3/v1/events"),
    ],
)
def test_the_daemon_is_looked_for_where_it_was_told_to_listen(
    server: Server, arguments: list[str], environment: dict[str, str], url: str
) -> None:
    assert run("--user", "ada", *arguments, "user-update", environment=environment).exit_code == 0
    assert str(server.requests[0].url) == url


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["user-update"], {}, "Say with --user whose devices may hear of it."),
        (["--user", "ada", "user-update", "{"], {}, "DATA is not JSON"),
        (["--user", "ada", "user-update", "hello"], {}, "a text needs its quotes"),
        (["--user", "ada", "user-update", "NaN"], {}, "DATA is not JSON"),
        (["--user", "ada", "user-update", "[" * 101 + "]" * 101], {}, "DATA is nested more than 100 deep."),
        (["--user", "ada", "user-update", "-"], {}, "DATA is not JSON"),
        (["--user", "ada", "-"], {}, "With - each line is a whole event; leave out everything else."),
        (["-", "{}"], {}, "With - each line is a whole event; leave out everything else."),
        ([], {}, "Missing argument 'EVENT'"),
        (
            ["--user", "ada", "user-update"],
            {"publisher_key": "short"},
            "LOCALFUL_WS_PUBLISHER_KEY must be at",
        ),
        (
            ["--user", "ada", "user-update"],
            {"publisher_key": ""},
            "publisher-key is missing: set publisher-key",
        ),
        (["--user", "ada", "user-update"], {"internal_port": "0"}, "say with --url where the daemon listens"),
        (
            ["--user", "ada", "--url", "http://", "user-update"],
            {},
            "--url must begin with http:// or https://",
        ),
        (
            ["--user", "ada", "--url", "api:42103", "user-update"],
            {},
            "--url must begin with http:// or https://",
        ),
        (["--user", "ada", "--url", "http://a:port", "user-update"], {}, "--url must begin with http:// or"),
        (
            ["--user", "ada", "--url", "ws://api", "user-update"],
            {},
            "--url must begin with http:// or https://",
        ),
    ],
)
def test_what_cannot_be_published_is_not_sent(
    server: Server, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    result = run(*arguments, environment=environment)
    assert (result.exit_code, result.stdout, server.requests) == (2, "", [])
    assert sentence in result.stderr
    assert KEY not in result.stderr


def test_what_the_server_refuses_is_told_in_its_words(server: Server) -> None:
    result = run("--user", "ada", "item-create")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: item-create needs the vault it is about.\n"


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"message":5,"context":[]}', b"\xff"])
@pytest.mark.parametrize("status", [200, 202, 502])
def test_an_answer_of_another_kind_is_told_by_its_status(server: Server, status: int, content: bytes) -> None:
    server.handle = lambda _: httpx.Response(status, content=content)
    result = run("--user", "ada", "user-update")
    assert (result.exit_code, result.stderr) == (1, f"Error: The server answered with HTTP {status}.\n")


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("timed out")])
def test_a_server_that_does_not_answer_is_named(server: Server, error: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    server.handle = fail
    result = run("--user", "ada", "user-update")
    assert result.exit_code == 1
    assert result.stderr == f"Error: No answer from http://127.0.0.1:42103: {error}.\n"


def line(number: int, **keys: Any) -> bytes:
    return json.dumps({"event": "user-update", "user": "ada", "data": number} | keys).encode() + b"\n"


def test_lines_are_published_in_batches_in_order(server: Server) -> None:
    result = run("-", "--max-batch", "3", stdin=b"\n".join(line(number) for number in range(7)))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "7 events were accepted.\n", "")
    assert [len(batch) for batch in server.batches] == [3, 3, 1]
    assert [event.data for batch in server.batches for event in batch] == [b"%d" % n for n in range(7)]


def test_what_was_accepted_before_is_told(server: Server) -> None:
    told = [run("--user", "ada", "--id", "7", "user-update").stdout for _ in range(2)]
    assert told == ["1 event was accepted.\n", "0 events were accepted. 1 had been accepted before.\n"]
    lines = b"".join(line(number, id=str(number)) for number in (7, 8, 7, 9))
    assert run("-", "--max-batch", "1", stdin=lines).stdout == (
        "2 events were accepted. 2 had been accepted before.\n"
    )


def test_no_lines_are_no_events(server: Server) -> None:
    result = run("-")
    assert (result.exit_code, result.stdout, server.requests) == (0, "0 events were accepted.\n", [])


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            [line(1), line(2, vault="v1"), line(3)],
            "Line 2: user-update is a user event and names no vault. 0 events were accepted before.",
        ),
        (
            [*[line(1)] * 3, b"\n", line(2), line(3, event="item-create")],
            "Line 6: item-create needs the vault it is about. 3 events were accepted before.",
        ),
        ([line(1), b"oops\n", line(2)], "Line 2 is not JSON. 1 event was accepted before."),
        ([line(1), b"[]\n"], "Line 2 is not a JSON object. 1 event was accepted before."),
    ],
)
def test_a_line_that_is_refused_ends_it(server: Server, lines: list[bytes], sentence: str) -> None:
    result = run("-", "--max-batch", "3", stdin=b"".join(lines))
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {sentence}\n")


@pytest.mark.parametrize(("count", "place"), [(1, "Line 1"), (2, "Lines 1 to 2")])
def test_a_batch_that_is_refused_whole_is_named(server: Server, count: int, place: str) -> None:
    server.handle = lambda _: httpx.Response(503, json={"message": "The server is stopping."})
    result = run("-", stdin=line(1) * count)
    assert result.stderr == f"Error: {place}: The server is stopping. 0 events were accepted before.\n"


def test_progress_is_told_when_it_takes_long(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def take_a_second(request: httpx.Request) -> httpx.Response:
        nonlocal now
        now += 1
        return server.accept(request)

    monkeypatch.setattr(time, "monotonic", lambda: now)
    server.handle = take_a_second
    result = run("-", "--max-batch", "3", stdin=line(1) * 14)
    assert result.stderr == "6 events were accepted so far.\n12 events were accepted so far.\n"
    assert result.stdout == "14 events were accepted.\n"

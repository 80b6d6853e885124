"""``localful-ws listen``, against a server that isn't ours, on real sockets."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from localful_ws.cli import main
from localful_ws.client import reconnect

Handler = Callable[[ServerConnection], None]
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


@contextmanager
def serving(handler: Handler) -> Iterator[str]:
    """A server on a free port; gives its URL."""
    with serve(handler, "127.0.0.1", 0, subprotocols=[Subprotocol("localful.v1")]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1/sync"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Come back at once, if at all."""

    def pause_before(*circumstances: Any) -> float | None:
        return None if reconnect.pause_before(*circumstances) is None else 0.0

    monkeypatch.setattr("localful_ws.client.conversation.pause_before", pause_before)


def authenticate(connection: ServerConnection, **changes: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(connection.recv(timeout=10))
    answer = {
        "event": "authenticated",
        "user": "ada",
        "group": "phone",
        "expiresAt": 1_700_000_000,
        "vaults": said["vaults"],
        "cursor": "c0",
        "resumed": True if "since" in said else None,
        "id": said["id"],
    }
    answer = {key: value for key, value in (answer | changes).items() if value is not None}
    connection.send(json.dumps(answer))
    return said


def listen(*arguments: str, **environment: str) -> Result:
    variables = {f"LOCALFUL_WS_{name.upper()}": value for name, value in environment.items()}
    return CliRunner().invoke(main, ["listen", *arguments], env=variables)


def test_events_are_printed_a_line_each_until_the_server_says_no() -> None:
    said: list[dict[str, Any]] = []

    def handle(connection: ServerConnection) -> None:
        said.append(authenticate(connection))
        connection.send('{"event":"item-create","vault":"v1","data":{"a":"ü\\n"},"more":1}')
        connection.send('{"event":"user-update","data":null,"cursor":"7"}')
        connection.send('{"event":"user-update","data":"\\ud800"}')
        connection.send('{"event":"error","code":"forbidden","message":"The session is revoked."}')
        connection.close(4403, "forbidden")

    with serving(handle) as url:
        result = listen("--url", url, "--token", TOKEN, "--vault", "v1", "--vault", "v2")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        '{"notice": "snapshot-needed", "vaults": ["v1", "v2"], "cursor": "c0"}',
        '{"event": "item-create", "vault": "v1", "data": {"a": "ü\\n"}}',
        '{"event": "user-update", "data": null, "cursor": "7"}',
        '{"event": "user-update", "data": "\\ud800"}',
    ]
    assert result.stderr.splitlines() == [
        "Connected as user ada, group phone; vaults: v1, v2; until 2023-11-14 22:13:20+00:00.",
        "The server says: The session is revoked. (forbidden)",
        "Error: The session is revoked. (4403 forbidden)",
    ]
    assert [(message["token"], message["vaults"]) for message in said] == [(TOKEN, ["v1", "v2"])]
    assert "since" not in said[0]


def test_it_goes_on_where_it_is_told_to_and_where_a_connection_ended(no_pauses: None) -> None:
    sinces: list[str] = []

    def handle(connection: ServerConnection) -> None:
        sinces.append(authenticate(connection, expiresAt=1e300)["since"])
        number = len(sinces)
        connection.send(json.dumps({"event": "user-update", "data": number, "cursor": f"c{number}"}))
        connection.close(*((4412, "slow-consumer") if number == 1 else (4403, "forbidden")))

    with serving(handle) as url:
        result = listen("--url", url, "--token", TOKEN, "--since", "c-stored")
    assert sinces == ["c-stored", "c1"]
    assert result.stdout.splitlines() == [
        '{"event": "user-update", "data": 1, "cursor": "c1"}',
        '{"event": "user-update", "data": 2, "cursor": "c2"}',
    ]
    connected = "Connected as user ada, group phone; vaults: none; until 1e+300. What was missed follows."
    lines = result.stderr.splitlines()
    assert (lines[0], lines[2]) == (connected, connected)


@pytest.mark.parametrize(
    ("answer", "notice", "told"),
    [
        (
            {"resumed": False},
            '{"notice": "snapshot-needed", "vaults": ["v1"], "cursor": "c0"}',
            "until 1e+300. What was missed can't be told.",
        ),
        (
            {"resumed": None, "cursor": None},
            '{"notice": "snapshot-needed", "vaults": ["v1"]}',
            "until 1e+300.",
        ),
    ],
    ids=["cursor too old", "no history"],
)
def test_where_it_cannot_go_on_it_says_that_a_snapshot_is_needed(
    answer: dict[str, Any], notice: str, told: str
) -> None:
    def handle(connection: ServerConnection) -> None:
        authenticate(connection, expiresAt=1e300, **answer)
        connection.send('{"event":"snapshot-needed","vault":"v1","data":1,"cursor":"c1"}')
        connection.close(4403, "forbidden")

    with serving(handle) as url:
        result = listen("--url", url, "--token", TOKEN, "--vault", "v1", "--since", "c-old")
    # An event that is called the same is still to be told apart.
    event = '{"event": "snapshot-needed", "vault": "v1", "data": 1, "cursor": "c1"}'
    assert result.stdout.splitlines() == [notice, event]
    assert result.stderr.splitlines()[0].endswith(told)


def test_it_comes_back_with_a_new_token_from_its_file(no_pauses: None, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    tokens: list[str] = []

    def handle(connection: ServerConnection) -> None:
        tokens.append(authenticate(connection, expiresAt=1e300)["token"])
        if len(tokens) == 1:
            file.write_text("second\n")
            connection.close(4410, "token-expired")
        else:
            connection.close(4403, "forbidden")

    with serving(handle) as url:
        result = listen(token_file=str(file), listen_url=url)
    assert tokens == ["first", "second"]
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "Connected as user ada, group phone; vaults: none; until 1e+300."
    assert lines[1].startswith("The server closed the connection. (4410 token-expired) Connecting again in ")
    assert lines[3:] == ["Error: The server closed the connection. (4403 forbidden)"]


def test_a_token_that_has_expired_is_not_tried_again(no_pauses: None) -> None:
    def handle(connection: ServerConnection) -> None:
        authenticate(connection)
        connection.close(4410, "token-expired")

    with serving(handle) as url:
        result = listen("--url", url, token=TOKEN)
    assert result.exit_code == 1
    assert result.stderr.endswith("\nError: The server closed the connection. (4410 token-expired)\n")
    assert TOKEN not in result.output


def test_the_command_line_wins_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-the-file")
    tokens: list[str] = []

    def handle(connection: ServerConnection) -> None:
        tokens.append(authenticate(connection)["token"])
        connection.close(4403, "forbidden")

    with serving(handle) as url:
        listen("--url", url, "--token-file", str(file), token="from-the-environment")
        listen("--url", url, "--token", "from-the-command-line", token_file=str(file))
    assert tokens == ["from-the-file", "from-the-command-line"]


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        ([], {}, "Say who you are with --token, --token-file or LOCALFUL_WS_TOKEN"),
        (["--token", TOKEN, "--token-file", "x"], {}, "--token and --token-file exclude each other"),
        ([], {"token": TOKEN, "token_file": "x"}, "--token and --token-file exclude each other"),
        (["--token-file", "/nowhere"], {}, "The token file can't be read: No such file or directory."),
        (["--token-file", sys.executable], {}, "The token file holds something else than a token."),
        (
            ["--token", TOKEN, "--url", "http://a.example"],
            {},
            "--url: The URL must begin with ws:// or wss://",
        ),
        (["--token", TOKEN, "--since", ""], {}, "--since must be a cursor"),
        (["--token", TOKEN, "--since", "c" * 129], {}, "--since must be a cursor"),
        (["--token", TOKEN], {"port": "0"}, "say with --url where the daemon listens"),
        (["--token", TOKEN], {"port": "x"}, "LOCALFUL_WS_PORT must be a whole number"),
        (["--token", TOKEN, "--config", "/nowhere"], {}, "The configuration file /nowhere can't be read"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    result = listen(*arguments, **environment)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert TOKEN not in result.stderr


def keep_sending(connection: ServerConnection) -> None:
    """Authenticate, and send events for as long as anybody takes them."""
    authenticate(connection)
    with suppress(ConnectionClosed):
        while True:
            connection.send('{"event":"user-update","data":"%s"}' % ("x" * 1000))


def start(url: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "localful_ws", "listen", "--url", url, "--token", TOKEN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_ctrl_c_ends_it_well() -> None:
    closed: list[int | None] = []

    def handle(connection: ServerConnection) -> None:
        authenticate(connection)
        connection.send('{"event":"user-update","data":1}')
        with suppress(ConnectionClosed):
            connection.recv(timeout=10)
        closed.append(connection.close_code)

    with serving(handle) as url, start(url) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["notice"] == "snapshot-needed"
        assert json.loads(process.stdout.readline()) == {"event": "user-update", "data": 1}
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == 0
    assert stderr.decode().splitlines()[1:] == ["Stopped."]
    assert closed == [1000]


def test_it_ends_quietly_when_nobody_reads_on() -> None:
    with serving(keep_sending) as url, start(url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        stderr = process.stderr.read().decode()
        assert process.wait(timeout=10) == 1
    assert stderr.splitlines()[1:] == []

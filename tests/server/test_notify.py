"""What a service manager is told: by a daemon, by the parent of workers, and by nobody else."""

import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from localful_ws.server.notify import notify_ready, notify_stopping
from tests.end_to_end.process import DaemonProcess
from tests.redis_server import RedisServer

pytestmark = pytest.mark.sockets

PATIENCE = 20.0


@pytest.fixture(params=["a path", "an abstract name"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """A service manager's socket, of which the environment tells."""
    abstract = f"@localful-{secrets.token_hex(8)}"
    name = str(tmp_path / "notify") if request.param == "a path" else abstract
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield sock


def told(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def nothing_more(manager: socket.socket) -> bool:
    manager.setblocking(False)
    try:
        manager.recv(4096)
    except BlockingIOError:
        return True
    return False


def test_what_is_sent(manager: socket.socket) -> None:
    notify_ready("serving")
    assert told(manager) == ["READY=1", "STATUS=serving"]
    notify_stopping("draining")
    assert told(manager) == ["STOPPING=1", "STATUS=draining"]


@pytest.mark.parametrize("name", ["", "vsock:2:1234", "relative"])
def test_without_a_socket_nothing_happens(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with capture_logs() as log:
        notify_ready("serving")
    assert log == []


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
    with capture_logs() as log:
        notify_ready("serving")
    assert [entry["event"] for entry in log] == ["the service manager was not told"]


def test_a_manager_that_does_not_read_holds_nothing_up(manager: socket.socket) -> None:
    with capture_logs() as log:
        while not log:
            notify_ready("serving")


def run_to_its_end(manager: socket.socket, *options: str) -> tuple[list[str], list[str]]:
    """Start a daemon, end it, and say what it told at its start and at its end."""
    with DaemonProcess(*options) as daemon:
        first = told(manager)
        daemon.http.get("/healthz").raise_for_status()
        daemon.signal(signal.SIGTERM)
        second = told(manager)
        assert daemon.wait() == 0
    assert nothing_more(manager)
    return first, second


def test_one_process(manager: socket.socket) -> None:
    assert run_to_its_end(manager) == (
        ["READY=1", "STATUS=serving"],
        ["STOPPING=1", "STATUS=draining"],
    )


def test_workers_leave_it_to_their_parent(manager: socket.socket, redis_server: RedisServer) -> None:
    assert run_to_its_end(manager, "--workers", "2", "--engine", redis_server.url) == (
        ["READY=1", "STATUS=serving with 2 workers"],
        ["STOPPING=1", "STATUS=draining"],
    )

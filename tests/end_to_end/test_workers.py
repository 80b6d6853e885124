"""Several workers on the same ports, as processes, with a real Redis between them."""

import json
import os
import re
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.end_to_end.process import PUBLISHER_KEY, SECRET, TIMEOUT, DaemonProcess, eventually, receive
from tests.redis_server import RedisServer

pytestmark = pytest.mark.sockets

_ESTABLISHED = "01"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as redis:
        yield redis


@contextmanager
def running(redis: RedisServer, *options: str, count: int = 2) -> Iterator[DaemonProcess]:
    """Have a daemon of several workers, all of them ready."""
    given = ("--workers", str(count), "--engine", redis.url, "--close-timeout", "1", "--drain-seconds", "5")
    with DaemonProcess(*given, *options) as daemon:
        eventually(lambda: daemon.http.get("/readyz").status_code == 200)
        assert len(workers_of(daemon)) == count
        yield daemon
    assert workers_of(daemon) == set()


@pytest.fixture(scope="module")
def lasting(redis: RedisServer) -> Iterator[DaemonProcess]:
    """A daemon to which no test does any harm."""
    with running(redis) as daemon:
        yield daemon


@pytest.fixture
def daemon(redis: RedisServer) -> Iterator[DaemonProcess]:
    """A daemon of the test's own."""
    with running(redis) as daemon:
        yield daemon


def workers_of(daemon: DaemonProcess) -> set[int]:
    """The process ids of the living children of a daemon's first process."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == daemon.process.pid and state != "Z":
                found.add(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def worker_with(daemon: DaemonProcess, port: int) -> int:
    """Which worker has the connection that comes from this local port."""
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[2].endswith(f":{port:04X}") and line.split()[3] == _ESTABLISHED
    }
    for pid in workers_of(daemon):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                if (
                    re.fullmatch(r"socket:\[(\d+)\]", str(file.readlink()))
                    and str(file.readlink())[8:-1] in inodes
                ):
                    return pid
    raise AssertionError(f"no worker has a connection from port {port}")


@contextmanager
def connected(daemon: DaemonProcess, user: str, group: str) -> Iterator[ClientConnection]:
    """Have a device that is authenticated."""
    headers = {"Authorization": f"Bearer {daemon.token(user, group)}"}
    with daemon.connect(additional_headers=headers) as device:
        assert receive(device)["event"] == "authenticated"
        yield device


def connect_to_all(daemon: DaemonProcess, stack: ExitStack, user: str) -> dict[int, list[ClientConnection]]:
    """Connect devices of one user until each worker has some; returns them by worker."""
    devices: dict[int, list[ClientConnection]] = {pid: [] for pid in workers_of(daemon)}
    for number in range(40):
        device = stack.enter_context(connected(daemon, user, f"g{number}"))
        devices[worker_with(daemon, device.socket.getsockname()[1])].append(device)
        if all(devices.values()):
            return devices
    raise AssertionError(f"connections are not shared out: {devices}")


@contextmanager
def http_at(daemon: DaemonProcess, worker: int) -> Iterator[httpx.Client]:
    """Have an HTTP connection to the internal port that this worker serves."""
    with ExitStack() as stack:
        for _ in range(40):
            client = stack.enter_context(
                httpx.Client(
                    base_url=daemon.http.base_url,
                    headers=daemon.http.headers,
                    timeout=TIMEOUT,
                    trust_env=False,
                )
            )
            port = client.get("/healthz").extensions["network_stream"].get_extra_info("client_addr")[1]
            if worker_with(daemon, port) == worker:
                yield client
                return
    raise AssertionError(f"{worker} does not get any connection")


def publish(http: httpx.Client, data: object, user: str = "ada") -> None:
    """Publish an event for a user."""
    answer = http.post("/v1/events", json={"event": "user-update", "user": user, "data": data})
    assert answer.json() == {"accepted": 1}


def all_of(devices: dict[int, list[ClientConnection]]) -> list[ClientConnection]:
    return [device for several in devices.values() for device in several]


def closings(devices: Sequence[ClientConnection]) -> list[int | None]:
    """The close codes that devices get next; None where the connection is lost."""
    codes = []
    for device in devices:
        with pytest.raises(ConnectionClosed) as closed:
            device.recv(TIMEOUT)
        codes.append(None if closed.value.rcvd is None else closed.value.rcvd.code)
    return codes


def logged(daemon: DaemonProcess, event: str) -> list[dict[str, object]]:
    """What the log says of an event."""
    entries = [json.loads(line) for line in tuple(daemon.output)]
    return [entry for entry in entries if entry["event"] == event]


def test_what_is_published_at_any_worker_reaches_the_devices_of_all(lasting: DaemonProcess) -> None:
    with ExitStack() as stack:
        devices = connect_to_all(lasting, stack, "bob")
        for worker in devices:
            with http_at(lasting, worker) as http:
                publish(http, worker, "bob")
            assert [receive(device)["data"] for device in all_of(devices)] == [worker] * len(all_of(devices))
        answer = lasting.http.post("/v1/disconnect", json={"user": "bob"})
        assert answer.json() == {"closed": len(all_of(devices))}
        assert set(closings(all_of(devices))) == {4403}


def test_any_worker_shows_the_metrics_of_all(lasting: DaemonProcess) -> None:
    opened = lasting.metric("localful_ws_connections_opened_total")
    with ExitStack() as stack:
        devices = connect_to_all(lasting, stack, "ada")
        for worker in devices:
            with http_at(lasting, worker) as http:
                answer = http.get("/metrics")
                assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
                lines = answer.text.splitlines()
            count = len(all_of(devices))
            assert f"localful_ws_connections_opened_total {opened + count}" in lines
            assert f'localful_ws_connections{{state="authenticated"}} {count}.0' in lines
            assert "localful_ws_engine_up 1.0" in lines
            assert "localful_ws_workers 2.0" in lines
            assert "localful_ws_workers_missing 0.0" in lines
            assert "localful_ws_worker_restarts_total 0.0" in lines


def test_a_worker_that_is_killed(daemon: DaemonProcess) -> None:
    with ExitStack() as stack:
        devices = connect_to_all(daemon, stack, "ada")
        victim, other = devices
        opened = daemon.metric("localful_ws_connections_opened_total")
        os.kill(victim, signal.SIGKILL)
        assert set(closings(devices[victim])) == {None}
        # Its connections go before its listening socket, which may still be given one that then is reset.
        eventually(lambda: not is_alive(victim))
        with http_at(daemon, other) as http:
            publish(http, 1)
        assert [receive(device)["data"] for device in devices[other]] == [1] * len(devices[other])
        eventually(lambda: victim not in workers_of(daemon) and len(workers_of(daemon)) == 2)
        eventually(lambda: daemon.metric("localful_ws_workers_missing") == 0)
        assert daemon.metric("localful_ws_worker_restarts_total") == 1
        assert daemon.metric("localful_ws_connections_opened_total") == opened
        (entry,) = logged(daemon, "a worker ended")
        assert (entry["worker"], entry["signal"]) == (victim, "SIGKILL")
        again = connect_to_all(daemon, stack, "ada")
        publish(daemon.http, 2)
        told = [*devices[other], *all_of(again)]
        assert [receive(device)["data"] for device in told] == [2] * len(told)


def test_a_worker_that_is_told_to_end_drains_and_is_started_again(daemon: DaemonProcess) -> None:
    with ExitStack() as stack:
        devices = connect_to_all(daemon, stack, "ada")
        first, other = devices
        os.kill(first, signal.SIGTERM)
        assert set(closings(devices[first])) == {1001}
        eventually(lambda: first not in workers_of(daemon) and len(workers_of(daemon)) == 2)
        (entry,) = logged(daemon, "a worker ended")
        assert (entry["worker"], entry["status"]) == (first, 0)
        publish(daemon.http, 1)
        assert [receive(device)["data"] for device in devices[other]] == [1] * len(devices[other])


@pytest.mark.parametrize("to_all", [False, True])
def test_a_signal_drains_all(daemon: DaemonProcess, *, to_all: bool) -> None:
    """To all at once, as systemd does it, it is no second signal to anybody."""
    with ExitStack() as stack:
        devices = connect_to_all(daemon, stack, "ada")
        workers = workers_of(daemon)
        daemon.signal(signal.SIGTERM)
        if to_all:
            for worker in workers:
                os.kill(worker, signal.SIGTERM)
        assert set(closings(all_of(devices))) == {1001}
        assert daemon.wait() == 0
    assert not any(map(is_alive, workers))
    assert [len(logged(daemon, event)) for event in ("listening", "stopped", "a worker ended")] == [2, 1, 0]
    assert json.loads(daemon.output[-1])["event"] == "stopped"
    for port in daemon.ports.values():
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_second_signal_ends_all_at_once(redis: RedisServer) -> None:
    with running(redis, "--drain-seconds", "60", "--close-timeout", "60") as daemon:
        workers = workers_of(daemon)
        with daemon.socket("ada", "phone") as silent:
            daemon.signal(signal.SIGTERM)
            assert silent.recv(100).endswith(b"server-shutdown")
            daemon.signal(signal.SIGINT)
            assert daemon.wait() == 128 + signal.SIGINT
            assert not any(map(is_alive, workers))


def test_without_their_parent_the_workers_drain(daemon: DaemonProcess) -> None:
    with ExitStack() as stack:
        devices = connect_to_all(daemon, stack, "ada")
        workers = workers_of(daemon)
        daemon.signal(signal.SIGKILL)
        assert set(closings(all_of(devices))) == {1001}
        eventually(lambda: not any(map(is_alive, workers)))
    for port in daemon.ports.values():
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_no_secret_is_in_the_arguments_or_the_environment_of_a_worker(lasting: DaemonProcess) -> None:
    for worker in workers_of(lasting):
        for file in ("cmdline", "environ"):
            content = Path(f"/proc/{worker}/{file}").read_bytes()
            assert content
            for secret in (SECRET, PUBLISHER_KEY, "LOCALFUL_WS_", "redis://"):
                assert secret.encode() not in content


@pytest.mark.parametrize("option", ["--port", "--internal-port"])
def test_a_port_that_is_taken_ends_the_start(redis: RedisServer, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = str(taken.getsockname()[1])
        daemon = DaemonProcess("--workers", "2", "--engine", redis.url, option, port)
        assert daemon.wait() == 1
        output = "".join(daemon.output)
        assert f"127.0.0.1:{port}" in output
        assert option in output
        assert "Traceback" not in output


def test_a_second_daemon_on_the_same_port_is_refused(lasting: DaemonProcess, redis: RedisServer) -> None:
    second = DaemonProcess("--workers", "2", "--engine", redis.url, "--port", str(lasting.ports["websocket"]))
    assert second.wait() == 1
    assert "stop what listens there" in "".join(second.output)


def test_the_console_speaks_for_all_workers(lasting: DaemonProcess) -> None:
    """Whichever of them is asked; and each can watch a user whose devices are elsewhere."""
    with ExitStack() as stack:
        devices = connect_to_all(lasting, stack, "cora")
        count = len(all_of(devices))
        for worker in devices:
            with http_at(lasting, worker) as http:
                overview = http.get("/console/api/overview").json()
                assert overview["workers"] == {"serving": 2, "missing": 0, "restarts": 0}
                assert overview["connections"]["authenticated"] >= count
                listed = http.get("/console/api/users", params={"prefix": "cora"}).json()
                assert listed == {"users": [{"user": "cora", "connections": count}]}
                found = http.get("/console/api/devices", params={"user": "cora"}).json()
                assert found["total"] == count
                groups = [device["group"] for device in found["devices"]]
                assert sorted(groups) == sorted(f"g{number}" for number in range(count))
                with http.stream("GET", "/console/api/watch", params={"user": "nobody-here"}) as watch:
                    lines = watch.iter_lines()
                    assert json.loads(next(lines))["type"] == "watching"
                    publish(lasting.http, "hello", "nobody-here")
                    assert json.loads(next(lines))["data"] == "hello"

"""The daemon in the tests' own process, from its start to the signal that ends it."""

import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from localful_ws.server import run as run_module
from localful_ws.server.daemon import Daemon
from localful_ws.server.listeners import Addresses, ListenError
from localful_ws.server.run import run
from localful_ws.settings import SettingsError
from localful_ws.tokens import mint_token
from tests.raw_device import handshake
from tests.world import PUBLISHER_KEY, SECRET, make_settings

pytestmark = pytest.mark.sockets


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Daemon]]:
    """The daemons that were made."""
    daemons: list[Daemon] = []

    class Noted(Daemon):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            daemons.append(self)

    monkeypatch.setattr(run_module, "Daemon", Noted)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    yield daemons
    assert handlers == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


def run_while(made: list[Daemon], act: Callable[[Addresses], None], **changes: Any) -> list[str]:
    """Run a daemon; ``act``, in a thread, has to end it. Returns what it logged."""
    errors: list[BaseException] = []

    def act_when_ready() -> None:
        try:
            for _ in range(1000):
                time.sleep(0.01)
                if made and ready(made[0].addresses):
                    break
            act(made[0].addresses)
        except BaseException as error:
            errors.append(error)
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=act_when_ready)
    thread.start()
    with capture_logs() as log:
        try:
            run(make_settings(port=0, internal_port=0, **changes))
        finally:
            thread.join()
    assert errors == []
    return [entry["event"] for entry in log]


def ready(addresses: Addresses) -> bool:
    with internal(addresses) as http:
        try:
            return http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


def internal(addresses: Addresses) -> httpx.Client:
    return httpx.Client(
        base_url="http://{}:{}".format(*addresses.internal),
        headers={"Authorization": f"Bearer {PUBLISHER_KEY}"},
        trust_env=False,
    )


def test_from_start_to_drain(made: list[Daemon]) -> None:
    seen: list[object] = []

    def act(addresses: Addresses) -> None:
        token = mint_token(SECRET, "ada", "g", 60, time.time())
        uri = "ws://{}:{}/v1/sync".format(*addresses.websocket)
        headers = {"Authorization": f"Bearer {token}"}
        with internal(addresses) as http, connect(uri, additional_headers=headers, proxy=None) as device:
            device.recv(10)
            assert http.post("/v1/events", json={"event": "user-update", "user": "ada"}).status_code == 202
            message = json.loads(device.recv(10))
            assert message.pop("cursor")
            seen.append(message)
            assert b"localful_ws_gc_pause_seconds" in http.get("/metrics").content
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                device.recv(10)
            seen.append(closed.value.rcvd and closed.value.rcvd.code)

    log = run_while(made, act, drain_seconds=5)
    assert seen == [{"event": "user-update", "data": None}, 1001]
    assert log == ["listening", "listening", "draining", "stopped"]


def test_the_settings_of_the_internal_port(made: list[Daemon]) -> None:
    answers: list[bytes] = []

    def act(addresses: Addresses) -> None:
        url = "http://{}:{}/metrics".format(*addresses.internal)
        for name, status in (("ws.internal", 200), ("page.example", 421)):
            assert httpx.get(url, headers={"Host": name}, trust_env=False).status_code == status
        # Two bodies that begin and don't go on. Together they are over the budget.
        head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PUBLISHER_KEY}\r\n"
        with ExitStack() as stack:
            socks = [stack.enter_context(socket.create_connection(addresses.internal, 10)) for _ in range(2)]
            for sock in socks:
                sock.sendall(f"{head}Content-Length: 90000\r\n\r\n ".encode())
            answers.extend(sorted(sock.recv(12) for sock in socks))
        os.kill(os.getpid(), signal.SIGTERM)

    run_while(
        made,
        act,
        allow_host=("ws.internal",),
        publish_body_timeout=1.0,
        max_publish_bytes=100_000,
        publish_budget=100_000,
    )
    assert answers == [b"HTTP/1.1 408", b"HTTP/1.1 503"]


def test_a_second_signal(made: list[Daemon]) -> None:
    def act(addresses: Addresses) -> None:
        with socket.create_connection(addresses.websocket) as sock:
            token = mint_token(SECRET, "ada", "g", 60, time.time())
            sock.sendall(handshake(f"Authorization: Bearer {token}"))
            sock.settimeout(10)
            received = b""
            while b"authenticated" not in received:
                received += sock.recv(1000)
            os.kill(os.getpid(), signal.SIGTERM)
            while b"server-shutdown" not in received:
                received += sock.recv(1000)
            os.kill(os.getpid(), signal.SIGINT)
            while sock.recv(1000):
                pass

    with pytest.raises(SystemExit) as ended:
        run_while(made, act, drain_seconds=60, close_timeout=60)
    assert ended.value.code == 128 + signal.SIGINT


def test_tls(made: list[Daemon], tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    answers: list[bytes] = []

    def act(addresses: Addresses) -> None:
        request = handshake(path="/elsewhere")
        with socket.create_connection(addresses.websocket) as plain:
            plain.sendall(request)
            plain.settimeout(10)
            answers.append(plain.recv(1000)[:4])
        with (
            socket.create_connection(addresses.websocket) as sock,
            trusting.wrap_socket(sock, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(request)
            answers.append(secure.recv(1000)[:12])
        os.kill(os.getpid(), signal.SIGTERM)

    run_while(made, act, tls_cert=chain, tls_key=key)
    assert answers[0] != b"HTTP"
    assert answers[1] == b"HTTP/1.1 404"


def test_what_cannot_be_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ListenError):
        run(make_settings(port=taken.getsockname()[1], internal_port=0))
    nowhere = Path("/no/such/file.pem")
    with pytest.raises(SettingsError):
        run(make_settings(port=0, internal_port=0, tls_cert=nowhere, tls_key=nowhere))

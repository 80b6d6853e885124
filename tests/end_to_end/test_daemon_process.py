"""The daemon's main job on real sockets, with the library ``websockets`` as the devices."""

import asyncio
import json
import signal
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from localful_ws.protocol import EventKind, EventName
from tests.end_to_end.process import PUBLISHER_KEY, TIMEOUT, DaemonProcess, receive, receive_until
from tests.raw_device import parse_frames
from tests.world import TRANSPORTS

pytestmark = pytest.mark.sockets


@pytest.fixture(scope="module", params=TRANSPORTS)
def daemon(request: pytest.FixtureRequest) -> Iterator[DaemonProcess]:
    options = ("--transport", request.param, "--auth-timeout", "1", "--close-timeout", "0.5")
    with DaemonProcess(*options) as daemon:
        yield daemon


def closed(device: ClientConnection) -> tuple[int, str] | None:
    """Close code and reason, once the device has been closed."""
    try:
        while True:
            device.recv(TIMEOUT)
    except ConnectionClosed as closed:
        return None if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)


@contextmanager
def connect_device(
    daemon: DaemonProcess, user: str, group: str, *vaults: str, way: str = "message"
) -> Iterator[ClientConnection]:
    """Connect a device that shows its token in one of the three ways, and subscribe it."""
    token = daemon.token(user, group)
    options: dict[str, Any] = {}
    if way == "header":
        options["additional_headers"] = {"Authorization": f"Bearer {token}"}
    if way == "subprotocol":
        options["subprotocols"] = ["localful.v1", f"localful.bearer.{token}"]
    with daemon.connect(**options) as device:
        if way == "message":
            device.send(json.dumps({"event": "authenticate", "token": token}))
        answer = receive(device)
        assert (answer["event"], answer["user"], answer["group"]) == ("authenticated", user, group)
        device.send(json.dumps({"event": "subscribe", "vaults": vaults}))
        assert receive(device)["vaults"] == list(vaults)
        yield device


def lasting_events() -> list[dict[str, Any]]:
    """Each event that ends nothing, once as ada's phone's own and once of nobody's."""
    events: list[dict[str, Any]] = []
    for name in EventName:
        if name not in (EventName.USER_DELETE, EventName.VAULT_DELETE):
            vault = {} if name.kind is EventKind.USER else {"vault": "v1"}
            for group in ({"group": "phone"}, {}):
                events.append({"event": name.value, "user": "ada", **vault, **group, "data": len(events)})
    return events


def received_until_the_end(device: ClientConnection) -> list[dict[str, Any]]:
    messages = []
    while (message := receive(device))["data"] != "the end":
        messages.append(message)
    cursors = [message.pop("cursor") for message in messages]
    assert len(set(cursors)) == len(cursors)
    return messages


def test_events_reach_whom_they_concern_and_nobody_else(daemon: DaemonProcess) -> None:
    data_events = {name.value for name in EventName if name.kind is EventKind.DATA}
    with (
        connect_device(daemon, "ada", "phone", "v1") as phone,
        connect_device(daemon, "ada", "laptop", "v1", "v2", way="header") as laptop,
        connect_device(daemon, "ada", "tablet", way="subprotocol") as tablet,
        connect_device(daemon, "bob", "phone", "v1", "v2") as stranger,
        daemon.connect() as silent,
    ):
        sent = lasting_events()
        daemon.publish(*sent[:5])
        for each in sent[5:]:
            assert daemon.http.post("/v1/events", json=each).status_code == 202
        for user in ("ada", "bob"):
            daemon.publish({"event": "user-update", "user": user, "data": "the end"})
        told = [{key: each[key] for key in ("event", "vault", "data") if key in each} for each in sent]
        assert received_until_the_end(laptop) == told
        assert received_until_the_end(phone) == told[1::2]
        assert received_until_the_end(tablet) == [each for each in told if each["event"] not in data_events]
        assert received_until_the_end(stranger) == []
        assert closed(silent) == (4408, "authentication-timeout")

        daemon.publish(
            {"event": "vault-delete", "user": "ada", "vault": "v1"},
            {"event": "item-create", "user": "ada", "vault": "v1"},
            {"event": "item-create", "user": "ada", "vault": "v2"},
            {"event": "user-delete", "user": "ada", "group": "phone"},
        )
        last = [(message["event"], message["vault"]) for message in receive_until(laptop, "user-delete")]
        assert last == [("vault-delete", "v1"), ("item-create", "v2")]
        assert [closed(device) for device in (laptop, phone)] == [(4403, "forbidden")] * 2
        with pytest.raises(InvalidStatus) as refused:
            daemon.connect(additional_headers={"Authorization": f"Bearer {daemon.tokens[0]}"})
        assert refused.value.response.status_code == 403

        answer = daemon.http.post("/v1/disconnect", json={"user": "bob"})
        assert (answer.status_code, answer.json()) == (202, {"closed": 1})
        assert closed(stranger) == (4403, "forbidden")


def test_what_is_refused_says_why(daemon: DaemonProcess) -> None:
    daemon.tokens.append("not.a.token.but.a.secret.all.the.same")
    with pytest.raises(InvalidStatus) as refused:
        daemon.connect(additional_headers={"Authorization": f"Bearer {daemon.tokens[-1]}"})
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["identifier"] == "unauthorized"
    with daemon.connect() as device:
        device.send(json.dumps({"event": "authenticate", "token": daemon.tokens[-1]}))
        assert receive(device)["code"] == "unauthorized"
        assert closed(device) == (4401, "unauthorized")
    with daemon.connect() as device:
        device.send("x" * 170_000)
        answer = closed(device)
        assert answer is not None
        assert answer[0] == 1009
    wrong_key = {"Authorization": f"Bearer {PUBLISHER_KEY}x"}
    assert daemon.http.post("/v1/events", json={}, headers=wrong_key).status_code == 401


def test_a_device_that_resets_while_it_is_sent_to(daemon: DaemonProcess) -> None:
    with daemon.connect() as witness:
        witness.send(json.dumps({"event": "authenticate", "token": daemon.token("carl", "g")}))
        assert receive(witness)["event"] == "authenticated"
        sock = daemon.socket("carl", "other", receive_buffer=4096)
        for _ in range(20):
            daemon.publish({"event": "user-update", "user": "carl", "data": "x" * 60_000})
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        for _ in range(5):
            daemon.publish({"event": "user-update", "user": "carl", "data": "x" * 60_000})
        daemon.publish({"event": "user-email-change", "user": "carl"})
        assert len(receive_until(witness, "user-email-change")) == 25


def test_devices_that_do_not_read_cost_little_and_nobody_else_anything(daemon: DaemonProcess) -> None:
    with ExitStack() as stack, daemon.connect() as reader:
        reader.send(json.dumps({"event": "authenticate", "token": daemon.token("dora", "g")}))
        assert receive(reader)["event"] == "authenticated"
        stuck = [stack.enter_context(daemon.socket("dora", f"g{number}", 4096)) for number in range(5)]
        slow_before = daemon.metric("localful_ws_slow_consumers_total")
        before = daemon.memory("VmRSS")
        got: list[int] = []
        reading = threading.Thread(
            target=lambda: got.extend(
                message["data"]["number"] for message in receive_until(reader, "user-email-change")
            )
        )
        reading.start()
        padding = "x" * 20_000
        for first in range(0, 1200, 50):
            daemon.publish(
                *(
                    {"event": "user-update", "user": "dora", "data": {"number": number, "padding": padding}}
                    for number in range(first, first + 50)
                )
            )
        daemon.publish({"event": "user-email-change", "user": "dora"})
        reading.join(TIMEOUT)
        assert got == list(range(1200))
        assert daemon.memory("VmHWM") - before < 60 * 1024 * 1024
        assert daemon.metric("localful_ws_slow_consumers_total") - slow_before == 5
        for sock in stuck:
            received = bytearray()
            with suppress(ConnectionResetError):
                while data := sock.recv(1 << 20):
                    received += data
            # Whoever reads on in time gets to know why; the others' connections are dropped.
            frames, rest = parse_frames(bytes(received))
            assert len(frames) < 600
            assert rest or frames[-1].payload == b"\x11\x3cslow-consumer"


def test_it_reports_health_and_metrics(daemon: DaemonProcess) -> None:
    assert daemon.http.get("/healthz").status_code == 200
    assert daemon.http.get("/readyz").status_code == 200
    with daemon.connect():
        assert daemon.metric("localful_ws_connections_opened_total") > 0
    assert daemon.metric('localful_ws_closes_total{reason="internal-error"}') == 0


# --- daemons of their own ---


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_tls_and_drain(tmp_path: Path, transport: str) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    options = ("--transport", transport, "--tls-cert", str(chain), "--tls-key", str(key))
    with DaemonProcess(*options, "--drain-seconds", "2") as daemon:
        with socket.create_connection(("127.0.0.1", daemon.ports["websocket"])) as plain:
            plain.sendall(b"GET /v1/sync HTTP/1.1\r\nHost: localhost\r\n\r\n")
            plain.settimeout(TIMEOUT)
            while plain.recv(1000):  # an alert perhaps
                pass
        asyncio.run(asyncio.wait_for(tell_and_drain(daemon, trusting), TIMEOUT))
        assert daemon.wait() == 0
        log = [json.loads(line) for line in daemon.output]
        assert [entry["event"] for entry in log if entry["level"] == "info"][-2:] == ["draining", "stopped"]


async def tell_and_drain(daemon: DaemonProcess, trusting: ssl.SSLContext) -> None:
    """Four devices over TLS: events at each, then the goodbye.

    The client on threads won't do here: it reads and writes one TLS connection at the same time, which
    OpenSSL does not allow and Python 3.11 does not prevent.
    """
    address = f"wss://localhost:{daemon.ports['websocket']}/v1/sync"
    devices = [await connect(address, ssl=trusting, proxy=None, open_timeout=TIMEOUT) for _ in range(4)]
    for number, device in enumerate(devices):
        message = {"event": "authenticate", "token": daemon.token("ada", f"g{number}"), "vaults": ["v"]}
        await device.send(json.dumps(message))
        assert json.loads(await device.recv())["event"] == "authenticated"
    sizes = [0, 100, 60_000] * 5
    events = [{"event": "item-create", "user": "ada", "vault": "v", "data": "x" * size} for size in sizes]
    daemon.publish(*events)
    for device in devices:
        assert [len(json.loads(await device.recv())["data"]) for _ in sizes] == sizes
    daemon.signal(signal.SIGTERM)
    for device in devices:
        with pytest.raises(ConnectionClosed) as end:
            await device.recv()
        received = end.value.rcvd
        assert received is not None
        assert (received.code, received.reason) == (1001, "server-shutdown")


def test_draining_refuses_and_a_second_signal_ends_it() -> None:
    options = ("--drain-seconds", "60", "--close-timeout", "60")
    with DaemonProcess(*options) as daemon, daemon.socket("ada", "phone") as silent:
        daemon.signal(signal.SIGINT)
        for _ in range(1000):
            ready = daemon.http.get("/readyz")
            if ready.status_code != 200:
                break
            time.sleep(0.01)
        assert ready.status_code == 503
        assert daemon.http.post("/v1/events", json={}).status_code == 503
        with pytest.raises(ConnectionRefusedError):
            daemon.connect()
        assert silent.recv(100).endswith(b"server-shutdown")
        assert daemon.process.poll() is None
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 128 + signal.SIGTERM
    with pytest.raises(httpx.HTTPError):
        httpx.get(str(daemon.http.base_url), trust_env=False)


def test_a_port_that_is_taken_ends_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        daemon = DaemonProcess("--port", port)
        assert daemon.wait() == 1
        assert f"127.0.0.1:{port}" in "".join(daemon.output)
        assert "--port" in "".join(daemon.output)
        assert "Traceback" not in "".join(daemon.output)


@pytest.mark.parametrize(
    ("options", "word"),
    [(("--jwt-secret", ""), "jwt-secret"), (("--publisher-key", "short"), "publisher-key")],
)
def test_an_impossible_setting_ends_the_start(options: tuple[str, ...], word: str) -> None:
    daemon = DaemonProcess(*options)
    assert daemon.wait() == 2
    assert word in "".join(daemon.output)
    assert "Traceback" not in "".join(daemon.output)

"""A daemon as a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
from websockets.sync.client import ClientConnection, connect

from localful_ws.tokens import mint_token
from tests.raw_device import handshake

SECRET = "an-end-to-end-secret-of-at-least-32-bytes"
PUBLISHER_KEY = "an-end-to-end-key-of-the-publisher"
TIMEOUT = 20.0


def eventually(holds: Callable[[], bool]) -> None:
    """Wait, in bounded time, until something holds."""
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class DaemonProcess:
    """``localful-ws serve`` on any free ports, at log level debug.

    At the end, everything it has written is searched for every secret and token that was used, and for
    tracebacks.

    Args:
        options: More of the command line.
        program: What Python is to run.
    """

    def __init__(self, *options: str, program: Sequence[str] = ("-m", "localful_ws")) -> None:
        self.output: list[str] = []
        self.tokens: list[str] = []
        self.ports: dict[str, int] = {}
        self._listening = threading.Event()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LOCALFUL_WS_")},
            "LOCALFUL_WS_JWT_SECRET": SECRET,
            "LOCALFUL_WS_PUBLISHER_KEY": PUBLISHER_KEY,
        }
        command = [sys.executable, *program, "serve", "--port", "0", "--internal-port", "0"]
        self.process = subprocess.Popen(
            [*command, "--log-level", "debug", "--log-format", "json", *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if '"listening"' in line:
                entry = json.loads(line)
                self.ports[entry["listener"]] = entry["port"]
                if len(self.ports) == 2:
                    self._listening.set()
        self._listening.set()

    def __enter__(self) -> Self:
        if not self._listening.wait(TIMEOUT) or len(self.ports) < 2:
            self.end()
            raise AssertionError("".join(self.output))
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.ports['internal']}",
            headers={"Authorization": f"Bearer {PUBLISHER_KEY}"},
            timeout=TIMEOUT,
            trust_env=False,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.end()
        written = "".join(self.output)
        for secret in (SECRET, PUBLISHER_KEY, *self.tokens):
            assert secret not in written
            assert secret[:20] not in written
        assert "Traceback" not in written, written
        assert '"level": "error"' not in written

    def end(self) -> None:
        """Kill it, unless it has ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for its end; returns its exit status."""
        status = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def token(self, user: str, group: str, ttl: float = 600) -> str:
        """Mint an access token."""
        self.tokens.append(mint_token(SECRET.encode(), user, group, ttl, time.time()))
        return self.tokens[-1]

    def connect(self, **options: Any) -> ClientConnection:
        """Connect a device of the library ``websockets``."""
        address = f"ws://localhost:{self.ports['websocket']}/v1/sync"
        device: ClientConnection = connect(address, proxy=None, open_timeout=TIMEOUT, **options)
        return device

    def socket(self, user: str, group: str, receive_buffer: int | None = None) -> socket.socket:
        """Connect a bare socket, upgraded and authenticated, from which nothing is read on."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(TIMEOUT)
        sock.connect(("127.0.0.1", self.ports["websocket"]))
        sock.sendall(handshake(f"Authorization: Bearer {self.token(user, group)}"))
        received = b""
        while b'"authenticated"' not in received or not received.endswith(b"}"):
            received += sock.recv(100)
        return sock

    def publish(self, *events: dict[str, Any]) -> None:
        """Publish a batch."""
        answer = self.http.post("/v1/events", json={"events": events})
        assert (answer.status_code, answer.json()) == (202, {"accepted": len(events)})

    def metric(self, name: str) -> float:
        """The value of a metric, labels and all."""
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"there is no {name}")

    def memory(self, row: str) -> int:
        """A row of the kernel's account of its memory, in bytes: VmRSS, or VmHWM for the most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith(f"{row}:")]
        return int(line.split()[1]) * 1024


def receive(device: ClientConnection) -> dict[str, Any]:
    """The next message that a device gets."""
    message: dict[str, Any] = json.loads(device.recv(TIMEOUT))
    return message


def receive_until(device: ClientConnection, event: str) -> list[dict[str, Any]]:
    """What a device gets before an event of this name."""
    messages: list[dict[str, Any]] = []
    while (message := receive(device))["event"] != event:
        messages.append(message)
    return messages

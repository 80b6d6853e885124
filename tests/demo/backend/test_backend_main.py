"""The backend as a program, beside a real daemon."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio
from click.testing import CliRunner

from localful_ws.client import ReceivedEvent, open_client
from localful_ws.demo.backend.__main__ import main
from localful_ws.demo.daemon import JWT_SECRET, PUBLISHER_KEY, running_daemon
from tests.demo.backend.backend_world import SECRET

_SECONDS = 20


@pytest.mark.sockets
async def test_beside_a_daemon(tmp_path: Path) -> None:
    async with running_daemon() as daemon:
        command = [sys.executable, "-m", "localful_ws.demo.backend", "--port", "0"]
        command += ["--intake-url", f"http://127.0.0.1:{daemon.internal_port}"]
        command += ["--database", str(tmp_path / "backend.sqlite3")]
        secrets = {"LOCALFUL_WS_JWT_SECRET": JWT_SECRET, "LOCALFUL_WS_PUBLISHER_KEY": PUBLISHER_KEY}
        process = await trio.lowlevel.open_process(
            command, env={**os.environ, **secrets}, stdout=subprocess.PIPE
        )
        try:
            with trio.fail_after(_SECONDS):
                assert process.stdout is not None
                said = b""
                while b"Bob" not in said:
                    said += await process.stdout.receive_some()
                found = re.search(rb"http://127\.0\.0\.1:\d+", said)
                assert found is not None
                await use(found[0].decode(), f"ws://127.0.0.1:{daemon.websocket_port}/v1/sync")
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def use(url: str, websocket_url: str) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        tokens = []
        for _ in range(2):
            body = {"email": "ada@example.org", "password": "ada's password"}
            response = await client.post("/v1/auth/login", json=body)
            tokens.append(response.json()["tokens"]["accessToken"])
        async with open_client(websocket_url, lambda: tokens[0]) as device:
            await device.wait_ready()
            response = await client.patch(
                "/v1/users",
                json={"displayName": "Ada L."},
                headers={"Authorization": f"Bearer {tokens[1]}"},
            )
            assert response.status_code == 200
            async for arrival in device:
                if isinstance(arrival, ReceivedEvent):
                    assert (arrival.event, arrival.data) == ("user-update", {"displayName": "Ada L."})
                    break


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--publisher-key", "k"], "jwt-secret"),
        (["--publisher-key", "k", "--jwt-secret", "short"], "at least 32 bytes"),
        (
            ["--publisher-key", "k", "--jwt-secret", SECRET.decode(), "--access-seconds", "0"],
            "access_seconds",
        ),
    ],
)
def test_what_it_needs(monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str) -> None:
    for name in ("LOCALFUL_WS_JWT_SECRET", "LOCALFUL_WS_PUBLISHER_KEY"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert complaint in result.output


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    arguments = ["--publisher-key", "k", "--jwt-secret", SECRET.decode()]
    result = CliRunner().invoke(main, [*arguments, "--database", str(tmp_path / "nowhere" / "file")])
    assert result.exit_code == 1
    assert "can't be opened" in result.output


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["--publisher-key", "k", "--jwt-secret", SECRET.decode(), "--port", port]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert f"127.0.0.1:{port}" in result.output
    assert "--port" in result.output

"""A real nginx, where one is installed, set up wrong in the usual ways."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from localful_ws.checks import Outcome
from localful_ws.checks.public import check_public
from localful_ws.demo.daemon import DaemonProcess, running_daemon
from tests.programs import find_program
from tests.redis_server import free_port
from tests.world import make_settings

pytestmark = pytest.mark.sockets

PATIENCE = 30
UPGRADE = (
    'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
)

NGINX = """
daemon off;
pid {directory}/pid;
error_log stderr;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{ listen 127.0.0.1:{port}; {locations} }}
}}
"""


@contextmanager
def running_nginx(directory: Path, daemon: DaemonProcess, locations: str) -> Iterator[int]:
    """Have an nginx before a daemon, on a port of its own."""
    port = free_port()
    text = locations.replace("WEBSOCKET", f"http://127.0.0.1:{daemon.websocket_port}")
    text = text.replace("INTERNAL", f"http://127.0.0.1:{daemon.internal_port}").replace("UPGRADE", UPGRADE)
    configuration = directory / "nginx.conf"
    configuration.write_text(NGINX.format(directory=directory, port=port, locations=text))
    command = [find_program("nginx"), "-e", "stderr", "-p", str(directory), "-c", str(configuration)]
    with (directory / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield port
        finally:
            process.terminate()


async def wait_listening(port: int) -> None:
    while True:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.sleep(0.01)
        else:
            await stream.aclose()
            return


@pytest.mark.parametrize(
    ("locations", "check", "word"),
    [
        ("location = /v1/sync { proxy_pass WEBSOCKET; UPGRADE }", "", ""),
        ("location / { proxy_pass WEBSOCKET; }", "public url", "no longer as a WebSocket"),
        (
            "location / { proxy_pass WEBSOCKET; proxy_http_version 1.1; }",
            "public url",
            "no longer as a WebSocket",
        ),
        ("location /v1/ { proxy_pass WEBSOCKET/; UPGRADE }", "public url", "rewrites the path"),
        ("location / { return 301 https://$host$request_uri; }", "public url", "redirected to TLS"),
        ("location / { proxy_pass http://127.0.0.1:1; UPGRADE }", "public url", "does not reach"),
        ("location /v1/ { return 404; }", "public url", "no such host or path"),
        ("location / { proxy_pass INTERNAL; UPGRADE }", "public url", "leads to the internal port"),
        (
            "location = /v1/sync { proxy_pass WEBSOCKET; UPGRADE } location / { proxy_pass INTERNAL; }",
            "internal port",
            "/metrics, /v1/events",
        ),
    ],
)
async def test_what_is_found(locations: str, check: str, word: str, tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with running_daemon() as daemon:
            with running_nginx(tmp_path, daemon, locations) as port:
                await wait_listening(port)
                url = f"ws://127.0.0.1:{port}/v1/sync"
                findings = [each async for each in check_public(make_settings(), url, 5)]
    failed = {each.check: each.message for each in findings if each.outcome is Outcome.FAILED}
    assert bool(failed) == bool(check)
    assert word in failed.get(check, "")

"""nginx and Caddy between publishers and the internal port, over connections that they keep."""

import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import frozen

from tests.end_to_end.process import TIMEOUT, DaemonProcess
from tests.interop.publishing import AUTHORIZATION, BODY, LARGE, TOO_LARGE, WRONG, accepted, in_parts
from tests.programs import find_program
from tests.redis_server import free_port
from tests.test_proxies import NGINX

pytestmark = [pytest.mark.sockets, pytest.mark.slow]

MANY = 500
AT_ONCE = 16
KEPT = 16
NGINX_SERVER = """
    upstream internal {{ server 127.0.0.1:{internal}; keepalive {kept}; }}
    client_max_body_size 64m;
    proxy_set_header Host $host;
    server {{
        listen 127.0.0.1:{port};
        location /kept/ {{
            proxy_pass http://internal/; proxy_http_version 1.1; proxy_set_header Connection "";
        }}
        location /streamed/ {{
            proxy_pass http://internal/; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_request_buffering off;
        }}
        location /as-it-comes/ {{ proxy_pass http://internal/; }}
    }}
"""
CADDYFILE = """
{{
    admin off
    auto_https off
}}
http://127.0.0.1:{port} {{
    reverse_proxy 127.0.0.1:{internal}
}}
"""


def nginx(directory: Path, port: int, internal: int) -> list[str]:
    server = NGINX_SERVER.format(port=port, internal=internal, kept=KEPT)
    (directory / "nginx.conf").write_text(NGINX.format(directory=directory, server=server))
    # Else, if it is started by root, its worker is somebody who may not write there what it keeps of a body.
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    where = ["-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]
    return [find_program("nginx"), *user, *where]


def caddy(directory: Path, port: int, internal: int) -> list[str]:
    (directory / "Caddyfile").write_text(CADDYFILE.format(port=port, internal=internal))
    return [find_program("caddy"), "run", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile")]


WAYS = {
    "nginx": (nginx, "/kept"),
    "nginx-streams": (nginx, "/streamed"),
    "nginx-as-it-comes": (nginx, "/as-it-comes"),
    "caddy": (caddy, ""),
}


@frozen
class Way:
    """A way through a proxy.

    Attributes:
        name: One of `WAYS`.
        port: The proxy's.
        path: What the path of a request begins with.
        http: A client of it.
    """

    name: str
    port: int
    path: str
    http: httpx.Client

    def publish(self, body: bytes | Iterator[bytes] = BODY, key: str = AUTHORIZATION) -> int:
        """Publish; returns the status."""
        url = f"{self.path}/v1/events"
        return self.http.post(url, content=body, headers={"Authorization": key}).status_code

    def publish_many(self) -> Counter[int]:
        """Publish many, some at once; returns how often there was each status."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return Counter(pool.map(lambda _: self.publish(), range(MANY)))


@pytest.fixture(scope="module", params=WAYS)
def way(
    request: pytest.FixtureRequest, daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Way]:
    proxy, path = WAYS[request.param]
    directory, port = tmp_path_factory.mktemp("proxy"), free_port()
    command = proxy(directory, port, daemon.ports["internal"])
    environment = {"HOME": str(directory)}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            wait_listening(port)
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=TIMEOUT
            ) as client:
                yield Way(request.param, port, path, client)
        finally:
            process.terminate()
            process.wait(TIMEOUT)


def wait_listening(port: int) -> None:
    give_up = time.monotonic() + TIMEOUT
    while time.monotonic() < give_up:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)  # nothing else tells that a proxy listens
    pytest.fail("the proxy does not listen")


def peers(port: int) -> set[str]:
    """The other ends of all connections to a port of this machine that the kernel remembers."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = [end for row in rows for end in (row[1:3], row[2:0:-1])]
    return {there for here, there in ends if here.endswith(f":{port:04X}") and not there.endswith(":0000")}


def test_many(daemon: DaemonProcess, way: Way) -> None:
    before, known = accepted(daemon), peers(daemon.ports["internal"])
    assert way.publish_many() == {202: MANY}
    assert accepted(daemon) == before + MANY
    connections = len(peers(daemon.ports["internal"]) - known)
    # Each that is not kept has a port of its own, but for those that the kernel gives out again.
    assert (connections > 2 * AT_ONCE) == (way.name == "nginx-as-it-comes")


@pytest.mark.parametrize("made", [bytes, in_parts], ids=["plain", "chunked"])
def test_large_bodies_and_refused_ones(daemon: DaemonProcess, way: Way, made: Any) -> None:
    before = accepted(daemon)
    for _ in range(3):
        assert way.publish(made(LARGE)) == 202
        assert way.publish(made(LARGE), WRONG) == 401
        assert way.publish() == 202
        assert way.publish(made(TOO_LARGE)) == 413
        assert way.publish() == 202
    assert accepted(daemon) == before + 9


def test_one_who_waits_to_be_asked(daemon: DaemonProcess, way: Way, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(LARGE)
    command = [find_program("curl"), "--noproxy", "*", "-sS", "-o", "/dev/null", "-w", "%{http_code}"]
    command += ["-H", f"Authorization: {AUTHORIZATION}", "--data-binary", f"@{tmp_path / 'body'}"]
    url = f"http://127.0.0.1:{way.port}{way.path}/v1/events"
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.stdout, done.stderr) == ("202", "")


def test_those_who_go_away_leave_nothing(daemon: DaemonProcess, way: Way) -> None:
    before = accepted(daemon)
    head = (
        f"POST {way.path}/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {AUTHORIZATION}\r\n"
        f"Content-Length: {len(LARGE)}\r\n\r\n"
    )
    for _ in range(5):
        with (
            # The last ones may be refused before they go.
            suppress(ConnectionError),
            socket.create_connection(("127.0.0.1", way.port), TIMEOUT) as sock,
        ):
            sock.sendall(head.encode() + LARGE[: len(LARGE) // 2])
    # Two such bodies are all that may be under way: once those five are gone there is room for both.
    give_up = time.monotonic() + TIMEOUT
    while (status := way.publish(LARGE)) != 202:
        assert status == 503
        assert time.monotonic() < give_up
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(way.publish, [LARGE, LARGE])) == [202, 202]
    assert way.publish_many() == {202: MANY}
    assert accepted(daemon) == before + 3 + MANY

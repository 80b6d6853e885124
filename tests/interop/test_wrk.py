"""wrk publishes as fast as it can, over as many connections as there may be."""

import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.process import PUBLISHER_KEY, TIMEOUT, DaemonProcess
from tests.interop.publishing import accepted, publish_url
from tests.programs import find_program

pytestmark = [pytest.mark.sockets, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("publish.lua")
CONNECTIONS = 100


def test_publishes_without_an_error(daemon: DaemonProcess) -> None:
    before = accepted(daemon)
    command = [find_program("wrk"), "-t", "2", "-c", str(CONNECTIONS), "-d", "2s", "-s", str(SCRIPT)]
    done = subprocess.run(
        [*command, publish_url(daemon), "--", PUBLISHER_KEY],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (result,) = [line.split() for line in done.stdout.splitlines() if line.startswith("result ")]
    requests, *errors = map(int, result[1:])
    assert errors == [0] * 5, done.stdout
    assert requests > 0
    # At the end it leaves a request of each connection without its answer.
    assert requests <= accepted(daemon) - before <= requests + CONNECTIONS

"""Nodes that lose Redis over the network: silently, and with the link down."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.redis_server import find_program

from .network import find_way_in

pytestmark = [pytest.mark.sockets, pytest.mark.faults]

SECONDS = 90


def test_devices_of_a_node_that_was_cut_off_from_redis_get_everything() -> None:
    find_program()
    way_in, reason = find_way_in()
    if way_in is None:
        pytest.skip(reason)
    command = [*way_in, sys.executable, "-m", "faults.cut"]
    tests = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=tests, capture_output=True, text=True, timeout=SECONDS, check=False)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

"""What the memory engine keeps, by the kernel's account."""

import itertools
import json
import subprocess
import sys

import pytest

from .process import DaemonProcess

HISTORY = 64 * 1024 * 1024
GIGABYTE = 1_000_000_000
EVENT = 16_000
BATCH = 100
SMALL, MIXED = (2000,), (2000, 2000, 2000, 65_536)


@pytest.mark.parametrize(("mebibytes", "sizes"), [(16, SMALL), (16, MIXED), (4, MIXED)])
def test_events_of_all_sizes_come_and_go_for_long(mebibytes: int, sizes: tuple[int, ...]) -> None:
    limit = mebibytes * 1024 * 1024
    program = [sys.executable, "-m", "tests.end_to_end.appending", str(limit), *map(str, sizes)]
    grown = int(subprocess.run(program, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert limit / 2 < grown < limit * 1.3


@pytest.mark.slow
def test_a_gigabyte_passes_through_and_no_more_than_the_history_stays() -> None:
    with DaemonProcess("--history-bytes", str(HISTORY), "--history-events", "1000000") as daemon:
        numbers = itertools.count()

        def publish() -> None:
            events = [
                {
                    "event": "user-update",
                    "user": f"u{next(numbers) % 1000}",
                    "id": str(next(numbers)),
                    "data": "x" * EVENT,
                }
                for _ in range(BATCH)
            ]
            body = json.dumps({"events": events}).encode()
            assert daemon.http.post("/v1/events", content=body).status_code == 202

        publish()
        before = daemon.memory("VmRSS")
        for _ in range(GIGABYTE // (EVENT * BATCH)):
            publish()
        grown = daemon.memory("VmHWM") - before
        assert HISTORY / 2 < grown < HISTORY * 1.3

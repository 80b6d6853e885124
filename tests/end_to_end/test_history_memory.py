"""What the memory engine keeps, by the kernel's account."""

import itertools
import json

import pytest

from .process import DaemonProcess

HISTORY = 64 * 1024 * 1024
GIGABYTE = 1_000_000_000
EVENT = 16_000
BATCH = 500


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
        assert HISTORY / 2 < grown < HISTORY * 1.5

"""What comes to the internal port in crowds, and what devices and other publishers notice of it."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress

import httpx
import pytest
from websockets.sync.client import ClientConnection

from tests.end_to_end.process import DaemonProcess, receive
from tests.interop.publishing import ACCEPTED, AUTHORIZATION, BODY, publish_url

pytestmark = [pytest.mark.sockets, pytest.mark.slow]

MIB = 1024 * 1024
PROCESSES, EACH = 4, 5000
GETS_IN = 60
"""Seconds within which a publisher that has no connection yet gets one among all the idle ones."""
TRIES_FOR = 5
AT_ONCE = 1
"""Seconds that nobody else waits, though the machine is busy with the crowd."""

UPLOADS = 50
BUDGET, HISTORY, SLACK = 64 * MIB, 64 * MIB, 150 * MIB
STALL = 2
"""Seconds for which the largest bodies may hold up everybody else."""


def told(name: str, seconds: Sequence[float]) -> None:
    """Print how long something took."""
    ordered = sorted(seconds)
    shown = (ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100], ordered[-1])
    print(f"{name}: {len(ordered)} times; p50, p95, max", *(f"{each * 1000:.1f} ms" for each in shown))


def seconds_to_connect(daemon: DaemonProcess) -> float:
    """Connect a device; returns how long it took until it was authenticated."""
    begun = time.monotonic()
    daemon.socket("ada", "laptop").close()
    return time.monotonic() - begun


def seconds_to_publish(daemon: DaemonProcess) -> float:
    """Publish over the connection that is kept; returns how long that took."""
    begun = time.monotonic()
    daemon.publish(json.loads(BODY))
    return time.monotonic() - begun


def publish_as_a_stranger(daemon: DaemonProcess) -> float:
    """The same over a connection of its own.

    Where more come than the kernel lets wait, it takes no notice of who wants to connect, or forgets what
    somebody has sent who believes to be connected. So whoever publishes has a timeout, and tries again.
    """
    begun = time.monotonic()
    while time.monotonic() < begun + GETS_IN:
        with suppress(httpx.TransportError):
            answer = httpx.post(
                publish_url(daemon),
                content=BODY,
                headers={"Authorization": AUTHORIZATION},
                timeout=TRIES_FOR,
                trust_env=False,
            )
            assert (answer.status_code, answer.json()) == (202, ACCEPTED)
            break
    return time.monotonic() - begun


def open_idle_connections(stack: ExitStack, daemon: DaemonProcess) -> None:
    """Have other processes open them, each from its own address, and keep them as long as the stack lasts."""
    crowd = []
    for index in range(PROCESSES):
        where = (f"127.0.0.{10 + index}", str(daemon.ports["internal"]), str(EACH))
        command = [sys.executable, "-m", "tests.interop.idle", *where]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        crowd.append(stack.enter_context(process))
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{EACH}\n"


def test_idle_connections_keep_nobody_else_out() -> None:
    with DaemonProcess() as daemon:
        told("a device connects", [seconds_to_connect(daemon) for _ in range(50)])
        devices, publishers = [], []
        with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
            # Whoever says nothing for a second is idle as well: this publisher never does.
            opening = pool.submit(open_idle_connections, stack, daemon)
            while not opening.done():
                publishers.append(seconds_to_publish(daemon))
                wait([opening], 0.02)
            opening.result()
            stranger = pool.submit(publish_as_a_stranger, daemon)
            while not stranger.done():
                devices.append(seconds_to_connect(daemon))
                publishers.append(seconds_to_publish(daemon))
                wait([stranger], 0.02)
            assert any("as many HTTP connections as may be" in line for line in daemon.output)
        told("beside the crowd", devices)
        told("a publisher who is there", publishers)
        told("a publisher who comes", [stranger.result()])
        assert max(devices) < AT_ONCE
        assert max(publishers) < AT_ONCE
        assert stranger.result() < GETS_IN


def seconds_to_arrive(daemon: DaemonProcess, device: ClientConnection) -> float:
    """Publish something; returns how long it took until the device had it."""
    begun = time.monotonic()
    daemon.publish(json.loads(BODY))
    assert receive(device)["event"] == "item-create"
    return time.monotonic() - begun


def test_many_large_bodies_at_once() -> None:
    with DaemonProcess("--publish-budget", str(BUDGET), "--history-bytes", str(HISTORY)) as daemon:
        header = {"Authorization": f"Bearer {daemon.token('ada', 'laptop')}"}
        with daemon.connect(additional_headers=header) as device:
            assert receive(device)["event"] == "authenticated"
            device.send(json.dumps({"event": "subscribe", "vaults": ["v1"]}))
            assert receive(device)["event"] == "subscribed"
            told("an event", [seconds_to_arrive(daemon, device) for _ in range(200)])
            before, beside = daemon.memory("VmRSS"), []
            sizes = map(str, (daemon.ports["internal"], UPLOADS, 32 * MIB))
            command = [sys.executable, "-m", "tests.interop.uploads", *sizes]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as uploads:
                while uploads.poll() is None:
                    beside.append(seconds_to_arrive(daemon, device))
                assert uploads.stdout is not None
                answers = Counter(uploads.stdout.read().splitlines())
        told("beside the large bodies", beside)
        grown = daemon.memory("VmHWM") - before
        print(f"answers: {dict(answers)}; memory: {before / MIB:.0f} MiB, at most {grown / MIB:.0f} more")
        # What there is no room for is refused, and whoever sent it is told so.
        assert set(answers) == {"202 None", "503 1"}
        assert answers.total() == UPLOADS
        assert answers["202 None"] >= BUDGET // (32 * MIB)
        # What was accepted is in the history now.
        assert grown < BUDGET + HISTORY + SLACK
        assert max(beside) < STALL

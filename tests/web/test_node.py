"""The JavaScript modules' own tests, and the client against a daemon, through Node."""

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.process import TIMEOUT, DaemonProcess

HERE = Path(__file__).parent
MIN_NODE = 18


@pytest.fixture(scope="module")
def node() -> str:
    """The path of Node, where there is one that is new enough."""
    path = shutil.which("node")
    version = ""
    if path is not None:
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.removeprefix("v").split(".")[0]) >= MIN_NODE:
            return path
    message = f"Node {MIN_NODE} or newer is needed, and there is {version.strip() or 'none'}."
    if os.environ.get("CI") or os.environ.get("LOCALFUL_WS_REQUIRE_NODE"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.mark.parametrize("file", sorted(HERE.glob("*.test.mjs")), ids=lambda file: file.name)
def test_in_node(node: str, file: Path) -> None:
    done = subprocess.run(
        [node, "--test", str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


class NodeDevice:
    """``device.mjs`` as a process."""

    def __init__(self, node: str, url: str, token: str) -> None:
        self.process = subprocess.Popen(
            [node, str(HERE / "device.mjs"), url, token],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._watchdog = threading.Timer(TIMEOUT, self.process.kill)
        self._watchdog.start()

    def command(self, name: str, argument: Any = None) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, argument]) + "\n")
        self.process.stdin.flush()

    def told(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def end(self) -> int:
        try:
            return self.process.wait(TIMEOUT)
        finally:
            self._watchdog.cancel()
            for stream in (self.process.stdin, self.process.stdout):
                assert stream is not None
                stream.close()


@pytest.mark.sockets
def test_against_a_daemon(node: str) -> None:
    def item(data: int, **more: str) -> dict[str, Any]:
        return {"event": "item-create", "user": "ada", "vault": "v1", "data": data, **more}

    def told(data: int) -> dict[str, Any]:
        return {"kind": "event", "event": "item-create", "vault": "v1", "data": data}

    with DaemonProcess() as daemon:
        url = f"ws://127.0.0.1:{daemon.ports['websocket']}/v1/sync"
        device = NodeDevice(node, url, daemon.token("ada", "web"))
        try:
            assert device.told() == {"status": "connected", "resumed": None}
            assert device.told() == {"kind": "snapshot-needed"}
            device.command("subscribe", ["v1", "v2"])
            assert device.told() == {"subscribed": ["v1", "v2"]}
            daemon.publish(item(1), item(2, group="web"), item(3))
            assert [device.told(), device.told()] == [told(1), told(3)]
            device.command("cut")
            assert device.told() == {"status": "disconnected", "resumed": None}
            # Before it is back, or after: it is told all the same.
            daemon.publish(item(4), item(5))
            assert device.told() == {"status": "connected", "resumed": True}
            assert [device.told(), device.told()] == [told(4), told(5)]
            device.command("close")
            assert device.told() == {"ended": None}
        finally:
            if device.process.poll() is None and device.process.stdin is not None:
                device.process.stdin.close()
            status = device.end()
        assert status == 0

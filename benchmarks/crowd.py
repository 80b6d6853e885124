"""Idle devices in processes of their own: connected, silent, and checked to have been told nothing.

The measuring client stays small and quick beside them, and each process keeps within its open-file limit.
"""

import time
from typing import Any

from benchmarks.client import Client
from benchmarks.device import Device
from benchmarks.helper import QUICK_ANSWER, Helper, HelperProcess, serve
from benchmarks.model import Target, devices_of

PREFIX = "idle"
PER_PROCESS = 10_000


class Crowd(Helper):
    """The harness's handle on one such process.

    Args:
        target: The server.
        index: Which crowd this is; it decides the source addresses and the users' names.
    """

    def __init__(self, target: Target, index: int) -> None:
        super().__init__("benchmarks.crowd", target, index)

    def prepare(self, count: int) -> None:
        """Make `count` more devices, tokens included, without connecting them."""
        self.ask({"do": "prepare", "count": count}, QUICK_ANSWER + count / 1000)

    def connect(self, *, window: int, timeout: float) -> None:
        """Connect all that are prepared or were dropped."""
        self.ask({"do": "connect", "window": window, "timeout": timeout}, timeout + QUICK_ANSWER)

    def drop(self, keep: int = 0) -> None:
        """All but the first `keep` vanish, to connect again when they're asked to."""
        self.ask({"do": "drop", "keep": keep}, QUICK_ANSWER)

    def check(self) -> int:
        """Let them look whether they are still connected and untold.

        Returns:
            How many are connected.
        """
        count: int = self.ask({"do": "check"}, QUICK_ANSWER)["open"]
        return count

    def pings(self) -> int:
        """How many pings they have answered so far."""
        count: int = self.ask({"do": "pings"}, QUICK_ANSWER)["pings"]
        return count


class CrowdProcess(HelperProcess):
    """What runs in the process."""

    client: Client

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[Device] = []
        self.made = 0
        host = f"{1 + self.index // 200}.{10 + self.index % 200}"
        self.client = Client(self.target, f"127.0.{host}", f"127.1.{host}")

    def do_prepare(self, count: int) -> dict[str, Any]:
        specs = devices_of(f"{PREFIX}{self.index}", self.made, count)
        self.prepared += self.client.prepare(specs)
        self.made += count
        return {"prepared": count}

    def do_connect(self, window: int, timeout: float) -> dict[str, Any]:
        devices, self.prepared = self.prepared, []
        seconds = self.client.connect(devices, window=window, timeout=timeout)
        return {"seconds": seconds}

    def do_storm(self, timeout: float, window: int = 1_000_000) -> dict[str, Any]:
        started = time.monotonic()
        devices = self.client.drop()
        dropped = time.monotonic() - started
        self.client.retries = 0
        self.client.connect(devices, window=window, timeout=timeout, retry=True)
        seconds = time.monotonic() - started
        return {"seconds": seconds, "drop_seconds": dropped, "retries": self.client.retries}

    def do_drop(self, keep: int) -> dict[str, Any]:
        self.client.ledger.verify()
        self.prepared += self.client.drop(keep)
        return {"dropped": len(self.prepared)}

    def do_check(self) -> dict[str, Any]:
        self.client.settle(0.05)
        self.client.ledger.verify()
        return {"open": len(self.client.devices)}

    def do_pings(self) -> dict[str, Any]:
        return {"pings": self.client.pings}


if __name__ == "__main__":
    serve(CrowdProcess)

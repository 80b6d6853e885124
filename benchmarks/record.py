"""A run on paper: medians, ratios, the machine, and the JSON file they go into."""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from benchmarks import revisions
from benchmarks.model import ROOT
from benchmarks.scenarios.common import Result
from benchmarks.servers import AT
from benchmarks.sizes import Sizes

RESULTS = Path(__file__).resolve().parent / "results"
LATEST = RESULTS / "latest.json"
PACKAGES = (
    *("localful-ws", "trio", "trio-websocket", "wsproto", "hiredis"),
    *("websockets", "uvloop", "aiohttp", "msgspec"),
)
COMMANDS = (
    ("redis-server", "--version"),
    ("valkey-server", "--version"),
    ("node", "--version"),
    ("nginx", "-v"),
)

ELEMENT = r'(?:-?\d[\d.e+-]*|null|"[\w .-]*")'
FLAT_LIST = re.compile(rf"\[\s+{ELEMENT}(?:,\s+{ELEMENT})*\s+\]")
"""A list of simple things as JSON; of some there are thousands, which belong on a line each."""


@attrs.define
class Series:
    """All runs of one scenario against one server."""

    runs: list[Result] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)

    def medians(self) -> dict[str, float]:
        """The median of each figure."""
        return median_of(run.metrics for run in self.runs)

    def curve(self) -> dict[str, float]:
        """The median of each quantile."""
        return median_of(run.curve for run in self.runs)


@attrs.define
class Record:
    """All that a run of the harness gave."""

    alternations: int
    quick: bool
    complete: bool
    """Whether all scenarios and all servers were asked for."""
    sizes: Sizes
    settings: dict[str, str] = attrs.field(factory=dict)
    """Of the daemon, by environment variable, where they were changed for this run."""
    skipped: dict[str, str] = attrs.field(factory=dict)
    series: dict[str, dict[str, Series]] = attrs.field(factory=dict)
    """By scenario, then by server."""
    started: datetime = attrs.field(factory=lambda: datetime.now(UTC))

    def add(self, scenario: str, server: str) -> Series:
        """Where results of this pair go."""
        return self.series.setdefault(scenario, {}).setdefault(server, Series())

    def failed(self) -> bool:
        """Whether any run failed."""
        return any(series.failures for servers in self.series.values() for series in servers.values())

    def to_dict(self) -> dict[str, Any]:
        """As it is written to a file."""
        return {
            "started": self.started.isoformat(timespec="seconds"),
            "alternations": self.alternations,
            "quick": self.quick,
            "machine": machine(),
            "versions": versions() | self.revisions(),
            "sizes": attrs.asdict(self.sizes),
            "settings": self.settings,
            "skipped": self.skipped,
            "scenarios": {
                scenario: {
                    server: {
                        "median": rounded(series.medians()),
                        "curve_ms": rounded(series.curve()),
                        "deliveries_checked": sum(run.checked for run in series.runs),
                        "publish_requests": sum(run.posts for run in series.runs),
                        "runs": [rounded(run.metrics) for run in series.runs],
                        "details": [run.details for run in series.runs if run.details],
                        "failures": series.failures,
                    }
                    for server, series in servers.items()
                }
                for scenario, servers in self.series.items()
            },
        }

    def revisions(self) -> dict[str, str]:
        """Which commit an older release is, by the server's name."""
        names = {name for servers in self.series.values() for name in servers if AT in name}
        return {name: revisions.commit(name.partition(AT)[2])[:12] for name in sorted(names)}

    def save(self) -> Path:
        """Write the file of this run, and `latest.json` if it was whole, of full size, and nothing failed."""
        RESULTS.mkdir(exist_ok=True)
        kind = "-quick" if self.quick else ""
        path = RESULTS / f"{self.started:%Y%m%dT%H%M%SZ}{kind}.json"
        text = json.dumps(self.to_dict(), indent=1)
        path.write_text(FLAT_LIST.sub(lambda found: " ".join(found[0].split()), text) + "\n")
        if self.complete and not self.quick and not self.failed():
            shutil.copyfile(path, LATEST)
        return path


def median_of(figures: Iterable[dict[str, float]]) -> dict[str, float]:
    """Key by key, the median of those that have it."""
    columns: dict[str, list[float]] = {}
    for row in figures:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in columns.items()}


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Five digits are more than is known."""
    return {name: float(f"{value:.5g}") for name, value in figures.items()}


def machine() -> dict[str, Any]:
    """What it ran on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(pages / (1 << 30)),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
    }


def versions() -> dict[str, str]:
    """What was measured."""
    found = {"python": platform.python_version()} | checkout()
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    for command, option in COMMANDS:
        found |= command_version(command, option)
    for package in ("ws", "jsonwebtoken"):
        manifest = Path(__file__).parent / "peers" / "node" / "node_modules" / package / "package.json"
        if manifest.exists():
            found[f"npm:{package}"] = json.loads(manifest.read_text())["version"]
    return found


def checkout() -> dict[str, str]:
    """Which commit this is, with a mark if something is not committed."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return {}
    return {"commit": done.stdout.strip()} if done.returncode == 0 else {}


def command_version(command: str, option: str) -> dict[str, str]:
    """What a program says of itself."""
    path = shutil.which(command) or shutil.which(command, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        return {}
    done = subprocess.run([path, option], capture_output=True, text=True, check=False)
    version = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return {command: version[0]} if version else {}

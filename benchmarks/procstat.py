"""CPU time and memory of a process and its children, and of the whole machine, as the kernel counts them."""

import os
import re
from pathlib import Path

import attrs

NANOSECONDS = 1_000_000_000
TICK = NANOSECONDS // os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """The process and all that descend from it (nginx works in a child)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            parents[int(entry.name)] = int(after_name[1])
    members = [pid]
    for member in members:
        members.extend(child for child, parent in parents.items() if parent == member)
    return members


def cpu_nanoseconds(pids: list[int]) -> int:
    """CPU time, user and system, of all threads of these processes.

    From each thread's `schedstat`, which counts nanoseconds; where the kernel has none, from `stat`, which
    counts ticks of ten milliseconds.
    """
    total = 0
    for pid in pids:
        try:
            for task in (Path("/proc") / str(pid) / "task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) * TICK
    return total


def rss_bytes(pids: list[int]) -> int:
    """Resident memory of these processes: `Rss` of `smaps_rollup`, which is exact; `status` may lag."""
    total = 0
    for pid in pids:
        for line in (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


@attrs.frozen
class MachineMemory:
    """What the whole machine has in use, in bytes; all processes have a part in it.

    Attributes:
        available: What could still be had (`MemAvailable`).
        slab: What the kernel's own objects take: sockets, files, descriptors that are waited for (`Slab`).
        tcp: What is set aside for bytes that TCP sockets hold (`mem` in `/proc/net/sockstat`).
    """

    available: int
    slab: int
    tcp: int

    @classmethod
    def now(cls) -> "MachineMemory":
        """As it is."""
        lines = Path("/proc/meminfo").read_text().splitlines()
        kib = {name: int(rest.split()[0]) for name, _colon, rest in (line.partition(":") for line in lines)}
        pages = re.search(r"^TCP: .* mem (\d+)$", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
        return cls(
            available=kib["MemAvailable"] * 1024,
            slab=kib["Slab"] * 1024,
            tcp=int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0,
        )

"""CPU time and resident memory of a process and its children, as the kernel counts them."""

import os
from pathlib import Path

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

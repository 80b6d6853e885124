"""How many connections the operating system lets this process have."""

import resource

INTERNAL_CONNECTIONS = 128
"""So many connections to the internal port are among the files that are kept for everything else."""

_RESERVE = 256
# Where the limit is "unlimited" something else ends first.
_MOST = 1_000_000


def raise_open_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, as far as the system lets us.

    Returns:
        How many connections the limit then allows; 256 files are kept for everything else, or half of a small
        limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            # macOS says "unlimited" and takes less.
            pass
        else:
            soft = hard
    return connections_allowed(soft)


def devices_allowed(connections: int, internal_connections: int) -> int:
    """Say how many of the connections that are allowed can be devices'.

    Args:
        connections: How many are allowed beside the reserve; see `connections_allowed`.
        internal_connections: How many there may be to the internal port. `INTERNAL_CONNECTIONS` of them are
            in the reserve.
    """
    return max(0, connections - max(0, internal_connections - INTERNAL_CONNECTIONS))


def connections_allowed(open_files: int) -> int:
    """Say how many connections a limit of open files allows."""
    if open_files == resource.RLIM_INFINITY:
        return _MOST
    return min(max(open_files - _RESERVE, open_files // 2), _MOST)

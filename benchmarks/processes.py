"""What all processes of a run have in common: how they start and end, what they said, and a port for them."""

import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.model import ROOT

STOP_SECONDS = 5.0
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def spawn(
    command: Sequence[str], environment: Mapping[str, str] | None = None, **pipes: Any
) -> "subprocess.Popen[bytes]":
    """Start a process that ends with the harness, however that ends. A Ctrl-C reaches the harness alone.

    Args:
        command: The program and its arguments.
        environment: What is added to the harness's own.
        pipes: `stdin`, `stdout` and `stderr`, as `subprocess.Popen` takes them.
    """
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | dict(environment or {}),
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - the harness has no threads
        **pipes,
    )


def _end_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(process: "subprocess.Popen[bytes]", seconds: float = STOP_SECONDS) -> None:
    """End it, politely at first."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(log: int, size: int = 2000) -> str:
    """The end of a log."""
    end = os.fstat(log).st_size
    return os.pread(log, size, max(0, end - size)).decode(errors="replace")


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True

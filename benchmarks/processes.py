"""What all processes of a run have in common: how their end and their words are had, and a port for them."""

import os
import socket
import subprocess

STOP_SECONDS = 5.0


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

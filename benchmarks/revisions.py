"""Older releases of this daemon, each in a virtual environment of its own that is thrown away at the end."""

import atexit
import shutil
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path

from benchmarks.model import ROOT

OLDER = "47e6c4e"
"""What the daemon is measured beside, unless another revision is named."""
SECONDS = 600.0
OWN = "localful-ws"


class InstallError(Exception):
    """A revision is not there, or can't be installed."""


@cache
def commit(revision: str) -> str:
    """The full name of a revision.

    Raises:
        InstallError: There is no such revision.
    """
    wanted = f"{revision}^{{commit}}"
    return call(["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", "--end-of-options", wanted])


@cache
def interpreter(revision: str) -> Path:
    """The Python of an environment in which this revision is installed; the first call makes it.

    Packages have the versions that they have here, as far as both know them: the daemon is what differs.

    Raises:
        InstallError: It can't be made.
    """
    full = commit(revision)
    directory = Path(tempfile.mkdtemp(prefix="localful-bench-revision-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    archive, source, environment = (directory / name for name in ("source.tar", "source", "environment"))
    call(["git", "-C", str(ROOT), "archive", "--format=tar", f"--output={archive}", full])
    with tarfile.open(archive) as tar:
        tar.extractall(source, filter="data")
    constraints = directory / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in installed()))
    call([sys.executable, "-m", "venv", str(environment)])
    python = environment / "bin" / "python"
    pip = [str(python), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    call([*pip, "--constraint", str(constraints), f"{source}[redis]"])
    where = call([str(python), "-I", "-c", "import localful_ws; print(localful_ws.__file__)"])
    if not where.startswith(str(environment)):
        raise InstallError(f"{revision} would be run from {where}")
    return python


def installed() -> list[tuple[str, str]]:
    """The packages of this interpreter, but for the daemon itself."""
    versions = {each.name.lower(): each.version for each in metadata.distributions() if each.name != OWN}
    return sorted(versions.items())


def missing(revision: str) -> str | None:
    """Install a revision; None, or the line that says why it can't be."""
    try:
        interpreter(revision)
    except InstallError as error:
        return f"revision {revision} is not to be had: {error}"
    return None


def call(command: list[str]) -> str:
    """Run a command and return what it printed.

    Raises:
        InstallError: It fails, or takes too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(str(error)) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{command[0]}: exit status {done.returncode}"]
        raise InstallError(lines[-1])
    return done.stdout.strip()

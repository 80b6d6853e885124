"""How to go on by hand: commands that work as they are printed."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from attrs import frozen

from localful_ws.demo.daemon import JWT_SECRET, PUBLISHER_KEY, DaemonProcess

_COMMAND = "localful-ws"


@frozen
class Step:
    """Something to do.

    Attributes:
        what: Where, and what for.
        commands: What to type.
    """

    what: str
    commands: tuple[str, ...]


def steps(program: str, daemon: DaemonProcess | None = None) -> list[Step]:
    """Say how to go on.

    Args:
        program: How the program is called; see `program_here`.
        daemon: The daemon that is running; without one the first step is to start one.
    """
    terminals = "each of three terminals" if daemon is None else "each of two more terminals"
    exports = tuple(f"export {name}={shlex.quote(value)}" for name, value in _variables(daemon).items())
    starting = (Step("In the first, the daemon:", (f"{program} serve",)),) if daemon is None else ()
    second, third = ("second", "third") if daemon is None else ("first", "second")
    return [
        Step(f"In {terminals}, in this directory, begin with:", exports),
        *starting,
        Step(
            f"In the {second}, a device that waits for events:",
            (
                f"export LOCALFUL_WS_TOKEN=$({program} token --user u1 --group g1)",
                f"{program} listen --vault v1",
            ),
        ),
        Step(
            f"In the {third}, an event for it:",
            (f"""{program} publish --user u1 --vault v1 item-create '{{"id":1}}'""",),
        ),
        Step(
            "And a change of its own, of which it is not told:",
            (f"{program} publish --user u1 --group g1 user-update",),
        ),
    ]


def program_here() -> str:
    """How this program is called from a shell in this directory."""
    script = Path(sys.executable).with_name(_COMMAND)
    if not os.access(script, os.X_OK):
        return f"{_from_here(Path(sys.executable))} -m localful_ws"
    found = shutil.which(_COMMAND)
    return _COMMAND if found is not None and Path(found).samefile(script) else _from_here(script)


def _variables(daemon: DaemonProcess | None) -> dict[str, str]:
    variables = {"LOCALFUL_WS_JWT_SECRET": JWT_SECRET, "LOCALFUL_WS_PUBLISHER_KEY": PUBLISHER_KEY}
    if daemon is not None:
        variables["LOCALFUL_WS_PORT"] = str(daemon.websocket_port)
        variables["LOCALFUL_WS_INTERNAL_PORT"] = str(daemon.internal_port)
    return variables


def _from_here(path: Path) -> str:
    # Not resolved: a virtual environment's python is a link, and its environment is where that link is.
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))

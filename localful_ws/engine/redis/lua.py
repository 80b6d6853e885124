"""The scripts that Redis runs, each in one go."""

from importlib.resources import files
from typing import Final


def _read(name: str) -> str:
    return (files(__package__) / "scripts" / f"{name}.lua").read_text(encoding="utf-8")


ASK: Final = _read("tell") + _read("ask")
PUBLISH: Final = _read("head") + _read("publish")
KNOWN: Final = _read("known")
READ: Final = _read("head") + _read("read")
REVOKE: Final = _read("tell") + _read("revoke")
INTAKE_LEASE: Final = _read("intake_lease")
INTAKE_REJECT: Final = _read("intake_reject")
INTAKE_REMOVE: Final = _read("intake_remove")
INTAKE_TAKE: Final = _read("intake_take")

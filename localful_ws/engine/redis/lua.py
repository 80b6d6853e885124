"""The scripts that Redis runs, each in one go."""

from hashlib import sha1
from importlib.resources import files
from typing import Final

from attrs import field, frozen


@frozen
class Script:
    """A script.

    Attributes:
        text: What it does.
        digest: By which Redis knows it, once it has seen the text.
    """

    text: str = field(repr=False)
    digest: str = field(init=False)

    @digest.default
    def _digest(self) -> str:
        return sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def _read(*names: str) -> Script:
    scripts = files(__package__) / "scripts"
    return Script("".join((scripts / f"{name}.lua").read_text(encoding="utf-8") for name in names))


ASK: Final = _read("tell", "ask")
PUBLISH: Final = _read("head", "publish")
KNOWN: Final = _read("known")
READ: Final = _read("head", "read")
RESTORE: Final = _read("head", "restore")
REVOKE: Final = _read("tell", "revoke")
INTAKE_LEASE: Final = _read("intake_lease")
INTAKE_REJECT: Final = _read("intake_reject")
INTAKE_REMOVE: Final = _read("intake_remove")
INTAKE_TAKE: Final = _read("intake_take")

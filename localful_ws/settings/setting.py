"""What is known of one setting besides its name and default: `Setting`, the metadata of a field."""

from enum import Enum
from typing import Any

from attrs import NOTHING, Attribute, field, frozen

from localful_ws.settings.errors import SettingsError
from localful_ws.settings.kinds import Kind, UnusableValueError

_KEY = "setting"


class Spelling(Enum):
    """Under which names a setting can be given."""

    VALUE = "NAME"
    FILE = "NAME-file"
    """Only as a file that holds it."""
    VALUE_OR_FILE = "NAME or NAME-file"


@frozen
class Setting:
    """One row of the table of settings.

    Attributes:
        kind: How its value is written.
        help: A sentence for the operator.
        at_least: The smallest number that is possible.
        at_most: The largest.
        choices: The possible words, if it is one of a few.
        secret: Whether its value may never be shown.
        spelling: Whether it can be given as a value, in a file, or either way.
        group: Settings of one group exclude each other; empty for a setting that stands alone.
        if_unset: What holds if it isn't set, where no default says so.
    """

    kind: Kind
    help: str
    at_least: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] = ()
    secret: bool = False
    spelling: Spelling = Spelling.VALUE
    group: str = ""
    if_unset: str = ""

    def read(self, raw: object, place: str) -> Any:
        """Make the setting's value of what a source gave.

        Args:
            raw: What was given.
            place: Where, in the words of the person who gave it, such as ``--port``.

        Raises:
            SettingsError: If it can't be.
        """
        try:
            value = self.kind.read(raw)
        except UnusableValueError as error:
            raise SettingsError(f"{place} can't be used: {error}.") from None
        except (ValueError, TypeError):
            raise SettingsError(self._complaint(raw, place)) from None
        too_small = self.at_least is not None and value < self.at_least
        too_large = self.at_most is not None and value > self.at_most
        if too_small or too_large or (self.choices and value not in self.choices):
            raise SettingsError(self._complaint(raw, place))
        return value

    def _complaint(self, raw: object, place: str) -> str:
        given = "" if self.secret else f", not {_shortened(raw)}"
        return f"{place} must be {self._expected()}{given}."

    def _expected(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.at_most is not None:
            return (
                f"{self.kind.expected} from {self.kind.show(self.at_least)} to {self.kind.show(self.at_most)}"
            )
        if self.at_least is not None:
            return f"{self.kind.expected} of at least {self.kind.show(self.at_least)}"
        return self.kind.expected


def setting(default: object, kind: Kind, help: str, **more: Any) -> Any:  # noqa: A002 - click's word
    """Make the field of a setting.

    Args:
        default: Its default, or attrs' ``NOTHING`` if it must be given.
        kind: How it is written.
        help: A sentence for the operator.
        more: The other attributes of `Setting`.
    """
    row = Setting(kind, help, **more)
    return field(default=default, repr=not row.secret, validator=_judge, metadata={_KEY: row})


def setting_of(attribute: "Attribute[Any]") -> Setting:
    """Look up what is known of the setting that an attrs field holds."""
    row: Setting = attribute.metadata[_KEY]
    return row


def is_required(attribute: "Attribute[Any]") -> bool:
    """Say whether a setting has no default and so must be given."""
    return attribute.default is NOTHING


def _judge(_: object, attribute: "Attribute[Any]", value: object) -> None:
    if value is not None or is_required(attribute):
        setting_of(attribute).read(value, attribute.name.replace("_", "-"))


def _shortened(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 60 else f"{text[:57]}…"

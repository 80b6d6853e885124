"""The names under which settings are given, made from the table: for options, file and environment."""

from collections.abc import Iterable
from typing import Any

from attrs import fields, fields_dict, frozen

from localful_ws.settings.kinds import FILE, Kind
from localful_ws.settings.setting import Setting, Spelling, is_required, setting_of
from localful_ws.settings.table import Settings

ENVIRONMENT_PREFIX = "LOCALFUL_WS_"
CONFIG = "config"
"""The option that names the configuration file; ``LOCALFUL_WS_CONFIG`` in the environment."""


@frozen
class Option:
    """One name under which a setting is given.

    Attributes:
        name: The name, as on the command line (``--name``) and in the file.
        field: The field of `Settings` that it sets.
        setting: What is known of that setting.
        default: How the default is written, or what holds without it.
        from_file: Whether its value is the path of a file that holds the setting.
    """

    name: str
    field: str
    setting: Setting
    default: str
    from_file: bool = False

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return environment_variable(self.name)

    @property
    def group(self) -> str:
        """Options of one group exclude each other; most are alone in theirs."""
        return self.setting.group or self.name

    @property
    def kind(self) -> Kind:
        """How its value is written."""
        return FILE if self.from_file else self.setting.kind

    @property
    def help(self) -> str:
        """A sentence for the operator."""
        return f"file that holds {self.field.replace('_', '-')}" if self.from_file else self.setting.help

    def read(self, raw: object, place: str) -> Any:
        """Make a value for the field; a file is not opened.

        Raises:
            SettingsError: If it can't be.
        """
        if not self.from_file:
            return self.setting.read(raw, place)
        # Where a path is asked for somebody may give the secret itself, and it is no more shown there.
        return Setting(self.kind, self.help, secret=self.setting.secret).read(raw, place)


def environment_variable(option: str) -> str:
    """The environment variable of an option: ``max-vaults`` is ``LOCALFUL_WS_MAX_VAULTS``."""
    return ENVIRONMENT_PREFIX + option.upper().replace("-", "_")


def default_of(field: str) -> Any:
    """The default of a field of `Settings`; None if it has none."""
    attribute = fields_dict(Settings)[field]
    return None if is_required(attribute) else attribute.default


def _make_options() -> Iterable[Option]:
    for attribute in fields(Settings):
        row = setting_of(attribute)
        name = attribute.name.replace("_", "-")
        default = row.if_unset
        if is_required(attribute):
            default = "required"
        elif not default:
            default = f"{row.kind.show(attribute.default)} {row.kind.unit}".rstrip()
        if row.spelling is not Spelling.FILE:
            yield Option(name, attribute.name, row, default)
        if row.spelling is not Spelling.VALUE:
            yield Option(f"{name}-file", attribute.name, row, default, from_file=True)


OPTIONS: dict[str, Option] = {option.name: option for option in _make_options()}
"""Every option by its name, in the order of the table."""


def settings_table() -> str:
    """Write the table of settings as Markdown, for the documentation."""
    rows: dict[str, list[Option]] = {}
    for option in OPTIONS.values():
        rows.setdefault(option.field, []).append(option)
    lines = ["| setting | default | |", "|---|---|---|"]
    for options in rows.values():
        names = ", ".join(f"`{option.name}`" for option in options)
        row = options[0].setting
        described = f"{row.help}: {', '.join(row.choices)}" if row.choices else row.help
        lines.append(f"| {names} | {options[0].default} | {described} |")
    return "\n".join(lines) + "\n"

"""Settings as options of commands, and where their values are found."""

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from localful_ws.settings import (
    CONFIG,
    OPTIONS,
    Option,
    default_of,
    environment_variable,
    load_values,
)

_GIVEN = "localful_ws.settings"

C = TypeVar("C", bound=Callable[..., Any])


def setting_options(names: Iterable[str]) -> Callable[[C], C]:
    """Give a command an option for each of these settings, and ``--config``.

    They are not arguments of the command's function: `given_settings` has them.

    Args:
        names: Names of options, as in `localful_ws.settings.OPTIONS`.
    """

    def decorate(command: C) -> C:
        for name in reversed(list(names)):
            command = _click_option(OPTIONS[name])(command)
        return click.option(
            f"--{CONFIG}",
            metavar="FILE",
            expose_value=False,
            callback=_remember,
            help=f"TOML file with settings  [{environment_variable(CONFIG)}]",
        )(command)

    return decorate


def given_settings() -> dict[str, Any]:
    """What the command line of the present command says of settings, by option name."""
    given: dict[str, Any] = click.get_current_context().meta.get(_GIVEN, {})
    return given


def find_settings(names: Iterable[str]) -> dict[str, Any]:
    """Find some settings for a command that isn't the daemon.

    Args:
        names: Names of options.

    Returns:
        Values by field of `localful_ws.settings.Settings`; those not given have their defaults.

    Raises:
        SettingsError: If one of them is impossible.
    """
    names = list(names)
    defaults = {OPTIONS[name].field: default_of(OPTIONS[name].field) for name in names}
    return defaults | load_values(names, given_settings(), os.environ)


def _click_option(option: Option) -> Callable[[C], C]:
    setting = option.setting
    choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
    return click.option(
        f"--{option.name}",
        metavar=option.kind.metavar,
        multiple=option.kind.repeatable,
        expose_value=False,
        callback=_remember,
        help=f"{option.help}{choices}  [{option.default}]",
    )


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        name = str(parameter.name).replace("_", "-")
        context.meta.setdefault(_GIVEN, {})[name] = value

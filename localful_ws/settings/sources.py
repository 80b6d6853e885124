"""Where settings come from: the command line wins over the environment, that over the file."""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from attrs import frozen

from localful_ws.settings.errors import SettingsError
from localful_ws.settings.open_files import INTERNAL_CONNECTIONS, devices_allowed, raise_open_file_limit
from localful_ws.settings.options import CONFIG, OPTIONS, Option, environment_variable
from localful_ws.settings.table import Settings

_LARGEST_FILE = 1024 * 1024


@frozen
class _Source:
    values: Mapping[str, Any]
    place: Callable[[str], str]


def load_settings(
    command_line: Mapping[str, Any],
    environment: Mapping[str, str],
    allowed_connections: Callable[[], int] = raise_open_file_limit,
) -> Settings:
    """Make the daemon's settings.

    Args:
        command_line: What was given there, by option name; ``config`` names the file.
        environment: The environment variables. Empty ones count as unset.
        allowed_connections: Says how many connections the system allows, having raised the limit.

    Raises:
        SettingsError: If a setting is missing or impossible.
    """
    values = load_values(OPTIONS, command_line, environment)
    if "publisher_key" not in values:
        raise SettingsError(
            "publisher-key is missing: name a file that holds it with --publisher-key-file, or set "
            f"{environment_variable('publisher-key')}; `openssl rand -hex 32` makes one."
        )
    internal = values.get("max_internal_connections", INTERNAL_CONNECTIONS)
    allowed = devices_allowed(allowed_connections(), internal)
    if not allowed:
        raise SettingsError(
            f"max-internal-connections is {internal}, and the limit of open files leaves none for devices; "
            "raise that (ulimit -n, LimitNOFILE in a systemd unit) or lower max-internal-connections."
        )
    if values.setdefault("max_connections", allowed) > allowed:
        raise SettingsError(
            f"max-connections is {values['max_connections']}, and the limit of open files allows {allowed}; "
            "raise that (ulimit -n, LimitNOFILE in a systemd unit) or lower max-connections."
        )
    return Settings(**values)


def load_values(
    names: Iterable[str], command_line: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Find what was given for some of the options.

    Args:
        names: The options wanted. Others may be impossible without any notice being taken.
        command_line: See `load_settings`.
        environment: See `load_settings`.

    Returns:
        Values by field of `Settings`, of those that were given. Files that hold a value have been read.

    Raises:
        SettingsError: If a value is impossible, two exclude each other, or a file can't be read.
    """
    groups: dict[str, list[Option]] = {}
    for name in names:
        groups.setdefault(OPTIONS[name].group, []).append(OPTIONS[name])
    sources = _sources(command_line, environment)
    values: dict[str, Any] = {}
    for options in groups.values():
        for source in sources:
            given = [option for option in options if _is_given(source.values.get(option.name))]
            if len(given) > 1:
                places = " and ".join(source.place(option.name) for option in given)
                raise SettingsError(f"{places} exclude each other; set one of them.")
            if given:
                values[given[0].field] = _read(given[0], source)
                break
    return values


def _sources(command_line: Mapping[str, Any], environment: Mapping[str, str]) -> list[_Source]:
    from_environment = {
        name: environment[environment_variable(name)]
        for name in (CONFIG, *OPTIONS)
        if environment.get(environment_variable(name))
    }
    sources = [
        _Source(command_line, lambda name: f"--{name}"),
        _Source(from_environment, environment_variable),
    ]
    config = next((source.values[CONFIG] for source in sources if source.values.get(CONFIG)), None)
    if config is not None:
        sources.append(_Source(read_config(Path(config)), lambda name: f"{name} in {config}"))
    return sources


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file: TOML whose keys are option names.

    Raises:
        SettingsError: If it can't be read, or has a key that is no option.
    """
    raw = _read_file(path, f"The configuration file {path}")
    try:
        values = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        # The error of the decoder would quote the file, which may hold secrets; that of the parser does not.
        reason = error if isinstance(error, tomllib.TOMLDecodeError) else "not text in UTF-8"
        raise SettingsError(f"The configuration file {path} is not TOML: {reason}.") from None
    for key in values:
        if key not in OPTIONS:
            near = get_close_matches(key.replace("_", "-").lower(), OPTIONS, 1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "`localful-ws serve --help` lists the settings."
            raise SettingsError(f"{path} has a key that is no setting, {key}; {hint}")
    return values


def _is_given(raw: object) -> bool:
    # click gives an empty tuple for an option that may be repeated and isn't there.
    return raw is not None and raw != ()


def _read(option: Option, source: _Source) -> Any:
    place = source.place(option.name)
    value = option.read(source.values[option.name], place)
    if option.from_file:
        content = _read_file(value, place).removesuffix(b"\n").removesuffix(b"\r")
        return option.setting.read(content, f"What is in the file of {place}")
    return value


def _read_file(path: Path, place: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise SettingsError(f"{place} can't be read: {error.strerror}.") from None
    if len(content) > _LARGEST_FILE:
        raise SettingsError(f"{place} is larger than 1 MiB.")
    return content

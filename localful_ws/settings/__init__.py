"""What an operator can set: one table, and where its values come from."""

from localful_ws.settings.errors import SettingsError
from localful_ws.settings.open_files import connections_allowed, devices_allowed, raise_open_file_limit
from localful_ws.settings.options import (
    CONFIG,
    OPTIONS,
    Option,
    default_of,
    environment_variable,
    settings_table,
)
from localful_ws.settings.sources import load_settings, load_values, read_config
from localful_ws.settings.table import Settings

__all__ = [
    "CONFIG",
    "OPTIONS",
    "Option",
    "Settings",
    "SettingsError",
    "connections_allowed",
    "default_of",
    "devices_allowed",
    "environment_variable",
    "load_settings",
    "load_values",
    "raise_open_file_limit",
    "read_config",
    "settings_table",
]

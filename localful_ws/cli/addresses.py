"""Where a daemon with these settings is to be found from this machine."""

from collections.abc import Mapping
from typing import Any

from localful_ws.settings import SettingsError

WEBSOCKET = ("host", "port", "path", "tls-cert")
INTERNAL = ("internal-host", "internal-port")

# Addresses to listen on that are none to connect to.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def websocket_url(values: Mapping[str, Any]) -> str:
    """The URL for devices.

    Args:
        values: The settings `WEBSOCKET`.

    Raises:
        SettingsError: If the port isn't known.
    """
    scheme = "ws" if values["tls_cert"] is None else "wss"
    return f"{scheme}://{_authority(values['host'], values['port'])}{values['path']}"


def internal_url(values: Mapping[str, Any]) -> str:
    """The URL for publishers.

    Args:
        values: The settings `INTERNAL`.

    Raises:
        SettingsError: If the port isn't known.
    """
    return f"http://{_authority(values['internal_host'], values['internal_port'])}"


def _authority(host: str, port: int) -> str:
    if port == 0:
        raise SettingsError("The port is set to any free one; say with --url where the daemon listens.")
    host = _EVERYWHERE.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""How a server is started, where a scenario or the caller wants it otherwise than usual."""

from collections.abc import Mapping

import attrs

from benchmarks.model import JWT_SECRET, PUBLISHER_KEY

PING_INTERVAL = 600.0
"""Longer than most runs: keepalive is on everywhere, and no ping falls into a measured window."""
PREFIX = "LOCALFUL_WS_"
FORMER_NAMES = {"send-buffer-events": "outbox-events", "send-buffer-bytes": "outbox-bytes"}
"""What settings were called by the revisions before; the daemon ignores variables that it does not know."""


@attrs.frozen
class Setup:
    """What a server is told.

    Attributes:
        ping_interval: Seconds between two pings to a device.
        settings: Other settings of the daemon, by environment variable. The peers know none of them.
        collector: Whether Python's garbage collector runs in the daemon.
    """

    ping_interval: float = PING_INTERVAL
    settings: Mapping[str, str] = attrs.field(factory=dict)
    collector: bool = True

    def with_settings(self, settings: Mapping[str, str]) -> "Setup":
        """The same with more settings of the daemon."""
        return attrs.evolve(self, settings={**self.settings, **settings})

    def environment(self) -> dict[str, str]:
        """What every server that keeps the contract is told."""
        return {
            f"{PREFIX}JWT_SECRET": JWT_SECRET,
            f"{PREFIX}PUBLISHER_KEY": PUBLISHER_KEY,
            f"{PREFIX}MAX_CONNECTIONS_PER_USER": "100000",
            f"{PREFIX}PING_INTERVAL": f"{self.ping_interval:g}",
            f"{PREFIX}PING_TIMEOUT": f"{min(20.0, 0.8 * self.ping_interval):g}",
            f"{PREFIX}LOG_FORMAT": "json",
            f"{PREFIX}DRAIN_SECONDS": "1",
            **self.settings,
        }


def variables(setting: str, value: str) -> dict[str, str]:
    """What tells the daemon, in all its revisions, a setting's value."""
    return {variable(name): value for name in (setting, FORMER_NAMES.get(setting, setting))}


def variable(setting: str) -> str:
    """The environment variable of one of the daemon's settings."""
    return PREFIX + setting.upper().replace("-", "_")

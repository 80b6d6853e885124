"""All checks, one after the other."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from attrs import field, frozen

from localful_ws.checks.engine import check_engine
from localful_ws.checks.finding import Finding, failed, ok
from localful_ws.checks.keys import check_tls_files, check_tokens
from localful_ws.checks.public import check_public
from localful_ws.checks.system import check_open_files, check_ports
from localful_ws.settings import Settings, SettingsError, load_settings, load_values

# As many as can be set: what the system allows is a check of its own.
_ANY_NUMBER = 2**63


@frozen
class CheckOptions:
    """What to check, beside settings.

    Attributes:
        public_url: Where devices connect to; None leaves that out.
        timeout: Seconds that whoever is asked over a network has for one answer.
        hold: See `localful_ws.checks.public.check_public`.
        token: See there.
    """

    public_url: str | None = None
    timeout: float = 5.0
    hold: float = 0.0
    token: str | None = field(default=None, repr=False)


async def run_checks(
    command_line: Mapping[str, Any],
    environment: Mapping[str, str],
    options: CheckOptions,
) -> AsyncIterator[Finding]:
    """Check everything; the findings come as they are made.

    Without settings that can be, nothing else is checked.

    Args:
        command_line: As for `localful_ws.settings.load_settings`.
        environment: The same.
        options: What else to check.

    Raises:
        ValueError: If the public URL is none.
    """
    try:
        given = load_values(["max-connections"], command_line, environment)
        settings = load_settings(command_line, environment, lambda: _ANY_NUMBER)
    except SettingsError as error:
        yield failed("settings", str(error), "Correct it; nothing else was checked.")
        return
    yield ok("settings", "Everything that is needed is set, and can be.")
    for finding in _check_here(settings, given="max_connections" in given):
        yield finding
    async for finding in check_tokens(settings, options.timeout):
        yield finding
    async for finding in check_engine(settings, options.timeout):
        yield finding
    if options.public_url is not None:
        async for finding in check_public(
            settings, options.public_url, options.timeout, hold=options.hold, token=options.token
        ):
            yield finding


def _check_here(settings: Settings, *, given: bool) -> list[Finding]:
    return [
        *check_ports(settings),
        *check_open_files(settings, given=given),
        *check_tls_files(settings),
    ]

"""``localful-ws check``: would a daemon with these settings work, and does what is around it?"""

import json
import os

import click
import trio

from localful_ws.cli.options import given_settings, setting_options
from localful_ws.settings import OPTIONS

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command()
@click.option(
    "--public-url",
    metavar="URL",
    envvar="LOCALFUL_WS_PUBLIC_URL",
    help="where devices connect to, such as wss://sync.example.org/v1/sync: checks what is in between",
)
@click.option(
    "--hold",
    metavar="S",
    type=click.FloatRange(0, 3600),
    default=0.0,
    help="stay connected so long, to see whether idle connections are cut; with LOCALFUL_WS_TOKEN, or a "
    "token made with jwt-secret  [0]",
)
@click.option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(0.1, 60),
    default=5.0,
    help="each answer over a network has this long  [5]",
)
@click.option("--json", "as_json", is_flag=True, help="print a JSON object")
@setting_options(OPTIONS)
def check(*, public_url: str | None, hold: float, timeout: float, as_json: bool) -> None:
    """Look whether the daemon will work with these settings, and say what to change.

    It takes the settings that `serve` takes, and looks at them, the ports, open files, TLS files, the keys of
    access tokens and the engine; with --public-url also at the proxy in between. It prints a line for each:
    ok, warning or failed. The exit status is 1 if one failed. It can be run beside a daemon. In Redis it
    writes keys of its own under the prefix and deletes them.
    """
    # The other commands need none of it.
    from localful_ws.checks import CheckOptions, Finding, Outcome, run_checks  # noqa: PLC0415
    from localful_ws.client.endpoint import parse_endpoint  # noqa: PLC0415

    if public_url is not None:
        try:
            parse_endpoint(public_url)
        except ValueError as error:
            raise click.UsageError(f"--public-url: {error}") from None
    options = CheckOptions(public_url, timeout, hold, os.environ.get("LOCALFUL_WS_TOKEN") or None)
    command_line = given_settings()
    findings: list[Finding] = []

    async def run() -> None:
        async for finding in run_checks(command_line, os.environ, options):
            findings.append(finding)
            if not as_json:
                _print(finding.check, finding.outcome.value, finding.message, finding.advice)

    trio.run(run)
    good = all(finding.outcome is not Outcome.FAILED for finding in findings)
    if as_json:
        checks = [
            {
                "check": finding.check,
                "outcome": finding.outcome.value,
                "message": finding.message,
                "advice": finding.advice,
            }
            for finding in findings
        ]
        click.echo(json.dumps({"ok": good, "checks": checks}, indent=2))
    if not good:
        click.get_current_context().exit(1)


def _print(name: str, outcome: str, message: str, advice: str) -> None:
    word = click.style(f"{outcome:<7}", fg=_COLOURS[outcome])
    click.echo(f"{word}  {name}: {message}{f' -> {advice}' if advice else ''}")

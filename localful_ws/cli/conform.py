"""``localful-ws conform``: does a server speak the protocol as it is written?"""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import httpx
import trio

from localful_ws.cli.addresses import INTERNAL, WEBSOCKET, internal_url, websocket_url
from localful_ws.cli.options import find_settings, setting_options
from localful_ws.settings import OPTIONS, SettingsError

if TYPE_CHECKING:
    from localful_ws.conform.network import Target
    from localful_ws.conform.run import Result
    from localful_ws.conform.scenes import Scene

_SETTINGS = (
    *("jwt-secret", "jwt-secret-file", "publisher-key", "publisher-key-file"),
    *("group-claim", "jwt-issuer", "jwt-audience"),
)


@click.command()
@click.option(
    "--url",
    metavar="URL",
    envvar="LOCALFUL_WS_LISTEN_URL",
    help="where devices connect to  [from host, port and path: ws://127.0.0.1:42102/v1/sync]",
)
@click.option(
    "--internal-url",
    "internal",
    metavar="URL",
    envvar="LOCALFUL_WS_PUBLISH_URL",
    help="where publishers post to  [from internal-host and internal-port: http://127.0.0.1:42103]",
)
@click.option(
    "--given",
    metavar="NAME=VALUE",
    multiple=True,
    help="a setting of the server that is not the default one; scenes that need another are not played",
)
@click.option("--only", metavar="SCENE", multiple=True, help="play this scene")
@click.option(
    "--section",
    metavar="ANCHOR",
    multiple=True,
    help="play the scenes about this section of spec/protocol.md",
)
@click.option(
    "--slack",
    metavar="S",
    type=click.FloatRange(0.05, 30),
    default=1.0,
    help="how much later than written things may come; earlier they may not  [1]",
)
@click.option("--list", "only_list", is_flag=True, help="list the scenes, and play none")
@click.option("--json", "as_json", is_flag=True, help="print a JSON object")
@setting_options(_SETTINGS)
def conform(
    *,
    url: str | None,
    internal: str | None,
    given: Sequence[str],
    only: Sequence[str],
    section: Sequence[str],
    slack: float,
    only_list: bool,
    as_json: bool,
) -> None:
    """Hold a server to the protocol: play the scenes of spec/transcripts against it.

    Any server that speaks the protocol can be asked, in whatever it is written. It needs its two URLs, the
    secret that access tokens are signed with (HS256) and the publisher key. The scenes are played side by
    side, with users of their own, in about half a minute. Don't ask a server that people are using: it is
    sent bursts of large events.

    The exit status is 0 if all that was played holds, 1 if something doesn't, 2 if there is no such server.
    """
    # The other commands need none of it.
    from localful_ws.conform.network import UnreachableError  # noqa: PLC0415
    from localful_ws.conform.report import as_json as report_as_json  # noqa: PLC0415
    from localful_ws.conform.report import report  # noqa: PLC0415
    from localful_ws.conform.run import Outcome  # noqa: PLC0415

    scenes = _choose(only, section)
    if only_list:
        _list(scenes)
        return
    target = _find_target(url, internal, given)
    began = time.monotonic()
    try:
        results = trio.run(_play, target, scenes, slack)
    except UnreachableError as error:
        raise _NoServerError(str(error)) from None
    seconds = time.monotonic() - began
    if as_json:
        click.echo(json.dumps(report_as_json(results, seconds), indent=2, ensure_ascii=False))
    else:
        for line in report(results, seconds):
            click.echo(_coloured(line))
    if any(result.outcome is Outcome.VIOLATED for result in results):
        click.get_current_context().exit(1)
    if not any(result.outcome is Outcome.HOLDS for result in results):
        raise _NoServerError("None of these scenes could be played.")


class _NoServerError(click.ClickException):
    """There is nobody to ask."""

    exit_code = 2


def _choose(only: Sequence[str], sections: Sequence[str]) -> "list[Scene]":
    from localful_ws.conform.scenes import read_scenes  # noqa: PLC0415

    scenes = read_scenes()
    names = {scene.name for scene in scenes}
    anchors = {row.partition("/")[0] for scene in scenes for row in scene.about}
    for name in only:
        if name not in names:
            raise click.UsageError(f"There is no scene {name}; --list shows all.")
    for anchor in sections:
        if anchor not in anchors:
            raise click.UsageError(
                f"There is no scene about {anchor}; the sections are {', '.join(sorted(anchors))}."
            )
    return [
        scene
        for scene in scenes
        if (not only or scene.name in only)
        and (not sections or any(row.partition("/")[0] in sections for row in scene.about))
    ]


def _list(scenes: "list[Scene]") -> None:
    for scene in scenes:
        given = "".join(f" [{name}={value}]" for name, value in scene.given.items())
        click.echo(f"{scene.name:<36} {scene.title}{given}  (#{scene.section})")
    click.echo(f"{len(scenes)} scenes")


def _find_target(url: str | None, internal: str | None, given: Sequence[str]) -> "Target":
    from localful_ws.client.endpoint import parse_endpoint  # noqa: PLC0415
    from localful_ws.conform.network import Target  # noqa: PLC0415
    from localful_ws.conform.terms import Issuer  # noqa: PLC0415

    values = find_settings(_SETTINGS + INTERNAL + WEBSOCKET)
    for needed in ("jwt_secret", "publisher_key"):
        if values[needed] is None:
            name = needed.replace("_", "-")
            raise SettingsError(f"{name} is missing: set {name} or {name}-file, the same as for the server.")
    url = websocket_url(values) if url is None else url
    internal = internal_url(values) if internal is None else internal
    try:
        parse_endpoint(url)
    except ValueError as error:
        raise click.UsageError(f"--url: {error}") from None
    if not _is_http(internal):
        raise click.UsageError("--internal-url must begin with http:// or https:// and name a host.")
    issuer = Issuer(values["jwt_secret"], values["group_claim"], values["jwt_issuer"], values["jwt_audience"])
    return Target(url, internal, values["publisher_key"], issuer, dict(map(_setting, given)))


def _is_http(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def _setting(written: str) -> tuple[str, Any]:
    name, sign, value = written.partition("=")
    if not sign or name not in OPTIONS:
        raise click.UsageError(f"--given {written}: that is no setting; write max-vaults=2, say.")
    OPTIONS[name].read(value, f"--given {name}")
    return name, value


async def _play(target: "Target", scenes: "list[Scene]", slack: float) -> "list[Result]":
    from attrs import evolve  # noqa: PLC0415

    from localful_ws.conform.network import check_reachable, open_site  # noqa: PLC0415
    from localful_ws.conform.run import TOLERANCE, run_scenes  # noqa: PLC0415

    results: dict[str, Result] = {}

    def note(result: "Result") -> None:
        results[result.scene.name] = result

    async with open_site(target) as site:
        await check_reachable(site)
        await run_scenes(site, target, scenes, note, tolerance=evolve(TOLERANCE, late=slack))
    return [results[scene.name] for scene in scenes]


def _coloured(line: str) -> str:
    colour = {"✓": "green", "✗": "red"}.get(line[:1])
    return line if colour is None else click.style(line[:1], fg=colour) + line[1:]

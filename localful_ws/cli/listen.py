"""``localful-ws listen``: be a device."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import trio
from click.core import ParameterSource

from localful_ws.cli.addresses import WEBSOCKET, websocket_url
from localful_ws.cli.options import find_settings, setting_options
from localful_ws.client import (
    ClientError,
    Connected,
    Disconnected,
    ReceivedEvent,
    Refused,
    RenewalFailed,
    SnapshotNeeded,
    Status,
    TokenUnavailableError,
    open_client,
)
from localful_ws.client.codec import is_cursor

_RESUMED = {None: "", True: " What was missed follows.", False: " What was missed can't be told."}


@click.command()
@click.option(
    "--token", metavar="JWT", envvar="LOCALFUL_WS_TOKEN", help="the access token  [LOCALFUL_WS_TOKEN]"
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="LOCALFUL_WS_TOKEN_FILE",
    help="file that holds it; read again when a new one is needed  [LOCALFUL_WS_TOKEN_FILE]",
)
@click.option("--vault", "vaults", metavar="ID", multiple=True, help="a vault to subscribe to; repeat it")
@click.option("--since", metavar="CURSOR", help="go on behind this cursor, from a line printed before")
@click.option(
    "--url",
    metavar="URL",
    envvar="LOCALFUL_WS_LISTEN_URL",
    help="the daemon's WebSocket  [from host, port and path: ws://127.0.0.1:42102/v1/sync]",
)
@setting_options(())
def listen(
    token: str | None, token_file: Path | None, vaults: tuple[str, ...], since: str | None, url: str | None
) -> None:
    """Connect as a device and print what arrives, a line of JSON each.

    Events have the key "event", and a "cursor". A line with "notice": "snapshot-needed" instead says that
    what happened before this line can't be told: fetch a snapshot of the vaults it names; the lines after it
    go on from there. It comes first, unless --since says where to go on, and again when the server can't tell
    what was missed while there was no connection.

    What becomes of the connection is told on standard error. When it ends it is made again and resumed,
    unless the server says not to; then the exit status is 1. Ctrl-C ends it with 0.
    """
    get_token = _token_source(token, token_file)
    base = url if url is not None else websocket_url(find_settings(WEBSOCKET))
    if since is not None and not is_cursor(since):
        raise click.UsageError("--since must be a cursor, a string of 1 to 128 characters.")
    try:
        client = open_client(base, get_token, vaults=vaults, since=since, on_status=_tell)
    except ValueError as error:
        raise click.UsageError(f"--url: {error}") from None

    async def print_events() -> None:
        try:
            async with client as device:
                async for arrival in device:
                    _print(_notice(arrival) if isinstance(arrival, SnapshotNeeded) else _event(arrival))
        except ClientError as error:
            raise click.ClickException(str(error)) from None

    try:
        trio.run(print_events)
    except* KeyboardInterrupt:
        click.echo("Stopped.", err=True)


def _token_source(token: str | None, token_file: Path | None) -> Callable[[], str]:
    if token is not None and token_file is not None:
        source = click.get_current_context().get_parameter_source
        if source("token") is source("token_file"):
            raise click.UsageError("--token and --token-file exclude each other; give one of them.")
        if source("token_file") is ParameterSource.COMMANDLINE:
            token = None
    if token is not None:
        return lambda: token
    if token_file is None:
        raise click.UsageError(
            "Say who you are with --token, --token-file or LOCALFUL_WS_TOKEN; `localful-ws token` makes one."
        )
    try:
        _read_token(token_file)
    except TokenUnavailableError as error:
        raise click.UsageError(str(error)) from None
    return lambda: _read_token(token_file)


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise TokenUnavailableError(f"The token file can't be read: {error.strerror}.") from None
    except ValueError:
        raise TokenUnavailableError("The token file holds something else than a token.") from None


def _event(event: ReceivedEvent) -> dict[str, Any]:
    vault = {} if event.vault is None else {"vault": event.vault}
    return {"event": event.event, **vault, "data": event.data, **_cursor(event.cursor)}


def _notice(notice: SnapshotNeeded) -> dict[str, Any]:
    # Not "event": an event may be called anything in a later version of the protocol.
    return {"notice": "snapshot-needed", "vaults": notice.vaults, **_cursor(notice.cursor)}


def _cursor(cursor: str | None) -> dict[str, str]:
    return {} if cursor is None else {"cursor": cursor}


def _print(line: dict[str, Any]) -> None:
    # Half a surrogate pair comes out as the escape by which JSON spells it.
    text = json.dumps(line, ensure_ascii=False).encode(errors="backslashreplace")
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.buffer.flush()


def _tell(status: Status) -> None:
    match status:
        case Connected(session=session, vaults=vaults, resumed=resumed):
            told = f"Connected as user {session.user}, group {session.group}; "
            told += f"vaults: {', '.join(vaults) or 'none'}; until {_moment(session.expires_at)}."
            told += _RESUMED[resumed]
        case Disconnected(code=code, reason=reason, message=message, delay=delay):
            closing = "" if code is None else f" ({code} {reason})" if reason else f" ({code})"
            told = f"{message}{closing} Connecting again in {delay:.1f} s."
        case Refused(code=word, message=message):
            told = f"The server says: {message} ({word})"
        case RenewalFailed(error=error):
            told = f"The token could not be renewed: {error}"
    click.echo(told, err=True)


def _moment(unix_seconds: float) -> str:
    try:
        return datetime.fromtimestamp(unix_seconds, UTC).isoformat(sep=" ", timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{unix_seconds:g}"

"""``localful-ws publish``: tell a daemon of events."""

import json
import sys
import time
from collections.abc import Callable
from io import BufferedIOBase
from typing import Any, cast

import click
import httpx
from attrs import frozen

from localful_ws.cli.addresses import INTERNAL, internal_url
from localful_ws.cli.ndjson import LineError, read_batches
from localful_ws.cli.options import find_settings, setting_options
from localful_ws.protocol import MAX_DEPTH, DepthError, decode_json
from localful_ws.settings import SettingsError

_SETTINGS = ("publisher-key", "publisher-key-file", "max-batch")
_TIMEOUT = 30.0
_QUIET_SECONDS = 2.0
"""How long publishing may take before it tells of its progress, and how often it then does."""


class _PublishFailedError(click.ClickException):
    """The server refused a publish, or there was none.

    Attributes:
        index: Which event of a batch was to blame, if one was.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


@frozen
class _Answer:
    """How many events are new, and how many had been accepted before."""

    accepted: int = 0
    duplicates: int = 0

    def __add__(self, other: "_Answer") -> "_Answer":
        return _Answer(self.accepted + other.accepted, self.duplicates + other.duplicates)


@click.command()
@click.argument("event")
@click.argument("data", required=False)
@click.option("--user", metavar="ID", help="the user whose devices may hear of it")
@click.option("--vault", metavar="ID", help="the vault it is about; for vault and data events")
@click.option("--group", metavar="ID", help="the token group that made the change and is not told")
@click.option(
    "--id", "event_id", metavar="ID", help="your own name for it: the same user and id is delivered once"
)
@click.option(
    "--url",
    metavar="URL",
    envvar="LOCALFUL_WS_PUBLISH_URL",
    help="the daemon's internal port  [from internal-host and internal-port: http://127.0.0.1:42103]",
)
@setting_options(_SETTINGS)
def publish(
    *,
    event: str,
    data: str | None,
    user: str | None,
    vault: str | None,
    group: str | None,
    event_id: str | None,
    url: str | None,
) -> None:
    """Publish EVENT with DATA, which is JSON, or - to read it from standard input.

    If EVENT is -, standard input holds whole events, a line of JSON each: {"event": "item-create",
    "user": "u1", "vault": "v1", "data": {}}. They are published in batches, in order.
    """
    values = find_settings(_SETTINGS + INTERNAL)
    if values["publisher_key"] is None:
        raise SettingsError(
            "publisher-key is missing: set publisher-key or publisher-key-file, the same as for the daemon."
        )
    base = url if url is not None else internal_url(values)
    with _connect(base, values["publisher_key"]) as client:
        if event == "-":
            if any(given is not None for given in (data, user, vault, group, event_id)):
                raise click.UsageError("With - each line is a whole event; leave out everything else.")
            _publish_lines(client, values["max_batch"], time.monotonic)
            return
        if user is None:
            raise click.UsageError("Say with --user whose devices may hear of it.")
        head = {"event": event, "user": user, "vault": vault, "group": group, "id": event_id}
        _report(_post(client, _single(head, data)))


def _connect(base: str, key: str) -> httpx.Client:
    try:
        url = httpx.URL(base)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise click.UsageError("--url must begin with http:// or https:// and name a host.")
    # Proxies are for the world outside; the key must not go to one.
    return httpx.Client(
        base_url=url,
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        timeout=_TIMEOUT,
        trust_env=False,
    )


def _single(head: dict[str, str | None], data: str | None) -> bytes:
    given = {key: value for key, value in head.items() if value is not None}
    body = json.dumps(given).encode()
    if data is None:
        return body
    text = sys.stdin.buffer.read() if data == "-" else data.encode(errors="surrogateescape")
    try:
        decode_json(text.decode(), MAX_DEPTH)
    except DepthError as error:
        raise click.UsageError(f"DATA {error}.") from None
    except ValueError:
        raise click.UsageError("DATA is not JSON; a text needs its quotes: '\"text\"'.") from None
    # As it was written: to parse it and write it again would change numbers.
    return body[:-1] + b',"data":' + text + b"}"


def _publish_lines(client: httpx.Client, max_batch: int, clock: Callable[[], float]) -> None:
    accepted = _Answer()
    speak_at = clock() + _QUIET_SECONDS
    try:
        for batch in read_batches(cast("BufferedIOBase", sys.stdin.buffer), max_batch):
            try:
                accepted += _post(client, batch.body)
            except _PublishFailedError as error:
                first, last = batch.lines[0], batch.lines[-1]
                place, message = f"Lines {first} to {last}", error.message
                if error.index is not None and error.index < len(batch.lines):
                    place = f"Line {batch.lines[error.index]}"
                    message = message.removeprefix(f"events[{error.index}]: ")
                elif first == last:
                    place = f"Line {first}"
                raise click.ClickException(f"{place}: {message} {_sum(accepted)} before.") from None
            if clock() >= speak_at:
                click.echo(f"{_sum(accepted)} so far.", err=True)
                speak_at = clock() + _QUIET_SECONDS
    except LineError as error:
        raise click.ClickException(f"{error} {_sum(accepted)} before.") from None
    _report(accepted)


def _post(client: httpx.Client, body: bytes) -> _Answer:
    try:
        response = client.post("/v1/events", content=body)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise _PublishFailedError(f"No answer from {client.base_url}: {reason}.") from None
    answer = _parse_object(response.content)
    if response.status_code == 202 and isinstance(answer.get("accepted"), int):
        duplicates = answer.get("duplicates", 0)
        return _Answer(answer["accepted"], duplicates if isinstance(duplicates, int) else 0)
    message = answer.get("message")
    context = answer.get("context")
    index = context.get("index") if isinstance(context, dict) else None
    raise _PublishFailedError(
        message if isinstance(message, str) else f"The server answered with HTTP {response.status_code}.",
        index if isinstance(index, int) else None,
    )


def _parse_object(content: bytes) -> dict[str, Any]:
    try:
        parsed = decode_json(content.decode())
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _report(answer: _Answer) -> None:
    known = answer.duplicates
    already = f" {known} had been accepted before." if known else ""
    click.echo(f"{_sum(answer)}.{already}")


def _sum(answer: _Answer) -> str:
    count = answer.accepted
    return "1 event was accepted" if count == 1 else f"{count} events were accepted"

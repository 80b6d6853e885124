"""What is published, and whether it arrived."""

import json
from collections.abc import Iterator

from tests.end_to_end.process import PUBLISHER_KEY, DaemonProcess

AUTHORIZATION = f"Bearer {PUBLISHER_KEY}"
WRONG = "Bearer of-a-wrong-key"

BODY = json.dumps({"event": "item-create", "user": "ada", "vault": "v1"}).encode()
LARGE = BODY.rjust(30_000_000)
"""As big as no proxy, socket or client keeps at once, and yet allowed."""
TOO_LARGE = BODY.rjust(32 * 1024 * 1024 + 1)

ACCEPTED = {"accepted": 1}


def in_parts(body: bytes) -> Iterator[bytes]:
    """A body in the parts that a program might make it of; clients send it in chunks."""
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


def publish_url(daemon: DaemonProcess) -> str:
    """Where events are published."""
    return f"http://127.0.0.1:{daemon.ports['internal']}/v1/events"


def accepted(daemon: DaemonProcess) -> int:
    """How many events of `BODY` it has accepted so far."""
    return int(daemon.metric('localful_ws_events_accepted_total{event="item-create"}'))

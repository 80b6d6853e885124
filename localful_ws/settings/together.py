"""What concerns several settings: those that contradict each other end the start with a sentence."""

from typing import TYPE_CHECKING

from localful_ws.protocol import MAX_ID
from localful_ws.settings.errors import SettingsError

if TYPE_CHECKING:
    from localful_ws.settings.table import Settings

ENVELOPE = 4096
"""Bytes enough for what goes around the data of an event, or around what a message of a device says."""

_ID = MAX_ID + 3  # with its quotes and comma
_MESSAGE = 1024  # the keys of a message, and its id


def check_together(settings: "Settings") -> None:
    """Check what concerns more than one setting.

    Raises:
        SettingsError: If two don't go together.
    """
    _check_keys(settings)
    _check_listeners(settings)
    _check_sizes(settings)
    if settings.workers > 1 and settings.engine == "memory":
        raise SettingsError(
            f"workers is {settings.workers} and engine is memory, which is one process's own: its "
            "events would not reach the devices of the others. Set engine to the URL of Redis, or "
            "workers to 1."
        )


def _check_sizes(settings: "Settings") -> None:
    """Check that what one setting allows fits into what another one allows."""
    event = settings.max_event_bytes + ENVELOPE
    answer = settings.max_message_bytes + ENVELOPE
    subscription = settings.max_vaults * _ID + settings.max_token_length + _MESSAGE
    publish = settings.max_publish_bytes + settings.send_buffer_bytes
    for name, size, least, sum_of, what in (
        ("send-buffer-bytes", settings.send_buffer_bytes, event, "4KiB more than max-event-bytes", "event"),
        ("max-publish-bytes", settings.max_publish_bytes, event, "4KiB more than max-event-bytes", "event"),
        (
            "send-buffer-bytes",
            settings.send_buffer_bytes,
            answer,
            "4KiB more than max-message-bytes",
            "answer",
        ),
        (
            "max-message-bytes",
            settings.max_message_bytes,
            subscription,
            f"1KiB more than max-token-length and {_ID} bytes for each of max-vaults",
            "subscription",
        ),
        (
            "publish-budget",
            settings.publish_budget,
            settings.max_publish_bytes,
            "max-publish-bytes",
            "publish",
        ),
        ("send-budget", settings.send_budget, publish, "max-publish-bytes and send-buffer-bytes", "publish"),
        (
            "history-bytes",
            settings.history_bytes or 2 * event,
            2 * event,
            "twice max-event-bytes and 4KiB, or 0",
            "event",
        ),
    ):
        if size < least:
            raise SettingsError(
                f"{name} is {size} and must be at least {least}, {sum_of}, "
                f"or the largest {what} would not fit."
            )


def _check_keys(settings: "Settings") -> None:
    if sum(key is not None for key in (settings.jwt_secret, settings.jwt_public_key, settings.jwks_url)) != 1:
        raise SettingsError(
            "Say how access tokens are checked, with one of "
            "jwt-secret, jwt-secret-file, jwt-public-key-file and jwks-url."
        )
    if settings.jwt_algorithm is not None and (settings.jwt_algorithm == "HS256") != (
        settings.jwt_secret is not None
    ):
        raise SettingsError(
            f"jwt-algorithm {settings.jwt_algorithm} does not go with the key: HS256 goes with jwt-secret, "
            "RS256, ES256 and EdDSA with jwt-public-key-file or jwks-url."
        )


def _check_listeners(settings: "Settings") -> None:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        missing, given = ("tls-cert", "tls-key") if settings.tls_cert is None else ("tls-key", "tls-cert")
        raise SettingsError(f"{given} is set and {missing} is not; set both for TLS, or neither.")
    same_place = (settings.host, settings.port) == (settings.internal_host, settings.internal_port)
    if same_place and settings.port != 0:
        raise SettingsError(f"port and internal-port are both {settings.port}; each listener needs its own.")

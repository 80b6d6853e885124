"""The one table of settings: `Settings`.

The options of the command line, the keys of the configuration file, the environment variables and the table
in the documentation are all made from its fields; see `localful_ws.settings.options`.
"""
# ruff: noqa: RUF009 - setting() makes attrs fields; no default is shared that could change.

from pathlib import Path

from attrs import NOTHING, frozen

from localful_ws.protocol import HandshakeRules, Limits, Rate
from localful_ws.publishing import PublishLimits
from localful_ws.settings import kinds
from localful_ws.settings.open_files import INTERNAL_CONNECTIONS
from localful_ws.settings.setting import Spelling, setting
from localful_ws.settings.together import check_together

_KIB = 1024
_MOST_BYTES = 1024**3
_MOST_THINGS = 1_000_000_000


@frozen(kw_only=True)
class Settings:
    """Everything that can be set. One that is made can be: values are in their ranges and go together.

    Times are seconds, sizes bytes. `localful_ws.settings.load_settings` makes one of the command line, the
    environment and a file.

    Raises:
        SettingsError: If a value is impossible, or two don't go together.
    """

    host: str = setting("127.0.0.1", kinds.TEXT, "address the WebSocket listener binds")
    port: int = setting(
        42102, kinds.WHOLE, "its port; 0 takes a free one, which the log names", at_least=0, at_most=65535
    )
    path: str = setting("/v1/sync", kinds.PATH, "path of the WebSocket endpoint")
    tls_cert: Path | None = setting(
        None, kinds.FILE, "certificate chain in PEM, for TLS on the WebSocket listener", if_unset="no TLS"
    )
    tls_key: Path | None = setting(
        None, kinds.FILE, "private key of the certificate, in PEM", if_unset="no TLS"
    )
    allow_origin: tuple[str, ...] = setting(
        (),
        kinds.ORIGINS,
        "web pages of these origins may connect (repeat it; with commas in the environment)",
        if_unset="any",
    )
    transport: str = setting(
        "lean",
        kinds.TEXT,
        "WebSocket implementation",
        choices=("lean", "trio-websocket"),
    )
    backlog: int = setting(
        4096, kinds.WHOLE, "connections the kernel may hold that are not accepted yet", at_least=1
    )
    internal_host: str = setting("127.0.0.1", kinds.TEXT, "address the internal HTTP listener binds")
    internal_port: int = setting(
        42103, kinds.WHOLE, "its port; 0 takes a free one", at_least=0, at_most=65535
    )
    max_internal_connections: int = setting(
        INTERNAL_CONNECTIONS,
        kinds.WHOLE,
        "connections to the internal port; others wait, and those that are idle are closed for them",
        at_least=1,
        at_most=_MOST_THINGS,
    )
    allow_host: tuple[str, ...] = setting(
        (),
        kinds.HOSTS,
        "names by which the internal port may be asked without the publisher key, beside addresses and "
        "localhost; * for any (repeat it; with commas in the environment)",
        if_unset="none",
    )
    console: str = setting(
        "on",
        kinds.TEXT,
        "whether the operator's console is at `/console` on the internal port",
        choices=("on", "off"),
    )
    publisher_key: str = setting(
        NOTHING,
        kinds.PUBLISHER_KEY,
        "key that publishers show",
        secret=True,
        spelling=Spelling.VALUE_OR_FILE,
        group="publisher-key",
    )

    jwt_secret: bytes | None = setting(
        None,
        kinds.SHARED_SECRET,
        "secret of the HTTP API's access tokens (HS256)",
        secret=True,
        spelling=Spelling.VALUE_OR_FILE,
        group="jwt",
        if_unset="one of these three is required",
    )
    jwt_public_key: bytes | None = setting(
        None,
        kinds.PEM,
        "public key of the HTTP API's access tokens, in PEM",
        spelling=Spelling.FILE,
        group="jwt",
        if_unset="one of these three is required",
    )
    jwks_url: str | None = setting(
        None,
        kinds.URL,
        "where the HTTP API publishes its keys (JWKS)",
        secret=True,
        group="jwt",
        if_unset="one of these three is required",
    )
    jwt_algorithm: str | None = setting(
        None,
        kinds.TEXT,
        "the only algorithm an access token may be signed with",
        choices=("HS256", "RS256", "ES256", "EdDSA"),
        if_unset="by kind of key",
    )
    jwt_issuer: str | None = setting(None, kinds.TEXT, "what `iss` must be", if_unset="unchecked")
    jwt_audience: str | None = setting(None, kinds.TEXT, "what `aud` must be or list", if_unset="unchecked")
    jwt_leeway: float = setting(
        10.0, kinds.SECONDS, "how far the HTTP API's clock may be ahead", at_least=0, at_most=3600
    )
    group_claim: str = setting("gid", kinds.TEXT, "claim that holds the token group")
    max_token_length: int = setting(
        8192, kinds.WHOLE, "characters an access token may have", at_least=256, at_most=65536
    )

    auth_timeout: float = setting(3.0, kinds.SECONDS, "a device has this long to authenticate", at_least=0.1)
    renewal_window: float = setting(
        60.0, kinds.SECONDS, "so long before its token expires a device is asked for a new one", at_least=0
    )
    handshake_timeout: float = setting(
        10.0, kinds.SECONDS, "a connection has this long for TLS and the upgrade", at_least=0.1
    )
    ping_interval: float = setting(25.0, kinds.SECONDS, "a device is pinged this often", at_least=0.1)
    ping_timeout: float = setting(
        20.0, kinds.SECONDS, "a device that is silent this long after a ping is dropped", at_least=0.1
    )
    close_timeout: float = setting(
        5.0, kinds.SECONDS, "a device has this long to answer a close", at_least=0.1
    )
    drain_seconds: float = setting(
        10.0, kinds.SECONDS, "time to say goodbye after SIGTERM or SIGINT", at_least=0
    )

    max_connections: int = setting(
        1_000_000,
        kinds.WHOLE,
        "connections; over it HTTP 503",
        at_least=1,
        if_unset="what the open-file limit allows",
    )
    max_connections_per_user: int = setting(
        50, kinds.WHOLE, "connections of one user; over it 4429", at_least=1
    )
    max_message_bytes: int = setting(
        160 * _KIB,
        kinds.SIZE,
        "size of a device's message, enough for a token and `max-vaults` ids",
        at_least=_KIB,
        at_most=_MOST_BYTES,
    )
    message_rate: Rate = setting(
        Rate(30, 10.0), kinds.RATE, "messages a device may send at once / seconds they take to grow back"
    )
    frame_rate: Rate = setting(
        Rate(300, 10.0),
        kinds.RATE,
        "WebSocket frames a device may send at once, of whatever kind / seconds they take to grow back",
    )
    max_half_open: int = setting(
        2048,
        kinds.WHOLE,
        "connections that have yet to authenticate; over it the oldest of them are dropped",
        at_least=1,
        at_most=_MOST_THINGS,
    )
    max_vaults: int = setting(1000, kinds.WHOLE, "vaults in a subscription", at_least=1, at_most=_MOST_THINGS)
    send_buffer_events: int = setting(
        1024,
        kinds.WHOLE,
        "events that may wait for a device before a further publish closes it as a slow consumer",
        at_least=1,
    )
    send_buffer_bytes: int = setting(
        4 * _KIB * _KIB,
        kinds.SIZE,
        "their size, at least `max-event-bytes` and 4KiB more",
        at_least=_KIB,
        at_most=_MOST_BYTES,
    )
    send_budget: int = setting(
        64 * _KIB * _KIB,
        kinds.SIZE,
        "memory for what waits for all devices; over it those that have not read for longest are closed",
        at_least=_KIB,
        at_most=64 * _MOST_BYTES,
    )
    send_timeout: float = setting(
        30.0, kinds.SECONDS, "what is first to be sent to a device has this long to leave", at_least=0.1
    )

    max_event_bytes: int = setting(
        64 * _KIB, kinds.SIZE, "size of the `data` of an event", at_least=64, at_most=_MOST_BYTES
    )
    max_publish_bytes: int = setting(
        32 * _KIB * _KIB,
        kinds.SIZE,
        "size of the body of a publish, at least `max-event-bytes` and 4KiB more",
        at_least=_KIB,
        at_most=_MOST_BYTES,
    )
    max_batch: int = setting(1000, kinds.WHOLE, "events in a publish", at_least=1, at_most=_MOST_THINGS)
    publish_budget: int = setting(
        64 * _KIB * _KIB,
        kinds.SIZE,
        "size of all bodies over 64 KiB that are arriving, at least `max-publish-bytes`; over it HTTP 503",
        at_least=_KIB,
        at_most=64 * _MOST_BYTES,
    )
    publish_body_timeout: float = setting(
        30.0, kinds.SECONDS, "the body of a publish has this long to arrive", at_least=0.1
    )
    publish_queue: int = setting(
        256, kinds.WHOLE, "publishes that may wait to be routed, or with Redis be under way", at_least=1
    )
    publish_timeout: float = setting(
        5.0, kinds.SECONDS, "a publish waits this long for a place among them; then HTTP 503", at_least=0.1
    )
    max_revocations: int = setting(
        100_000,
        kinds.WHOLE,
        "disconnected users and logins remembered; over it HTTP 503",
        at_least=1,
        at_most=_MOST_THINGS,
    )
    revocation_seconds: float = setting(
        86400.0, kinds.SECONDS, "how long, unless the disconnect says until when", at_least=1
    )

    engine: str = setting(
        "memory",
        kinds.ENGINE,
        "where events travel from publishers to devices: memory, or the URL of Redis or Valkey",
        secret=True,
        spelling=Spelling.VALUE_OR_FILE,
        group="engine",
    )
    history_events: int = setting(
        1000,
        kinds.WHOLE,
        "events of a user kept for devices that were away; 0 keeps none",
        at_least=0,
        at_most=_MOST_THINGS,
    )
    history_seconds: float = setting(300.0, kinds.SECONDS, "how long they are kept; 0 keeps none", at_least=0)
    history_bytes: int = setting(
        64 * _KIB * _KIB,
        kinds.SIZE,
        "memory for the events of all users kept by the memory engine; 0 keeps none",
        at_least=0,
        at_most=64 * _MOST_BYTES,
    )
    cursor_seconds: float = setting(
        604_800.0,
        kinds.SECONDS,
        "how long Redis remembers where a user's stream ended, after the last event or connection",
        at_least=60,
    )
    idempotency_seconds: float = setting(
        300.0, kinds.SECONDS, "how long the `id` of a published event is remembered; 0 ignores it", at_least=0
    )
    idempotency_events: int = setting(
        1_000_000,
        kinds.WHOLE,
        "such ids that the memory engine remembers; over it the oldest are forgotten",
        at_least=1,
        at_most=_MOST_THINGS,
    )
    redis_prefix: str = setting("localful", kinds.PREFIX, "what the names of all keys in Redis begin with")
    redis_timeout: float = setting(
        5.0, kinds.SECONDS, "Redis has this long to accept a connection or answer a command", at_least=0.1
    )
    redis_retry: float = setting(
        5.0, kinds.SECONDS, "longest pause between two attempts to reach Redis", at_least=0.1
    )
    redis_replicas: int = setting(
        0,
        kinds.WHOLE,
        "so many replicas must have what is published before that is answered with 202",
        at_least=0,
        at_most=100,
    )
    redis_handover_seconds: float = setting(
        30.0,
        kinds.SECONDS,
        "how long what was answered with 202 is kept, to be given to a Redis that lacks it",
        at_least=0,
    )
    redis_handover_bytes: int = setting(
        16 * _KIB * _KIB,
        kinds.SIZE,
        "how much of that is kept; over it the oldest is forgotten",
        at_least=0,
        at_most=_MOST_BYTES,
    )
    redis_queue_bytes: int = setting(
        32 * _KIB * _KIB,
        kinds.SIZE,
        "events from Redis that may wait to be routed; over it they are read from history later",
        at_least=_KIB,
        at_most=_MOST_BYTES,
    )
    intake: str = setting(
        "on",
        kinds.TEXT,
        "whether events are taken from the stream `localful:intake` in Redis",
        choices=("on", "off"),
    )
    workers: int = setting(
        1, kinds.WHOLE, "processes that share the port; more than one needs Redis", at_least=1, at_most=1024
    )
    log_format: str = setting(
        "auto",
        kinds.TEXT,
        "auto is console on a terminal and json elsewhere",
        choices=("auto", "console", "json"),
    )
    log_level: str = setting(
        "info", kinds.TEXT, "what is logged, and all above it", choices=("debug", "info", "warning", "error")
    )
    gc_threshold: int = setting(
        50_000,
        kinds.WHOLE,
        "objects made between two collections of the youngest garbage; 0 leaves Python's own number",
        at_least=0,
        at_most=_MOST_THINGS,
    )

    def __attrs_post_init__(self) -> None:
        """Check what concerns more than one setting."""
        check_together(self)

    def limits(self) -> Limits:
        """What a device's connection may do, for the protocol."""
        return Limits(
            auth_timeout=self.auth_timeout,
            renewal_window=self.renewal_window,
            max_vaults=self.max_vaults,
            message_rate=self.message_rate,
            frame_rate=self.frame_rate,
        )

    def handshake_rules(self) -> HandshakeRules:
        """What a WebSocket handshake must say, for the protocol."""
        return HandshakeRules(path=self.path, allowed_origins=frozenset(self.allow_origin))

    def publish_limits(self) -> PublishLimits:
        """What a publisher may send."""
        return PublishLimits(
            max_body_bytes=self.max_publish_bytes,
            max_event_bytes=self.max_event_bytes,
            max_events=self.max_batch,
        )

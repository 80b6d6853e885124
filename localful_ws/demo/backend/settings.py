"""What an operator of the example backend may set."""

from attrs import field, frozen, validators

_positive = validators.gt(0)


def _long_enough(_: object, __: object, secret: bytes) -> None:
    if len(secret) < 32:
        raise ValueError(
            "The secret of the tokens needs at least 32 bytes; make one with: openssl rand -hex 32"
        )


@frozen
class BackendSettings:
    """Settings of the backend. Times are in seconds, sizes in bytes unless they say otherwise.

    Attributes:
        database: File of the SQLite database; it is made if it isn't there.
        jwt_secret: Secret that tokens are signed with; the daemon's ``jwt-secret``.
        publisher_key: The daemon's ``publisher-key``.
        intake_url: The daemon's internal port, such as ``http://127.0.0.1:42103``.
        access_seconds: How long an access token is good.
        refresh_seconds: How long a login lasts that is not refreshed.
        refresh_grace_seconds: How long the refresh token before the present one is still taken, for a device
            that never got the answer with the new one.
        password_cost: The parameter ``n`` of scrypt, a power of two: work and memory for each password.
        seed: Whether to create the users of `localful_ws.demo.backend.seed` that aren't there.
        max_body_bytes: Size of a request's body.
        busy_seconds: A request waits this long for the database, or for its turn to check a password.
        max_page: Rows that a list answers with at most.
        max_logins: Logins of a user; beyond it the oldest ends.
        max_vaults: Vaults of a user.
        max_items: Items of a user, over all vaults.
        max_versions: Versions of a user, over all items.
        max_content: Characters of content of a user in all versions; bounds a snapshot.
        batch_events: Events that are published in one request, at most the daemon's ``max-batch``.
        publish_seconds: The daemon has this long to answer.
        retry_seconds: Longest pause between two attempts to publish.
        idle_seconds: The outbox is looked at this often even if no commit woke the publisher.
    """

    database: str
    jwt_secret: bytes = field(repr=False, validator=_long_enough)
    publisher_key: str = field(repr=False)
    intake_url: str = "http://127.0.0.1:42103"
    access_seconds: float = field(default=900, validator=_positive)
    refresh_seconds: float = field(default=30 * 86400, validator=_positive)
    refresh_grace_seconds: float = 30
    password_cost: int = 2**14
    seed: bool = True
    max_body_bytes: int = 512 * 1024
    busy_seconds: float = field(default=5, validator=_positive)
    max_page: int = field(default=100, validator=_positive)
    max_logins: int = field(default=20, validator=_positive)
    max_vaults: int = 100
    max_items: int = 1000
    max_versions: int = 5000
    max_content: int = 4 * 1024 * 1024
    batch_events: int = field(default=100, validator=_positive)
    publish_seconds: float = field(default=10, validator=_positive)
    retry_seconds: float = field(default=10, validator=_positive)
    idle_seconds: float = field(default=30, validator=_positive)

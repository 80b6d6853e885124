"""What a WebSocket handshake must say (spec/protocol.md, "Handshake"), without any HTTP library."""

from collections.abc import Iterable

from attrs import field, frozen

SUBPROTOCOL = "localful.v1"
"""The subprotocol that names version 1; a client that offers none speaks it all the same."""

BEARER_SUBPROTOCOL = "localful.bearer."
"""Before an access token offered as a subprotocol: the way for browsers, which can't set headers."""


@frozen
class HandshakeRules:
    """What the server expects of a handshake.

    Attributes:
        path: The path of the endpoint, without query.
        allowed_origins: The ``Origin`` values to let in; empty lets in all. A request without the header is
            no browser and is let in.
    """

    path: str = "/v1/sync"
    allowed_origins: frozenset[str] = frozenset()


@frozen
class Accept:
    """The handshake may go ahead.

    Attributes:
        subprotocol: The one to select, if any.
        token: An access token to verify before the upgrade, if the client sent one.
    """

    subprotocol: str | None
    token: str | None = field(default=None, repr=False)


class HandshakeError(Exception):
    """The handshake is refused: what to answer, in Localful's error shape.

    Attributes:
        status: The HTTP status.
        identifier: A word for programs.
        message: A sentence for people.
    """

    def __init__(self, status: int, identifier: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.identifier = identifier
        self.message = message


def judge_handshake(
    rules: HandshakeRules, target: str, headers: Iterable[tuple[bytes, bytes]], subprotocols: Iterable[str]
) -> Accept:
    """Decide whether a WebSocket upgrade goes ahead, but for its token.

    Args:
        rules: What the server expects.
        target: The request target: path and perhaps a query, which is ignored.
        headers: The request's headers, names in lower case.
        subprotocols: What ``Sec-WebSocket-Protocol`` offers, in order.

    Raises:
        HandshakeError: If it does not.
    """
    if target.partition("?")[0] != rules.path:
        raise HandshakeError(
            404, "not-found", f"There is nothing here; the WebSocket endpoint is {rules.path}."
        )
    origin, authorization = _single(headers, b"origin", b"authorization")
    if rules.allowed_origins and origin is not None and origin not in rules.allowed_origins:
        raise HandshakeError(
            403, "origin-not-allowed", "Pages of this origin may not connect; see allow-origin."
        )
    offered = tuple(subprotocols)
    selected = SUBPROTOCOL if SUBPROTOCOL in offered else None
    token = next(
        (name.removeprefix(BEARER_SUBPROTOCOL) for name in offered if name.startswith(BEARER_SUBPROTOCOL)),
        None,
    )
    if token is not None and selected is None:
        raise HandshakeError(
            400, "subprotocol-missing", f"Offer {SUBPROTOCOL} beside {BEARER_SUBPROTOCOL}<token>."
        )
    if authorization is not None:
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise HandshakeError(401, "unauthorized", "Authorization must be Bearer and an access token.")
        token = credentials.strip()
    return Accept(selected, token)


def _single(headers: Iterable[tuple[bytes, bytes]], *names: bytes) -> list[str | None]:
    """The values of headers that may stand there once (RFC 9110, section 5.3), as text."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name in names:
            if name in found:
                raise HandshakeError(
                    400, "bad-request", f"The header {name.decode().title()} may stand there only once."
                )
            found[name] = value.decode("latin-1")
    return [found.get(name) for name in names]

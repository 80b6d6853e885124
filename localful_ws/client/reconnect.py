"""When to connect again after a connection ended (spec/protocol.md, "Close codes"): pure functions."""

from attrs import frozen

from localful_ws.protocol import CloseCode, Reconnect

LOST = 1006
"""The code of a connection that ended without one (RFC 6455, section 7.4.1)."""


@frozen
class _Backoff:
    """Pauses that double from ``first`` to ``longest`` seconds; the part ``fixed`` is not left to chance."""

    first: float
    longest: float
    fixed: float


_BACKOFFS = {
    Reconnect.YES: _Backoff(first=1.0, longest=30.0, fixed=0.5),
    Reconnect.WITH_NEW_TOKEN: _Backoff(first=1.0, longest=30.0, fixed=0.5),
    Reconnect.LATER: _Backoff(first=5.0, longest=120.0, fixed=0.5),
    # A server that restarts has all its devices come back: spread them over the whole time.
    Reconnect.AFTER_RANDOM_DELAY: _Backoff(first=10.0, longest=30.0, fixed=0.0),
}
_CLOSE_CODES = {int(code): code for code in CloseCode}
# Without a close frame, and with one that has no code.
_WITHOUT_CODE = frozenset({LOST, 1005})
_RETRIED_STATUSES = frozenset({408, 425, 429})


def after_close(code: int) -> Reconnect:
    """Say whether to come back after a WebSocket close code.

    A code that this version does not know means later, as an error of the server's own does; and a connection
    that ended without a code, yes.
    """
    known = _CLOSE_CODES.get(code)
    if known is not None:
        return known.reconnect
    return Reconnect.YES if code in _WITHOUT_CODE else Reconnect.LATER


def after_refusal(status: int) -> Reconnect:
    """Say whether to come back after a handshake was answered with this HTTP status."""
    return Reconnect.LATER if status >= 500 or status in _RETRIED_STATUSES else Reconnect.NO


def pause_before(reconnect: Reconnect, attempt: int, chance: float) -> float | None:
    """Say how long to wait before connecting again: exponential backoff with jitter.

    Args:
        reconnect: What the end of the connection meant.
        attempt: How many attempts in a row have failed before, from 0.
        chance: From 0 to 1, drawn at random.

    Returns:
        Seconds; None if there is no coming back.
    """
    backoff = _BACKOFFS.get(reconnect)
    if backoff is None:
        return None
    span = min(backoff.first * 2.0 ** min(attempt, 16), backoff.longest)
    return span * (backoff.fixed + (1 - backoff.fixed) * chance)

"""Errors as a client sees them: ``{"statusCode", "identifier", "message", "context"}``."""

from collections.abc import Mapping
from typing import Final


class ApiError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The HTTP status.
        identifier: One word for programs.
        message: A sentence for people.
        context: More about it, such as the ``key`` of the body.
        headers: Headers of the answer.
    """

    def __init__(
        self,
        status: int,
        identifier: str,
        message: str,
        context: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status: Final = status
        self.identifier: Final = identifier
        self.message: Final = message
        self.context: Final = dict(context or {})
        self.headers: Final = dict(headers or {})


def unauthorized(message: str) -> ApiError:
    """The access token is missing or no good: refresh it, or log in."""
    return ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": "Bearer"})


def wrong_credentials() -> ApiError:
    """E-mail and password don't go together. It says no more, so that nobody learns who has an account."""
    return ApiError(403, "wrong-credentials", "There is no user with this e-mail address and password.")


def not_found(what: str) -> ApiError:
    """There is no such thing, or it is somebody else's: which of the two is nobody's business."""
    return ApiError(404, "not-found", f"There is no such {what}.")


def over_quota(what: str, limit: int) -> ApiError:
    """The user has as much of something as one may have."""
    return ApiError(409, "quota-reached", f"A user may have at most {limit} {what}.", {"limit": limit})


def busy() -> ApiError:
    """Too much is going on."""
    return ApiError(503, "busy", "The server is busy; try again.", headers={"Retry-After": "1"})

"""What the internal port answers when it can't do what it is asked for."""

from typing import Final

from starlette.requests import Request

from localful_ws.engine import EngineUnavailableError
from localful_ws.publishing import PublishError
from localful_ws.revocations import TooManyRevocationsError
from localful_ws.server.http.answers import Answer, error_answer, unavailable_answer
from localful_ws.server.http.bodies import BodiesTooBigError
from localful_ws.server.http.queries import QueryError
from localful_ws.server.watching import TooManyWatchersError

# Revocations lapse slowly; nothing is gained by asking soon.
_RETRY_REVOCATION_AFTER: Final = 60
_RETRY_BODY_AFTER: Final = 1

REFUSALS: Final = (
    PublishError,
    QueryError,
    EngineUnavailableError,
    BodiesTooBigError,
    TooManyRevocationsError,
    TooManyWatchersError,
)
"""The errors that `answer_refusal` has an answer for."""


def answer_refusal(error: Exception) -> Answer:
    """Answer whoever can't be given what was asked for; any error but `REFUSALS` is ours."""
    match error:
        case PublishError():
            answer = error_answer(error.status, error.identifier, error.message, error.context)
        case QueryError():
            answer = error_answer(422, "invalid-query", error.message, {"key": error.key})
        case EngineUnavailableError():
            answer = unavailable_answer("engine-unavailable", error.message, error.retry_after)
        case BodiesTooBigError():
            answer = unavailable_answer(
                "busy", "Others are sending as much as may be sent at once.", _RETRY_BODY_AFTER
            )
        case TooManyRevocationsError():
            answer = unavailable_answer(
                "too-many-revocations",
                "As many revocations are in force as max-revocations allows; nothing was done.",
                _RETRY_REVOCATION_AFTER,
            )
        case TooManyWatchersError():
            answer = unavailable_answer("too-many-watchers", "As many are watching as may at the same time.")
        case _:
            answer = error_answer(500, "internal-error", "The server failed; its log says more.")
    return answer


async def _handle(_: Request, error: Exception) -> Answer:
    return answer_refusal(error)


ERROR_HANDLERS: Final = dict.fromkeys((*REFUSALS, Exception), _handle)
"""The same for an application of Starlette: its ``exception_handlers``."""

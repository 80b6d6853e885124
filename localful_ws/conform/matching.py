"""Whether what was seen is what a scene says, and if not, what is the difference, as a sentence."""

import json
from typing import Any, Final

from attrs import Factory, field, frozen

from localful_ws.conform.scenes import Step
from localful_ws.conform.terms import Terms, is_cursor, same

# With these keys version 1 is complete. Others may be added to it, and say nothing about what a scene says.
_KEYS: Final = frozenset(
    {
        *("event", "token", "user", "group", "expiresAt", "vault", "vaults", "data"),
        *("cursor", "since", "resumed", "id", "code", "message"),
    }
)
_WITHOUT_CURSOR: Final = frozenset({"subscribed", "reauthenticate", "error"})
_MOST_SHOWN: Final = 400


@frozen
class Seen:
    """What a device saw.

    Attributes:
        at: When, in seconds since the scene began.
        action: What, in the words of a scene: ``receives``, ``closed``, ``dropped``, ``refused``, ``ponged``,
            ``pinged``; or ``gets-rubbish``, which no scene has.
        value: More about it.
    """

    at: float
    action: str
    value: Any = None

    def __str__(self) -> str:
        return f"{self.action} {shown(self.value)}"


@frozen
class Answer:
    """How a request was answered.

    Attributes:
        status: The HTTP status.
        body: The body, parsed if it is JSON, else text.
        headers: Their names in lower case.
    """

    status: int
    body: Any
    headers: dict[str, str] = field(default=Factory(dict), repr=False)


def shown(value: Any) -> str:
    """A value for people, not longer than a few lines."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}… ({len(text)} characters)"


def difference(step: Step, seen: Seen, terms: Terms, *, strict: bool = False) -> str | None:
    """Compare what was seen with the step about it, but for the time.

    Args:
        step: The step: a sight.
        seen: What was seen.
        terms: What the words of the scene stand for.
        strict: Refuse keys that version 1 does not have, too.

    Returns:
        None if they agree, or a sentence.
    """
    wanted = "receives" if step.action == "receives-some" else step.action
    if seen.action != wanted:
        return f"Instead it was this: {seen}."
    match seen.action:
        case "receives":
            return _message_difference(step.value, seen.value, terms, strict=strict)
        case "closed":
            return _close_difference(step.value, seen.value)
        case "refused":
            return _error_difference(step.value, seen.value["status"], seen.value["body"])
        case "ponged":
            return None if step.value == seen.value else f"It was {shown(seen.value)}."
    return None


def answer_difference(step: Step, answer: Answer, terms: Terms) -> str | None:
    """Compare the answer to a request with the step about it.

    Returns:
        None if they agree, or a sentence.
    """
    written = step.answer
    if written is None:
        return None if answer.status == 202 else f"It was {answer.status} {shown(answer.body)}."
    if answer.status != written["status"]:
        return f"It was {answer.status} {shown(answer.body)}."
    if answer.status == 503 and "retry-after" not in answer.headers:
        return "The answer 503 has no Retry-After."
    if "identifier" in written:
        return _error_difference(written, answer.status, answer.body)
    if "body" in written and not terms.agrees(written["body"], answer.body):
        return f"It was {answer.status} {shown(answer.body)}."
    return None


def _message_difference(written: Any, seen: Any, terms: Terms, *, strict: bool) -> str | None:
    instead = f"Instead it was this: {shown(seen)}."
    if not isinstance(seen, dict) or "event" not in seen:
        return instead
    event = seen["event"]
    message = dict(seen) if strict else {key: value for key, value in seen.items() if key in _KEYS}
    if (
        "cursor" not in written
        and event not in _WITHOUT_CURSOR
        and not is_cursor(message.pop("cursor", None))
    ):
        return f"There is no cursor in this: {shown(seen)}."
    if "message" not in written and event == "error" and not _is_sentence(message.pop("message", None)):
        return f"There is no message in this: {shown(seen)}."
    wanted = dict(written)
    if written.get("event") == "authenticated":
        wanted |= {key: terms.name(terms.make(written[key])) for key in ("user", "group") if key in written}
    return None if terms.agrees(wanted, message) else instead


def _close_difference(written: Any, seen: Any) -> str | None:
    agree = all(same(value, seen[key]) for key, value in written.items())
    return None if agree else f"It was {seen['code']} {seen['reason']}."


def _error_difference(written: Any, status: int, body: Any) -> str | None:
    """Compare an HTTP error with a step that says its status and identifier, and perhaps its context."""
    instead = f"It was {status} {shown(body)}."
    if status != written["status"]:
        return instead
    whole = (
        isinstance(body, dict)
        and body.get("statusCode") == status
        and _is_sentence(body.get("message"))
        and isinstance(body.get("context"), dict)
    )
    if not whole:
        return f"The body is not that of an HTTP error: {shown(body)}."
    if body.get("identifier") != written["identifier"]:
        return instead
    context = written.get("context", {})
    agree = all(
        key in body["context"] and same(value, body["context"][key]) for key, value in context.items()
    )
    return None if agree else instead


def _is_sentence(value: object) -> bool:
    return isinstance(value, str) and value != ""

"""What a check found."""

from enum import Enum

from attrs import frozen


class Outcome(Enum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """It works, and something is to be known or done."""
    FAILED = "failed"
    """It does not work, or is not safe."""


@frozen
class Finding:
    """One line of the report. Nothing in it is secret.

    Attributes:
        check: What was looked at, a word or two.
        outcome: How it came out.
        message: What was found.
        advice: What to do about it; empty if nothing is to be done.
    """

    check: str
    outcome: Outcome
    message: str
    advice: str = ""


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, Outcome.OK, message)


def warning(check: str, message: str, advice: str) -> Finding:
    """It works, and something is to be known or done."""
    return Finding(check, Outcome.WARNING, message, advice)


def failed(check: str, message: str, advice: str) -> Finding:
    """It does not work, or is not safe."""
    return Finding(check, Outcome.FAILED, message, advice)

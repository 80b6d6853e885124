"""What a GET asks for in its query."""

from typing import Final

from starlette.datastructures import QueryParams

from localful_ws.protocol import MAX_ID

_MOST_DIGITS: Final = 9


class QueryError(Exception):
    """A query that can't be answered.

    Attributes:
        key: The key that is wrong.
        message: A sentence for whoever asked.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key
        self.message = message


def read_id(query: QueryParams, key: str, *, required: bool = False) -> str:
    """Read an id, or the beginning of one.

    Raises:
        QueryError: If it is too long, or missing though required.
    """
    value: str = query.get(key, "")
    if len(value) > MAX_ID or (required and not value):
        raise QueryError(key, f"{key} is 1 to {MAX_ID} characters.")
    return value


def read_number(query: QueryParams, key: str, otherwise: int, *, at_least: int, at_most: int) -> int:
    """Read a whole number.

    Args:
        query: The query.
        key: Its key.
        otherwise: What it is if it isn't there.
        at_least: The least that it may be.
        at_most: The most that it may be, of at most nine digits.

    Raises:
        QueryError: If it is none, or out of bounds.
    """
    text = query.get(key)
    if text is None:
        return otherwise
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and at_least <= int(text) <= at_most:
        return int(text)
    raise QueryError(key, f"{key} is a whole number from {at_least} to {at_most}.")

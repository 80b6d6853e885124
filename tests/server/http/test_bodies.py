"""Bodies that come in pieces, and the budget they share."""

from collections.abc import Iterable
from typing import Any

import pytest

from localful_ws.publishing import PublishError, PublishLimits, Text
from localful_ws.server.http.bodies import BodiesTooBigError, Body, BodyBudget

SMALL = 65536


def budget_of(most: int, **limits: Any) -> BodyBudget:
    return BodyBudget(PublishLimits(**limits), most)


def length(size: int) -> dict[bytes, bytes]:
    return {b"content-length": b"%d" % size}


async def receive_all(body: Body, pieces: Iterable[bytes | None]) -> Text | None:
    """Receive these; None instead of a piece is a client that goes away."""
    messages: list[dict[str, Any]] = [
        {"type": "http.disconnect"}
        if piece is None
        else {"type": "http.request", "body": piece, "more_body": True}
        for piece in pieces
    ]
    if messages[-1]["type"] == "http.request":
        messages[-1]["more_body"] = False

    async def receive() -> Any:
        return messages.pop(0)

    return await body.receive(receive)


def test_it_is_counted() -> None:
    budget = budget_of(10)
    budget.take(6)
    with pytest.raises(BodiesTooBigError):
        budget.take(5)
    budget.take(4)
    assert budget.size == 10


async def test_what_is_declared_is_reserved_at_once_and_given_back() -> None:
    budget = budget_of(200_000)
    with Body(budget, length(150_000)) as large:
        pieces = [b"a" * 50_000, b"b" * 50_000, b"c" * 50_000]
        assert await receive_all(large, pieces) == b"".join(pieces)
        assert budget.size == 150_000
    assert budget.size == 0


async def test_what_is_not_declared_is_counted_as_it_comes() -> None:
    budget = budget_of(200_000)
    with Body(budget, {}) as large:
        assert await receive_all(large, [b"x" * SMALL, b""]) == b"x" * SMALL
        assert budget.size == 0
    with Body(budget, {}) as large:
        await receive_all(large, [b"x" * SMALL, b"x", b"y" * 100])
        assert budget.size == SMALL + 101
    assert budget.size == 0


async def test_small_ones_are_always_taken() -> None:
    budget = budget_of(0)
    with Body(budget, length(SMALL)) as large:
        assert await receive_all(large, [b"x" * 100, b"x" * (SMALL - 100)]) == b"x" * SMALL
    with pytest.raises(BodiesTooBigError), Body(budget, length(SMALL + 1)):
        pass
    assert budget.size == 0


async def test_more_than_all_together_may_be() -> None:
    budget = budget_of(250_000)
    with Body(budget, length(200_000)) as first:
        await receive_all(first, [b"x", b"x"])
        with Body(budget, {}) as second, pytest.raises(BodiesTooBigError):
            await receive_all(second, [b"x" * 40_000] * 3)
        assert budget.size == 200_000
    assert budget.size == 0


async def test_one_that_is_too_big_by_itself() -> None:
    budget = budget_of(10**9, max_body_bytes=100_000)
    for headers, pieces in [
        (length(100_001), [b"x", b"x"]),
        ({}, [b"x" * 60_000, b"x" * 40_001, b"never asked for"]),
    ]:
        with pytest.raises(PublishError) as caught, Body(budget, headers) as large:
            await receive_all(large, pieces)
        assert (caught.value.status, caught.value.identifier) == (413, "body-too-big")
    assert budget.size == 0


async def test_a_client_that_goes_away() -> None:
    budget = budget_of(10**9)
    with Body(budget, length(100_000)) as large:
        assert await receive_all(large, [b"x" * 70_000, None]) is None
    assert budget.size == 0

"""Answers in Localful's shapes, as ASGI sends them."""

import json
from typing import Any

from localful_ws.server.http.answers import Answer, error_answer, json_answer, unavailable_answer


async def sent_by(answer: Answer) -> tuple[int, dict[bytes, bytes], bytes]:
    """What an answer sends: status, headers and body."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is asked for")

    await answer({}, receive, send)
    start, body = sent
    assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
    assert len(start["headers"]) == len(dict(start["headers"]))
    return start["status"], dict(start["headers"]), body["body"]


async def test_json() -> None:
    answer = json_answer(200, {"a": "\N{SNOWMAN}"}, {"Allow": "GET"})
    status, headers, body = await sent_by(answer)
    assert (status, json.loads(body)) == (200, {"a": "\N{SNOWMAN}"})
    assert headers == {
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(body),
        b"allow": b"GET",
    }


async def test_an_error() -> None:
    status, _, body = await sent_by(error_answer(422, "invalid-body", "No.", {"index": 1}))
    assert status == 422
    assert list(json.loads(body).items()) == [
        ("statusCode", 422),
        ("identifier", "invalid-body"),
        ("message", "No."),
        ("context", {"index": 1}),
    ]


async def test_an_error_without_context() -> None:
    assert json.loads(error_answer(404, "not-found", "No.").body)["context"] == {}


async def test_what_cannot_be_done_now() -> None:
    status, headers, _ = await sent_by(unavailable_answer("busy", "Wait.", 3))
    assert (status, headers[b"retry-after"]) == (503, b"3")

"""The Python client runs the transcripts that the JavaScript client is run against (transcripts.test.mjs)."""

import json
from typing import Any

import pytest

from localful_ws.client import ClosedByServerError, ReceivedEvent, ServerMessageError
from localful_ws.client.conversation import ComeBack, Conversation, Decision, GiveUp, SubscribeRequest
from localful_ws.client.resuming import Arrival
from localful_ws.protocol import Error
from tests.spec_document import SPEC

FILES = sorted(
    path for path in (SPEC / "transcripts" / "device").glob("*.json") if path.name != "schema.json"
)
TRANSCRIPTS = [
    pytest.param(transcript, id=f"{file.stem}: {transcript['about']}")
    for file in FILES
    for transcript in json.loads(file.read_text())
]


def shown(arrival: Arrival) -> dict[str, Any]:
    content = arrival.content
    if content is None:
        return {"moves": arrival.cursor}
    assert content.cursor in (None, arrival.cursor)
    if isinstance(content, ReceivedEvent):
        return {
            "event": content.event,
            "vault": content.vault,
            "data": content.data,
            "cursor": content.cursor,
        }
    return {"snapshot": list(content.vaults), "cursor": content.cursor}


def decided(decision: Decision | None, expected: dict[str, Any]) -> None:
    if "ends" in expected:
        assert isinstance(decision, GiveUp)
        error = decision.error
        if expected["ends"] is None:
            assert error is None
            return
        assert isinstance(error, ClosedByServerError)
        assert error.code == expected["ends"]
        assert error.message == expected.get("message", error.message)
    else:
        assert isinstance(decision, ComeBack)
        assert decision.delay == expected["delay"]
        assert decision.message == expected.get("message", decision.message)


def outcome(request: SubscribeRequest) -> dict[str, Any] | None:
    match request.outcome:
        case None:
            return None
        case Error(code=code):
            return {"refused": code}
        case subscribed:
            return {"subscribed": list(subscribed.vaults)}


class Run:
    """One transcript, step by step."""

    def __init__(self, transcript: dict[str, Any]) -> None:
        self.conversation = Conversation(transcript["vaults"], transcript.get("since"))
        self.outgoing: list[str] = []
        self.requests: dict[str, SubscribeRequest] = {}

    def take(self, step: dict[str, Any]) -> None:
        name = next(iter(step))
        assert self.happens(name, step) or self.is_asked(name, step) or self.is_found(name, step[name])

    def happens(self, name: str, step: dict[str, Any]) -> bool:
        conversation = self.conversation
        value = step[name]
        match name:
            case "opens":
                conversation.connection_opened()
            case "server":
                conversation.receive_text(json.dumps(value))
            case "misbehaves":
                with pytest.raises(ServerMessageError):
                    conversation.receive_text(value)
            case "token":
                decision = conversation.take_token(value)
                if "then" in step:
                    decided(decision, step["then"])
                else:
                    assert decision is None
            case "closes":
                reason = step.get("reason", "")
                lost = conversation.connection_lost(value, reason, "It ended.", step["chance"])
                decided(lost, step["then"])
            case _:
                return False
        return True

    def is_asked(self, name: str, step: dict[str, Any]) -> bool:
        value = step[name]
        match name:
            case "subscribes":
                self.requests[step["as"]] = self.conversation.subscribe(value)
            case "outcome":
                assert outcome(self.requests[value]) == step["is"]
            case "forgets":
                self.conversation.forget(self.requests[value])
            case "renews":
                self.conversation.renew(value)
            case "closed-by-us":
                self.conversation.close()
            case _:
                return False
        return True

    def is_found(self, name: str, value: Any) -> bool:
        conversation = self.conversation
        self.outgoing += conversation.take_outgoing()
        match name:
            case "device":
                return bool(json.loads(self.outgoing.pop(0)) == value)
            case "silent":
                return self.outgoing == []
            case "arrives":
                expected = [{"vault": None, **one} if "event" in one else one for one in value]
                return [shown(arrival) for arrival in conversation.take_arrivals()] == expected
            case "state":
                return bool(conversation.state.value == value)
            case "cursor":
                return bool(conversation.cursor == value)
            case "vaults":
                return bool(list(conversation.vaults) == value)
        raise AssertionError(f"unknown step {name}")


@pytest.mark.parametrize("transcript", TRANSCRIPTS)
def test_transcript(transcript: dict[str, Any]) -> None:
    run = Run(transcript)
    for number, step in enumerate(transcript["steps"]):
        try:
            run.take(step)
        except AssertionError as error:
            raise AssertionError(f"step {number} {step}") from error
    assert run.conversation.take_arrivals() == []

"""Runs the sequences of spec/protocol.md: every line happens, when it says, and nothing else does."""

import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pytest
from attrs import define, field, frozen
from spec_document import Block, blocks, page, validator

from localful_ws.engine import Entry, ReplayLimits
from localful_ws.engine.history import History, HistoryLimits
from localful_ws.engine.idempotency import RecentIds
from localful_ws.protocol import (
    BEARER_SUBPROTOCOL,
    SUBPROTOCOL,
    Action,
    Close,
    CloseCode,
    Connection,
    Event,
    EventName,
    HandshakeRules,
    Limits,
    Rate,
    Refuse,
    Rejection,
    Send,
    Session,
    State,
    Verdict,
    VerifyToken,
    encode_event,
    encode_server_message,
    judge_handshake,
)
from localful_ws.publishing import PublishError, PublishLimits, decode_disconnect_body, decode_publish_body
from localful_ws.revocations import Revocations

SCENES = [block for block in blocks(page("protocol.md")) if block.language == "sequence"]
REFUSED_STATUS = {CloseCode.UNAUTHORIZED: 401, CloseCode.FORBIDDEN: 403, CloseCode.TOO_MANY: 429}
LINE = re.compile(
    r"(?P<at>\d+\.\d)\s+(?P<who>[\w-]+) "
    r"(?P<what>opens|→|←|✕|refused|stops reading|is lost|drains)(?: (?P<rest>.*))?"
)
CURSOR_NAME = re.compile(r"<[\w-]+>")
DAY = 86400.0


@frozen
class Step:
    """One line of a sequence."""

    at: float
    who: str
    what: str
    rest: str


@frozen
class Seen:
    """What somebody saw, and when."""

    at: float
    what: str
    value: object


@define
class World:
    """A server made of the core alone, and everybody who talks to it."""

    limits: Limits = field(factory=Limits)
    max_connections_per_user: int = 50
    outbox_events: int = 1024
    history_limits: HistoryLimits = field(factory=HistoryLimits)
    history: History = field(factory=lambda: History(HistoryLimits()))
    ids: RecentIds = field(factory=lambda: RecentIds(300.0, 1000))
    now: float = 0.0
    draining: bool = False
    connections: dict[str, Connection] = field(factory=dict)
    waiting: dict[str, list[object]] = field(factory=dict)
    revocations: Revocations = field(factory=lambda: Revocations(1000))
    seen: dict[str, deque[Seen]] = field(factory=dict)

    def given(self, setting: str, value: str) -> None:
        if setting == "message-rate":
            messages, seconds = value.split("/")
            self.limits = attrs.evolve(self.limits, message_rate=Rate(int(messages), float(seconds)))
        elif setting == "max-vaults":
            self.limits = attrs.evolve(self.limits, max_vaults=int(value))
        elif setting == "max-connections-per-user":
            self.max_connections_per_user = int(value)
        elif setting == "outbox-events":
            self.outbox_events = int(value)
        elif setting == "idempotency-seconds":
            self.ids = RecentIds(float(value), 1000)
        else:
            name = {"history-events": "events", "history-seconds": "seconds"}[setting]
            self.history_limits = attrs.evolve(self.history_limits, **{name: int(value)})
            self.history = History(self.history_limits)

    def run_until(self, moment: float) -> None:
        while due := [
            (deadline, who)
            for who, connection in self.connections.items()
            if (deadline := connection.next_deadline()) is not None and deadline <= moment
        ]:
            self.now, who = min(due)
            self.act(who, self.connections[who].time_passed(self.now))
        self.now = moment

    def note(self, who: str, what: str, value: object) -> None:
        self.seen.setdefault(who, deque()).append(Seen(self.now, what, value))

    def tell(self, who: str, message: object) -> None:
        waiting = self.waiting.get(who)
        if waiting is None:
            self.note(who, "←", message)
        elif len(waiting) < self.outbox_events:
            waiting.append(message)
        else:
            self.act(who, self.connections[who].close(CloseCode.SLOW_CONSUMER))

    def act(self, who: str, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, Send):
                message = json.loads(encode_server_message(action.message))
                validator(f"server:{message['event']}").validate(message)
                self.tell(who, message)
            elif isinstance(action, Close):
                self.note(who, "✕", f"{action.code.value} {action.code.reason}")
            else:
                self.conclude(who, action)

    def conclude(self, who: str, action: VerifyToken) -> None:
        connection = self.connections[who]
        outcome = self.verify(action.token, renewal=connection.state is State.AUTHENTICATED)
        if isinstance(outcome, Session):
            self.begin(who, outcome, action.since)
        else:
            self.act(who, connection.reject_session(outcome))

    def begin(self, who: str, session: Session, since: str | None) -> None:
        """Accept a session at the present end of its user's stream, and replay what the device missed."""
        connection = self.connections[who]
        missed = None if since is None else self.missed(session.user, since)
        cursor = self.history.cursor(session.user)
        self.act(who, connection.accept_session(session, self.now, cursor, resumed=missed is not None))
        for entry in missed or ():
            if connection.wants(entry.event) is Verdict.DELIVER:
                self.tell(who, told(entry))
            self.act(who, connection.event_passed(entry.event))

    def missed(self, user: str, since: str) -> Sequence[Entry] | None:
        limits = ReplayLimits(max_events=self.outbox_events - 1)
        missed = self.history.since(user, since, limits, self.now)
        if missed is None or any(entry.event.name is EventName.USER_DELETE for entry in missed):
            return None
        return missed

    def verify(self, token: str, *, renewal: bool) -> Session | Rejection:
        if token == "forged":
            return Rejection(CloseCode.UNAUTHORIZED, "The token's signature does not match.")
        if token == "expired":
            return Rejection(CloseCode.UNAUTHORIZED, "The token has expired.")
        user, group, expiry, *issued = token.split("/")
        session = Session(user, group, int(expiry), int(*issued))
        if self.revocations.is_revoked(session, self.now):
            return Rejection(CloseCode.FORBIDDEN, "This session was revoked.")
        if not renewal and len(self.open_connections("user", user)) >= self.max_connections_per_user:
            most = self.max_connections_per_user
            return Rejection(CloseCode.TOO_MANY, f"A user may have at most {most} connections.")
        return session

    def open_connections(self, key: str, value: str | None) -> list[str]:
        return [
            who
            for who, connection in self.connections.items()
            if connection.state is State.AUTHENTICATED and getattr(connection.session, key) == value
        ]

    # --- what people do ---

    def open(self, who: str, how: str) -> None:
        kind, _, token = how.removeprefix("with ").partition(" ")
        headers = [(b"authorization", f"Bearer {token}".encode())] if kind == "header" else []
        bearer = [BEARER_SUBPROTOCOL + token] if kind == "subprotocol" else []
        answer = judge_handshake(HandshakeRules(), "/v1/sync", headers, [SUBPROTOCOL, *bearer])
        assert not isinstance(answer, Refuse)
        assert answer.subprotocol == SUBPROTOCOL
        if self.draining:
            self.note(who, "refused", "503 draining")
            return
        session = None if answer.token is None else self.verify(answer.token, renewal=False)
        if isinstance(session, Rejection):
            self.note(who, "refused", f"{REFUSED_STATUS[session.code]} {session.code.reason}")
            return
        self.connections[who] = Connection(self.limits, self.now)
        if session is not None:
            self.begin(who, session, since=None)

    def send(self, who: str, text: str, cursors: dict[str, str]) -> None:
        message = json.loads(text)
        if CURSOR_NAME.fullmatch(message.get("since", "")):
            message["since"] = cursors[message["since"]]
            text = json.dumps(message)
        described = validator(f"device:{message.get('event', 'subscribe')}")
        actions = self.connections[who].receive_text(text, self.now)
        refused = Close(CloseCode.BAD_MESSAGE) in actions
        assert described.is_valid(message) != refused
        self.act(who, actions)

    def post(self, request: str) -> None:
        method, path, body = request.split(" ", 2)
        assert method == "POST"
        try:
            answer = self.publish(body) if path == "/v1/events" else self.disconnect(body)
        except PublishError as error:
            refusal = {
                "statusCode": error.status,
                "identifier": error.identifier,
                "message": error.message,
                "context": error.context,
            }
            validator("http:error").validate(refusal)
            self.note("api", "←", (str(error.status), refusal))
        else:
            self.note("api", "←", ("202", answer))

    def publish(self, body: str) -> dict[str, int]:
        events = decode_publish_body(body.encode(), PublishLimits())
        validator("publish:request").validate(json.loads(body))
        new = [event for event in events if self.ids.is_new(event, self.now)]
        for event in new:
            self.route(event)
        duplicates = len(events) - len(new)
        answer = {"accepted": len(new)} | ({"duplicates": duplicates} if duplicates else {})
        validator("publish:answer").validate(answer)
        return answer

    def route(self, event: Event) -> None:
        entry = self.history.append(event, self.now)
        for who, connection in self.connections.items():
            if connection.wants(event) is Verdict.DELIVER:
                self.tell(who, told(entry))
        if event.name is EventName.USER_DELETE:
            self.revocations.revoke_user(event.user, self.now, until=self.now + DAY, now=self.now)
        for who, connection in self.connections.items():
            self.act(who, connection.event_passed(event))

    def disconnect(self, body: str) -> dict[str, int]:
        wanted = decode_disconnect_body(body.encode(), self.now, DAY)
        validator("disconnect:request").validate(json.loads(body))
        if wanted.user is not None:
            self.revocations.revoke_user(wanted.user, wanted.at, until=wanted.until, now=self.now)
            closed = self.open_connections("user", wanted.user)
        else:
            self.revocations.revoke_group(str(wanted.group), until=wanted.until, now=self.now)
            closed = self.open_connections("group", wanted.group)
        for who in closed:
            self.act(who, self.connections[who].close(CloseCode.FORBIDDEN))
        answer = {"closed": len(closed)}
        validator("disconnect:answer").validate(answer)
        return answer

    def drain(self) -> None:
        self.draining = True
        for who, connection in self.connections.items():
            self.act(who, connection.close(CloseCode.SERVER_SHUTDOWN))


def told(entry: Entry) -> dict[str, Any]:
    """What a device gets of an event."""
    message: dict[str, Any] = json.loads(encode_event(entry.event, entry.cursor))
    validator(f"event:{entry.event.name.value}").validate(message)
    return message


def steps(scene: Block, world: World) -> Iterator[Step]:
    """The lines of a scene, those that are continued made whole; settings go to the world."""
    for line in re.sub(r"\n +", " ", scene.text).splitlines():
        if line.startswith("given "):
            _, setting, value = line.split()
            world.given(setting, value)
            continue
        match = LINE.fullmatch(line)
        assert match is not None, line
        yield Step(float(match["at"]), match["who"], match["what"], match["rest"] or "")


def expected(step: Step) -> Seen:
    value: Any = step.rest
    if step.what == "←" and step.who == "api":
        status, _, body = step.rest.partition(" ")
        value = (status, json.loads(body))
    elif step.what == "←":
        value = json.loads(step.rest)
    return Seen(step.at, step.what, value)


def with_names(seen: Seen, written: Seen, cursors: dict[str, str]) -> Seen:
    """What was seen, in the terms of the line about it.

    A cursor that the line gives a name has that name from its first mention on; one that the line does not
    mention is left out. That there is one where there must be, the schemas have said before.
    """
    if not isinstance(seen.value, dict) or "cursor" not in seen.value or not isinstance(written.value, dict):
        return seen
    value = dict(seen.value)
    cursor = value.pop("cursor")
    name = written.value.get("cursor")
    if name is not None:
        assert CURSOR_NAME.fullmatch(name), f"{name} is not the name of a cursor"
        value["cursor"] = name if cursors.setdefault(name, cursor) == cursor else cursor
    return attrs.evolve(seen, value=value)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.label)
def test_sequence_happens_as_written(scene: Block) -> None:
    world = World()
    cursors: dict[str, str] = {}
    for step in steps(scene, world):
        world.run_until(step.at)
        if step.what == "opens":
            world.open(step.who, step.rest)
        elif step.what == "→" and step.who == "api":
            world.post(step.rest)
        elif step.what == "→":
            world.send(step.who, step.rest, cursors)
        elif step.what == "stops reading":
            world.waiting[step.who] = []
        elif step.what == "is lost":
            world.connections[step.who].connection_lost()
        elif step.what == "drains":
            world.drain()
        else:
            assert world.seen.get(step.who), f"{step.who} saw nothing by {step.at}"
            written = expected(step)
            assert with_names(world.seen[step.who].popleft(), written, cursors) == written
    # That a publisher was answered with 202 need not be said each time; anything else must be.
    answered = world.seen.pop("api", deque())
    assert [seen for seen in answered if seen.value[0] != "202"] == []  # type: ignore[index]
    assert {who: list(seen) for who, seen in world.seen.items() if seen} == {}


def test_scenes_have_names_of_their_own() -> None:
    labels = [scene.label for scene in SCENES]
    assert all(labels)
    assert len(set(labels)) == len(labels)

"""A stage for scenes that is made of the pure parts alone: no sockets, no tasks, and a clock that is told."""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field

from localful_ws.conform.given import values_of
from localful_ws.conform.matching import Answer, Seen
from localful_ws.conform.scenes import Scene
from localful_ws.conform.terms import Issuer, Terms
from localful_ws.engine import Entry
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
    Refuse,
    Rejection,
    Send,
    Session,
    State,
    Verdict,
    VerifyToken,
    decode_json,
    encode_event,
    encode_server_message,
    judge_handshake,
)
from localful_ws.publishing import PublishError, decode_disconnect_body, decode_publish_body
from localful_ws.revocations import Revocations, TooManyRevocationsError
from localful_ws.settings import Settings
from localful_ws.tokens import StaticKeyVerifier, TokenRejectedError, TokenRules
from tests.spec_document import validator
from tests.world import SECRET, STARTED, make_settings

ACTIONS = {
    *("opens", "sends", "sends-text", "sends-binary", "breaks", "stops-reading", "reads-again"),
    *("receives", "receives-some", "refused", "closed", "hears-nothing"),
    *("publishes", "disconnects", "happens"),
}
HAPPENINGS = {"drain", "keys-away", "keys-back", "engine-away", "engine-back", "events-missed"}
# What the node or its transport sees to.
ROWS = {"limits/max-message-bytes", "limits/max-connections"}
REFUSED_STATUS = {
    CloseCode.UNAUTHORIZED: 401,
    CloseCode.FORBIDDEN: 403,
    CloseCode.TOO_MANY: 429,
    CloseCode.TRY_AGAIN_LATER: 503,
}


def can_play(scene: Scene) -> bool:
    """Whether a scene is about the pure parts: neither frames nor HTTP nor the node's own affairs."""
    return scene.actions <= ACTIONS and scene.wants <= HAPPENINGS and ROWS.isdisjoint(scene.about)


@define(eq=False)
class CoreDevice:
    """A device's connection, and what it saw."""

    connection: Connection | None = None
    seen: deque[Seen] = field(factory=deque)
    waiting: list[str] | None = None
    closing: dict[str, Any] | None = None


@define(eq=False)
class CoreStage:
    """The core, the history, the ids, the revocations and the tokens, and everybody who talks to them."""

    settings: Settings
    verifier: StaticKeyVerifier = field(init=False)
    history: History = field(init=False)
    ids: RecentIds = field(init=False)
    revocations: Revocations = field(init=False)
    now: float = STARTED
    devices: dict[str, CoreDevice] = field(factory=dict)
    draining: bool = False
    keys: bool = True
    engine: bool = True
    early: float = 1e-6
    late: float = 1e-6
    strict: bool = True

    def __attrs_post_init__(self) -> None:
        settings = self.settings
        self.verifier = StaticKeyVerifier(SECRET, "HS256", TokenRules(), lambda: self.now)
        limits = HistoryLimits(settings.history_events, settings.history_seconds, settings.history_bytes)
        self.history = History(limits)
        self.ids = RecentIds(settings.idempotency_seconds, settings.idempotency_events)
        self.revocations = Revocations(settings.max_revocations)

    # --- what a scene asks of its stage ---

    async def wait_until(self, at: float) -> None:
        moment = STARTED + at
        while due := [
            (deadline, who)
            for who, device in self.devices.items()
            if device.connection is not None
            and (deadline := device.connection.next_deadline()) is not None
            and deadline <= moment
        ]:
            self.now, who = min(due)
            await self.do(who, self.connection(who).time_passed(self.now))
        self.now = max(self.now, moment)

    async def act(self, who: str, action: str, value: Any) -> str | None:
        match action:
            case "opens":
                return await self.open(who, value)
            case "sends":
                await self.send(who, json.dumps(value))
            case "sends-text":
                await self.send(who, value)
            case "sends-binary":
                await self.do(who, self.connection(who).receive_binary())
            case "breaks":
                self.connection(who).connection_lost()
            case "stops-reading":
                self.devices[who].waiting = []
            case "reads-again":
                self.read_again(self.devices[who])
        return None

    async def request(self, action: str, value: Any) -> Answer:
        body = json.dumps(value).encode()
        if self.draining:
            return self.refuse(503, "draining")
        try:
            answer = await (self.publish(body) if action == "publishes" else self.disconnect(body))
        except PublishError as error:
            return self.refuse(error.status, error.identifier, error.context, error.message)
        except TooManyRevocationsError:
            return self.refuse(503, "too-many-revocations")
        return answer

    async def happen(self, what: str) -> None:
        match what:
            case "drain":
                self.draining = True
                await self.close_all(CloseCode.SERVER_SHUTDOWN)
            case "keys-away" | "keys-back":
                self.keys = what == "keys-back"
            case "engine-away" | "engine-back":
                self.engine = what == "engine-back"
            case "events-missed":
                await self.close_all(CloseCode.MISSED_EVENTS)

    async def look(self, who: str, at: float) -> Seen | None:
        await self.wait_until(at)
        return self.unread(who)

    def unread(self, who: str) -> Seen | None:
        seen = self.devices[who].seen
        return seen[0] if seen else None

    def take(self, who: str) -> None:
        self.devices[who].seen.popleft()

    async def finish(self) -> dict[str, Seen]:
        return {who: device.seen[0] for who, device in self.devices.items() if device.seen}

    # --- devices ---

    def connection(self, who: str) -> Connection:
        connection = self.devices[who].connection
        assert connection is not None
        return connection

    def see(self, who: str, action: str, value: Any) -> None:
        self.devices[who].seen.append(Seen(self.now - STARTED, action, value))

    async def open(self, who: str, how: dict[str, Any]) -> str | None:
        device = self.devices.setdefault(who, CoreDevice())
        device.connection, device.waiting = None, None
        offered = list(how.get("offers", [SUBPROTOCOL]))
        headers = []
        if "subprotocol" in how:
            offered.append(BEARER_SUBPROTOCOL + how["subprotocol"])
        if "header" in how:
            headers.append((b"authorization", b"Bearer " + how["header"].encode()))
        if "authorization" in how:
            headers.append((b"authorization", how["authorization"].encode()))
        if "origin" in how:
            headers.append((b"origin", how["origin"].encode()))
        target = how.get("path", self.settings.path) + ("?" + how["query"] if "query" in how else "")
        answer = judge_handshake(self.settings.handshake_rules(), target, headers, offered)
        if isinstance(answer, Refuse):
            self.see_refusal(who, answer.status, answer.identifier)
            return None
        if self.draining:
            self.see_refusal(who, 503, "draining")
            return None
        session = None if answer.token is None else await self.verify(answer.token, renewal=False)
        if isinstance(session, Rejection):
            self.see_refusal(who, REFUSED_STATUS[session.code], session.code.reason)
            return None
        if answer.subprotocol != how.get("selects", SUBPROTOCOL):
            return f"It selected {answer.subprotocol}."
        device.connection = Connection(self.settings.limits(), self.now)
        if session is not None:
            await self.begin(who, session, since=None)
        return None

    def see_refusal(self, who: str, status: int, identifier: str) -> None:
        refused = self.refuse(status, identifier)
        self.see(who, "refused", {"status": refused.status, "body": refused.body})

    async def send(self, who: str, text: str) -> None:
        actions = self.connection(who).receive_text(text, self.now)
        codes = [action.code for action in actions if isinstance(action, Close)]
        if CloseCode.TOO_MANY not in codes:
            assert CloseCode.BAD_MESSAGE in codes or fits_a_schema(text), text[:200]
        await self.do(who, actions)

    def tell(self, who: str, text: str) -> bool:
        """Give a device a message, or let it wait; False if there is no more room for it."""
        device = self.devices[who]
        if device.waiting is None:
            self.see(who, "receives", json.loads(text))
            return True
        size = sum(map(len, device.waiting)) + len(text)
        if len(device.waiting) == self.settings.outbox_events or size > self.settings.outbox_bytes:
            return False
        device.waiting.append(text)
        return True

    def read_again(self, device: CoreDevice) -> None:
        waiting, device.waiting = device.waiting, None
        if device.closing is not None:  # what was waiting has been dropped
            device.seen.append(Seen(self.now - STARTED, "closed", device.closing))
            return
        for text in waiting or ():
            device.seen.append(Seen(self.now - STARTED, "receives", json.loads(text)))

    async def do(self, who: str, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, Send):
                text = encode_server_message(action.message)
                message = json.loads(text)
                validator(f"server:{message['event']}").validate(message)
                assert self.tell(who, text)
            elif isinstance(action, Close):
                self.end(who, action.code)
            else:
                await self.conclude(who, action)

    def end(self, who: str, code: CloseCode) -> None:
        device = self.devices[who]
        closed = {"code": code.value, "reason": code.reason}
        if device.waiting is None:
            self.see(who, "closed", closed)
        else:
            device.closing = closed

    async def conclude(self, who: str, action: VerifyToken) -> None:
        connection = self.connection(who)
        outcome = await self.verify(action.token, renewal=connection.state is State.AUTHENTICATED)
        if isinstance(outcome, Session):
            await self.begin(who, outcome, action.since)
        else:
            await self.do(who, connection.reject_session(outcome))

    async def begin(self, who: str, session: Session, since: str | None) -> None:
        """Accept a session at the present end of its user's stream, and replay what the device missed."""
        connection = self.connection(who)
        missed = None if since is None else self.missed(session.user, since)
        cursor = self.history.cursor(session.user)
        await self.do(who, connection.accept_session(session, self.now, cursor, resumed=missed is not None))
        for entry in missed or ():
            if connection.wants(entry.event) is Verdict.DELIVER:
                assert self.tell(who, told(entry))
            await self.do(who, connection.event_passed(entry.event))

    def missed(self, user: str, since: str) -> Sequence[Entry] | None:
        missed = self.history.since(user, since, self.settings.replay_limits(), self.now)
        if missed is None or any(entry.event.name is EventName.USER_DELETE for entry in missed):
            return None
        return missed

    async def verify(self, token: str, *, renewal: bool) -> Session | Rejection:
        if not self.keys:
            return Rejection(CloseCode.TRY_AGAIN_LATER, "There are no keys.")
        try:
            session = await self.verifier.verify(token)
        except TokenRejectedError as error:
            return Rejection(CloseCode.UNAUTHORIZED, error.message)
        if self.revocations.is_revoked(session, self.now):
            return Rejection(CloseCode.FORBIDDEN, "This session was revoked.")
        if not renewal:
            if len(self.open_devices("user", session.user)) >= self.settings.max_connections_per_user:
                return Rejection(CloseCode.TOO_MANY, "That is one connection too many.")
            if not self.engine:
                return Rejection(CloseCode.TRY_AGAIN_LATER, "The engine is away.")
        return session

    def open_devices(self, key: str, value: str | None) -> list[str]:
        return [
            who
            for who, device in self.devices.items()
            if device.connection is not None
            and device.connection.state is State.AUTHENTICATED
            and getattr(device.connection.session, key) == value
        ]

    async def close_all(self, code: CloseCode) -> None:
        for who, device in self.devices.items():
            if device.connection is not None:
                await self.do(who, device.connection.close(code))

    # --- the publisher ---

    def refuse(
        self, status: int, identifier: str, context: Mapping[str, Any] | None = None, message: str = "No."
    ) -> Answer:
        body = {
            "statusCode": status,
            "identifier": identifier,
            "message": message,
            "context": dict(context or {}),
        }
        validator("http:error").validate(body)
        return Answer(status, body)

    async def publish(self, body: bytes) -> Answer:
        events = decode_publish_body(body, self.settings.publish_limits())
        validator("publish:request").validate(json.loads(body))
        if not self.engine:
            return self.refuse(503, "engine-unavailable")
        new = [event for event in events if self.ids.is_new(event, self.now)]
        for event in new:
            await self.route(event)
        duplicates = len(events) - len(new)
        answer = {"accepted": len(new)} | ({"duplicates": duplicates} if duplicates else {})
        validator("publish:answer").validate(answer)
        return Answer(202, answer)

    async def route(self, event: Event) -> None:
        entry = self.history.append(event, self.now)
        connections = {
            who: each.connection for who, each in self.devices.items() if each.connection is not None
        }
        for who, connection in connections.items():
            if connection.wants(event) is Verdict.DELIVER and not self.tell(who, told(entry)):
                await self.do(who, connection.close(CloseCode.SLOW_CONSUMER))
        if event.name is EventName.USER_DELETE:
            until = self.now + self.settings.revocation_seconds
            self.revocations.revoke_user(event.user, self.now, until=until, now=self.now)
        for who, connection in connections.items():
            await self.do(who, connection.event_passed(event))

    async def disconnect(self, body: bytes) -> Answer:
        wanted = decode_disconnect_body(body, self.now, self.settings.revocation_seconds)
        validator("disconnect:request").validate(json.loads(body))
        if not self.engine:
            return self.refuse(503, "engine-unavailable")
        if wanted.user is not None:
            self.revocations.revoke_user(wanted.user, wanted.at, until=wanted.until, now=self.now)
            closed = self.open_devices("user", wanted.user)
        else:
            self.revocations.revoke_group(str(wanted.group), until=wanted.until, now=self.now)
            closed = self.open_devices("group", wanted.group)
        for who in closed:
            await self.do(who, self.connection(who).close(CloseCode.FORBIDDEN))
        answer = {"closed": len(closed)}
        validator("disconnect:answer").validate(answer)
        return Answer(202, answer)


def core_stage(scene: Scene) -> tuple[CoreStage, Terms]:
    """A stage for a scene, and what the words of the scene mean on it."""
    return CoreStage(make_settings(**values_of(scene.given))), Terms(Issuer(SECRET), int(STARTED))


def told(entry: Entry) -> str:
    """What a device gets of an event."""
    text = encode_event(entry.event, entry.cursor).decode()
    validator(f"event:{entry.event.name.value}").validate(json.loads(text))
    return text


def fits_a_schema(text: str) -> bool:
    """Whether a text is a message from a device, by the schemas."""
    try:
        message = decode_json(text)
    except ValueError:
        return False
    return any(validator(f"device:{name}").is_valid(message) for name in ("authenticate", "subscribe"))

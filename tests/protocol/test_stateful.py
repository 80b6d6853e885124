"""Connections in any order of anything, against a model that knows only the specification."""

import itertools
import json
from typing import Any

from attrs import define, field, frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from localful_ws.protocol import (
    Action,
    Close,
    CloseCode,
    Connection,
    Event,
    EventName,
    Limits,
    Rate,
    Rejection,
    Send,
    Session,
    State,
    Verdict,
    VerifyToken,
    encode_event,
    encode_server_message,
)

MOST_VAULTS = 10
MOST_FRAMES = 5
LIMITS = Limits(max_vaults=MOST_VAULTS, message_rate=Rate(10**6, 1.0), frame_rate=Rate(MOST_FRAMES, 1.0))
REJECTIONS = {
    "unauthorized": Rejection(CloseCode.UNAUTHORIZED, "It does not hold."),
    "forbidden": Rejection(CloseCode.FORBIDDEN, "Revoked."),
    "try-again-later": Rejection(CloseCode.TRY_AGAIN_LATER, "Not now."),
}

users = st.sampled_from(["alice", "bob"])
groups = st.sampled_from(["phone", "laptop"])
vault_ids = st.sampled_from([f"v{number}" for number in range(12)])
some_vaults = st.lists(vault_ids, max_size=3) | st.lists(vault_ids, max_size=20)
lifetimes = st.sampled_from([1.0, 30.0, 60.0, 100.0, 3600.0])
pauses = st.sampled_from([0.0, 0.5, 1.0, 2.0, 15.0, 39.0, 61.0, 3600.0])


@frozen
class Asked:
    """An ``authenticate`` that waits for its token's verification."""

    user: str
    group: str
    expires_at: float
    vaults: list[str] | None

    @property
    def token(self) -> str:
        return f"{self.user}/{self.group}/{self.expires_at}"


@define(eq=False)
class Device:
    """A connection, what was said on it, and what the specification says of it."""

    connection: Connection
    deadline: float | None
    said: list[dict[str, Any]] = field(factory=list)
    user: str | None = None
    group: str | None = None
    expires_at: float = 0.0
    vaults: list[str] = field(factory=list)
    asked: Asked | None = None
    closed: bool = False

    def is_open(self) -> bool:
        return self.user is not None and not self.closed

    def gets(self, event: Event) -> bool:
        of_content = event.name.value.startswith(("item-", "version-"))
        return (
            self.is_open()
            and self.user == event.user
            and self.group != event.group
            and (not of_content or event.vault in self.vaults)
        )

    def close(self) -> None:
        self.closed, self.deadline, self.vaults = True, None, []


def without_duplicates(vaults: list[str]) -> list[str]:
    return sorted(set(vaults), key=vaults.index)


class Devices(RuleBasedStateMachine):
    """Several devices of two users, and a publisher."""

    devices = Bundle("devices")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000.0
        self.everybody: list[Device] = []

    def do(self, device: Device, actions: tuple[Action, ...]) -> list[str]:
        """Do what a connection wants done, and name it."""
        done = []
        for action in actions:
            if isinstance(action, Send):
                message = json.loads(encode_server_message(action.message))
                device.said.append(message)
                done.append(message["event"] + (f" {message['code']}" if "code" in message else ""))
            elif isinstance(action, Close):
                device.said.append({"closed": action.code})
                done.append(f"closed {action.code.value}")
            else:
                done.append(f"verify {action.token}")
        return done

    # --- what devices do ---

    def connect(self) -> Device:
        device = Device(Connection(LIMITS, self.now), self.now + LIMITS.auth_timeout)
        self.everybody.append(device)
        return device

    @initialize(target=devices)
    def one_of_each_user(self) -> Any:
        """Begin where most is to be found: with devices that are authenticated."""
        several = [self.connect() for _ in range(3)]
        for device, user, group in zip(
            several, ["alice", "alice", "bob"], ["phone", "laptop", "phone"], strict=True
        ):
            self.opened_with_token(device, user, group, 3600.0)
        return multiple(*several)

    @rule(target=devices)
    def opens(self) -> Device:
        return self.connect()

    @rule(target=devices, user=users, group=groups, lifetime=lifetimes)
    def opens_with_token(self, user: str, group: str, lifetime: float) -> Device:
        device = self.connect()
        self.opened_with_token(device, user, group, lifetime)
        return device

    def opened_with_token(self, device: Device, user: str, group: str, lifetime: float) -> None:
        device.asked = Asked(user, group, self.now + lifetime, None)
        self.token_holds(device)

    @rule(device=devices, user=users, group=groups, lifetime=lifetimes, vaults=st.none() | some_vaults)
    def authenticates(
        self, device: Device, user: str, group: str, lifetime: float, vaults: list[str] | None
    ) -> None:
        if device.asked is not None:
            return
        asked = Asked(user, group, self.now + lifetime, vaults)
        message = {
            "event": "authenticate",
            "token": asked.token,
            **({} if vaults is None else {"vaults": vaults}),
        }
        done = self.do(device, device.connection.receive_text(json.dumps(message), self.now))
        if device.closed:
            assert done == []
        elif len(set(vaults or ())) > MOST_VAULTS:
            if device.is_open():
                assert done == ["error too-many-vaults"]
            else:
                assert done == ["error bad-message", "closed 4400"]
                device.close()
        else:
            assert done == [f"verify {asked.token}"]
            device.asked = asked
            if not device.is_open():
                device.deadline = None

    @rule(device=devices)
    def token_holds(self, device: Device) -> None:
        if device.asked is None:
            return
        asked, device.asked = device.asked, None
        session = Session(asked.user, asked.group, asked.expires_at)
        done = self.do(device, device.connection.accept_session(session, self.now, "c"))
        if device.closed:
            assert done == []
        elif device.is_open() and asked.user != device.user:
            assert done == ["error forbidden", "closed 4403"]
            device.close()
        else:
            assert done == ["authenticated"]
            device.user, device.group, device.expires_at = asked.user, asked.group, asked.expires_at
            if asked.vaults is not None:
                device.vaults = without_duplicates(asked.vaults)
            left = asked.expires_at - self.now
            device.deadline = asked.expires_at - 60 if left > 60 else self.now + left / 2

    @rule(device=devices, why=st.sampled_from(sorted(REJECTIONS)))
    def token_is_refused(self, device: Device, why: str) -> None:
        if device.asked is None:
            return
        device.asked = None
        done = self.do(device, device.connection.reject_session(REJECTIONS[why]))
        if device.closed:
            assert done == []
        elif device.is_open() and why != "forbidden":
            assert done == [f"error {why}"]
        else:
            assert done == [f"error {why}", f"closed {REJECTIONS[why].code.value}"]
            device.close()

    @rule(device=devices, vaults=some_vaults, key=st.sampled_from([{}, {"event": "subscribe"}]))
    def subscribes(self, device: Device, vaults: list[str], key: dict[str, str]) -> None:
        if device.asked is not None:
            return
        message = {"vaults": vaults, **key}
        done = self.do(device, device.connection.receive_text(json.dumps(message), self.now))
        if device.closed:
            assert done == []
        elif not device.is_open():
            assert done == ["error unauthorized", "closed 4401"]
            device.close()
        elif len(set(vaults)) > MOST_VAULTS:
            assert done == ["error too-many-vaults"]
        else:
            assert done == ["subscribed"]
            device.vaults = without_duplicates(vaults)

    @rule(device=devices, rubbish=st.sampled_from(["{", "{}", b"{}"]))
    def sends_rubbish(self, device: Device, rubbish: str | bytes) -> None:
        if device.asked is not None:
            return
        connection = device.connection
        if isinstance(rubbish, str):
            done = self.do(device, connection.receive_text(rubbish, self.now))
        else:
            done = self.do(device, connection.receive_binary())
        assert done == ([] if device.closed else ["error bad-message", "closed 4400"])
        device.close()

    @rule(device=devices)
    def floods(self, device: Device) -> None:
        done = [
            said
            for _ in range(MOST_FRAMES + 1)
            for said in self.do(device, device.connection.receive_frame(self.now))
        ]
        assert done == ([] if device.closed else ["error too-many", "closed 4429"])
        device.close()

    @rule(device=devices)
    def is_lost(self, device: Device) -> None:
        device.connection.connection_lost()
        device.said.append({"closed": None})
        device.close()

    # --- what others do ---

    @rule(device=devices, code=st.sampled_from([CloseCode.SERVER_SHUTDOWN, CloseCode.SLOW_CONSUMER]))
    def server_closes(self, device: Device, code: CloseCode) -> None:
        done = self.do(device, device.connection.close(code))
        assert done == ([] if device.closed else [f"closed {code.value}"])
        device.close()

    @rule(name=st.sampled_from(EventName), user=users, vault=vault_ids, group=st.none() | groups)
    def publishes(self, name: EventName, user: str, vault: str, group: str | None) -> None:
        event = Event(name, user, None if name.value.startswith("user-") else vault, group)
        for device in self.everybody:
            delivered = device.connection.wants(event) is Verdict.DELIVER
            assert delivered == device.gets(event)
            if delivered:
                device.said.append({**json.loads(encode_event(event, "c")), "user": user, "group": group})
        for device in self.everybody:
            done = self.do(device, device.connection.event_passed(event))
            if name is EventName.USER_DELETE and device.is_open() and device.user == user:
                assert done == ["closed 4403"]
                device.close()
            else:
                assert done == []
            if name is EventName.VAULT_DELETE and device.user == user and vault in device.vaults:
                device.vaults.remove(vault)

    @rule(pause=pauses)
    def time_passes(self, pause: float) -> None:
        self.now += pause
        for device in self.everybody:
            done = self.do(device, device.connection.time_passed(self.now))
            if device.deadline is None or self.now < device.deadline:
                assert done == []
            elif not device.is_open():
                assert done == ["closed 4408"]
                device.close()
            elif self.now >= device.expires_at:
                assert done == ["closed 4410"]
                device.close()
            else:
                assert done == ["reauthenticate"]
                device.deadline = device.expires_at

    # --- what always holds ---

    @invariant()
    def agrees_with_the_model(self) -> None:
        for device in self.everybody:
            connection = device.connection
            assert connection.subscription == tuple(device.vaults)
            assert connection.next_deadline() == device.deadline
            asked = None if device.closed else device.asked
            assert connection.verifying == (None if asked is None else VerifyToken(asked.token))
            assert (connection.state is State.CLOSED) == device.closed
            assert (connection.state is State.AUTHENTICATED) == device.is_open()

    def teardown(self) -> None:
        for device in self.everybody:
            check_what_was_said(device.said)


def check_what_was_said(said: list[dict[str, Any]]) -> None:
    """What a device may rely on, judged only by what it was told and by the events' own users and groups."""
    told: dict[str, Any] = {}
    for message in said:
        assert "closed" not in told or message == {"closed": None}, "nothing after the close"
        if message.get("event") in ("authenticated", "subscribed") or "closed" in message:
            told |= message
        elif "data" in message:
            assert "expiresAt" in told, "no event before authentication"
            assert message["user"] == told["user"], "no event of another user"
            assert message["group"] != told["group"], "no echo"
            if message["event"].startswith(("item-", "version-")):
                assert message["vault"] in told["vaults"], "no event of a vault that is not subscribed to"
            if message["event"] == "vault-delete":
                told["vaults"] = [vault for vault in told["vaults"] if vault != message["vault"]]


Devices.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
test_devices = Devices.TestCase


ALICES = "vault-of-alice"
BOB = Session("bob", "laptop", 1000.0)
BOB_DOES = {
    "subscribe": {"event": "subscribe", "vaults": [ALICES]},
    "renew": {"event": "authenticate", "token": "good"},
    "renew badly": {"event": "authenticate", "token": "bad", "vaults": []},
}
ALICE_HAS = [
    Event(EventName.ITEM_CREATE, "alice", ALICES),
    Event(EventName.VERSION_DELETE, "alice", ALICES, "laptop"),
    Event(EventName.VAULT_DELETE, "alice", ALICES),
    Event(EventName.USER_DELETE, "alice"),
]


def test_another_users_vault_yields_nothing_in_any_order() -> None:
    steps: list[str | Event] = [*BOB_DOES, *ALICE_HAS]
    for order in itertools.permutations(steps):
        connection = Connection(LIMITS, 0.0)
        connection.accept_session(BOB, 0.0, "c")
        for step in order:
            if isinstance(step, Event):
                assert connection.wants(step) is Verdict.OTHER_USER
                assert connection.event_passed(step) == ()
                continue
            [action] = connection.receive_text(json.dumps(BOB_DOES[step]), 0.0)
            if action == VerifyToken("good"):
                connection.accept_session(BOB, 0.0, "c")
            elif action == VerifyToken("bad"):
                connection.reject_session(REJECTIONS["unauthorized"])
        assert (connection.state, connection.subscription) == (State.AUTHENTICATED, (ALICES,))

"""One connection of a device: what it says, and whether what it is told is right."""

import json
from collections import deque
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field

from .frames import BINARY, CLOSE, PING, PONG, TEXT, ServerBytes, frame, message
from .judging import judge_close, judge_refusal, judge_silent_end, resumes
from .network import Link
from .nodes import SimulatedNode
from .tokens import Token

if TYPE_CHECKING:
    from .device import Device

AUTH_TIMEOUT = 3.0
ROUNDING = 1e-6


@define
class Asked:
    """A message that waits for its answer."""

    event: str
    id: str
    at: float
    vaults: tuple[str, ...] | None = None
    token: Token | None = None
    since: str | None = None


@define(eq=False)
class Talk:
    """A connection, from the device's side.

    Attributes:
        device: Whose it is.
        node: The node.
        link: The connection.
        beginning: How it begins; one of the keys of `Plan.beginnings`.
        token: The token that was sent last and holds.
        done: What the device did that may have ended it.
        slow: Whether the device did not always read.
        authenticated: Whether it was told so.
        told_close: The code it was closed with.
        asked_in_time: When its ``authenticate`` reaches the node.
        over: Whether nothing more will come.
    """

    device: "Device"
    node: SimulatedNode
    link: Link
    beginning: str
    began: float
    token: Token | None = None
    done: set[str] = field(factory=set)
    slow: bool = False
    authenticated: bool = False
    told_close: int | None = None
    auth_sent: bool = False
    auth_arrives: float | None = None
    first_is_bad: bool = False
    over: bool = False
    upgraded: bool = False
    last_error: str | None = None
    asking: Token | None = None
    asked: deque[Asked] = field(factory=deque)
    pings: deque[bytes] = field(factory=deque)
    _bytes: ServerBytes = field(factory=ServerBytes)
    _count: int = 0

    # --- what the device says ---

    def say(self, content: dict[str, Any]) -> float:
        """Send a message; returns when it reaches the node."""
        return self.send(message(content, self.device.mask()))

    def send(self, data: bytes) -> float:
        """Send bytes; returns when they reach the node."""
        self.link.send(data)
        flying = self.link.up.flying
        return flying[-1][0] if flying else trio.current_time()

    def authenticate(self, token: Token, vaults: tuple[str, ...] | None, since: str | None) -> None:
        """Send ``authenticate``: the first or a renewal."""
        asked = Asked("authenticate", self._next_id(), trio.current_time(), vaults, token, since)
        self.asked.append(asked)
        content: dict[str, Any] = {"event": "authenticate", "token": token.text, "id": asked.id}
        if vaults is not None:
            content["vaults"] = vaults
        if since is not None:
            content["since"] = since
        if len(set(vaults or ())) > self.node.settings.max_vaults:
            self.done.add("many-vaults")
        arrives = self.say(content)
        if not self.auth_sent:
            self.auth_sent = True
            self.auth_arrives = arrives

    def subscribe(self, vaults: tuple[str, ...], *, bare: bool = False) -> None:
        """Send ``subscribe``."""
        asked = Asked("subscribe", self._next_id(), trio.current_time(), vaults)
        self.asked.append(asked)
        content: dict[str, Any] = {"vaults": vaults, "id": asked.id}
        self.say(content if bare else {"event": "subscribe"} | content)

    def ping(self) -> None:
        """Send a ping."""
        payload = b"%d" % self._count
        self._count += 1
        self.pings.append(payload)
        self.send(frame(PING, payload))

    def close(self) -> None:
        """Begin the closing handshake."""
        self.done.add("close")
        self.send(frame(CLOSE, (1000).to_bytes(2) + b"normal"))

    def _next_id(self) -> str:
        self._count += 1
        return f"m{self._count}"

    # --- what it is told ---

    def heard(self, data: bytes, written: float) -> None:
        """See `Peer.heard`."""
        if self.over:
            return
        for opcode, payload in self._bytes.feed(data):
            self._hear_frame(opcode, payload, written)
        if not self.upgraded and self._bytes.status == 101:
            self.upgraded = True
            self.device.upgraded(self)

    def _hear_frame(self, opcode: int, payload: bytes, written: float) -> None:
        if self.told_close is not None:
            self._complain(f"a frame came after the close with {self.told_close}")
        elif self.over:
            return
        elif opcode == TEXT:
            self._hear_message(json.loads(payload), written)
        elif opcode == PING:
            self.send(frame(PONG, payload))
        elif opcode == PONG:
            if not self.pings or self.pings.popleft() != payload:
                self._complain(f"a pong came for no ping: {payload!r}")
        elif opcode == CLOSE:
            self._hear_close(payload, written)
        else:
            self._complain(f"a frame of kind {opcode} came")

    def _hear_message(self, content: dict[str, Any], written: float) -> None:
        self.device.world.log(self.device.name, content)
        match content["event"]:
            case "authenticated":
                self._hear_authenticated(content, written)
            case "subscribed":
                asked = self._answer(content, "subscribe")
                if asked is not None and asked.vaults is not None:
                    if content["vaults"] != list(dict.fromkeys(asked.vaults)):
                        self._complain(f"subscribed to {content['vaults']} instead of {asked.vaults}")
                    self.device.follower.subscribed(content["vaults"], trio.current_time())
                    self.device.vaults = tuple(content["vaults"])
            case "reauthenticate":
                if not self.authenticated:
                    self._complain("reauthenticate before authenticated")
                self.device.asked_to_renew(self)
            case "error":
                self._hear_error(content)
            case _:
                self._hear_event(content, written)

    def _hear_event(self, content: dict[str, Any], written: float) -> None:
        if not self.authenticated:
            self._complain(f"{content} came before authenticated")
        self.device.world.checks.event_written(self, written)
        fact = self.device.follower.event(content)
        if fact is not None and fact.size > 0:
            self.device.world.delivered += 1

    def _hear_authenticated(self, content: dict[str, Any], written: float) -> None:
        device, now = self.device, trio.current_time()
        if "id" in content or self.authenticated:
            asked = self._answer(content, "authenticate")
            if asked is None or asked.token is None:
                return
        elif self.beginning == "header" and self.token is not None:
            asked = Asked("authenticate", "", self.began, (), self.token)
        else:
            self._complain(f"{content} came without being asked for")
            return
        token = asked.token
        assert token is not None
        if (content["user"], content["group"]) != (token.user, token.group) or not token.good:
            self._complain(f"{content} for {token}")
        device.world.checks.session_begun(self, token, written)
        if self.authenticated:
            if "resumed" in content:
                self._complain("a renewal resumed")
            device.follower.renewed(content["cursor"], token.group, content["vaults"], asked.vaults, now)
        else:
            self._begin(content, asked, written)
        device.vaults = tuple(content["vaults"])
        self.token = token
        self.authenticated = True
        device.authenticated(self)

    def _begin(self, content: dict[str, Any], asked: Asked, written: float) -> None:
        device = self.device
        deadline = (self.link.opened or 0.0) + AUTH_TIMEOUT
        late = self.auth_arrives is not None and self.auth_arrives > deadline + ROUNDING
        if late and not device.world.jumped_since(self.began):
            self._complain("authenticated after 3 s")
        resumed = content.get("resumed")
        if (resumed is None) != (asked.since is None):
            self._complain(f"resumed is {resumed}, and since was {asked.since}")
        if list(content["vaults"]) != list(dict.fromkeys(asked.vaults or ())):
            self._complain(f"{content['vaults']} instead of {asked.vaults}")
        expected = None
        if asked.since is not None:
            expected = resumes(self, asked, content["cursor"], written)
            if expected is not None and expected != resumed:
                self._complain(f"resumed is {resumed} for {asked.since}, at {content['cursor']}")
        device.world.resumes[resumed] += 1
        device.follower.begin(
            content["cursor"],
            content["group"],
            content["vaults"],
            asked.since if resumed else None,
            trio.current_time(),
        )

    def _hear_error(self, content: dict[str, Any]) -> None:
        self.last_error = content["code"]
        if "id" in content:
            if not self.asked or self.asked[0].id != content["id"]:
                self._complain(f"{content} answers nothing")
            else:
                self.asking = self.asked.popleft().token
        self.device.world.errors[content["code"]] += 1

    def _answer(self, content: dict[str, Any], event: str) -> Asked | None:
        if not self.asked or (self.asked[0].id, self.asked[0].event) != (content.get("id"), event):
            self._complain(f"{content} answers nothing: {self.asked[0] if self.asked else None}")
            return None
        return self.asked.popleft()

    def _hear_close(self, payload: bytes, written: float) -> None:
        code = int.from_bytes(payload[:2])
        self.told_close = code
        self.device.world.log(self.device.name, f"closed {code} {payload[2:].decode()}")
        self.device.world.closes[code] += 1
        complaint = judge_close(self, code, written)
        if complaint is not None:
            self._complain(complaint)
        if "close" not in self.done:
            self.send(frame(CLOSE, payload[:2]))
        self._end()

    def hung_up(self, *, reset: bool) -> None:
        """See `Peer.hung_up`."""
        if self.over:
            return
        if self._bytes.response is not None and self._bytes.status != 101:
            judge_refusal(self, self._bytes.status, self._bytes.body)
        elif self.told_close is None:
            self.device.world.log(self.device.name, "reset" if reset else "hung up")
            self.device.world.closes["reset" if reset else "hung up"] += 1
            complaint = judge_silent_end(self, reset=reset)
            if complaint is not None:
                self._complain(complaint)
        self._end()

    def give_up(self, why: str) -> None:
        """The device ends it."""
        if not self.over:
            self.device.world.log(self.device.name, why)
            self.done.add(why)
            self.link.break_off()
            self._end()

    def _end(self) -> None:
        if not self.over:
            self.over = True
            if self.told_close is not None or not self.upgraded:
                # The device's kernel closes once the node has, or has been answered.
                self.device.world.agenda.at(trio.current_time() + 0.5, self.link.send_eof)
                self.link.go_on_reading()
            self.device.follower.ended()
            self.device.ended(self)

    def _complain(self, complaint: str) -> None:
        self.device.complain(complaint)


def split(data: bytes) -> bytes:
    """The first half of something."""
    return data[: len(data) // 2]


def rubbish(kind: str) -> bytes:
    """What a device should not send."""
    return {
        "garbage": frame(TEXT, b"hello"),
        "binary": frame(BINARY, b"\0\1\2"),
        "unmasked": b"\x81\x02hi",
        "too-big": frame(TEXT, b'{"event":"subscribe","vaults":["' + b"v" * 170_000 + b'"]}'),
    }[kind]

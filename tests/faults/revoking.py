"""Logins that are ended in the middle of it all, and whether their tokens are let in afterwards."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from random import Random

import httpx
import trio
from attrs import Factory, define, frozen

from localful_ws.tokens import mint_token

from .devices import Address, Authenticated, Device, Ended, Received, Record, Refused, Renewed
from .nodes import SECRET, Node, make_token
from .publisher import make_http

_FIRST = 0.8
_PAUSE = (0.7, 1.5)
_RETRY = 0.2
_ENDED_WITHIN = 30.0
# The tokens are older than the second of the disconnect, whichever that is.
_AGE = 5.0
_KNOCKS_WITHIN = 10.0
_ANSWERED_WITHIN = 5.0
_TRY_AGAIN = frozenset({"503", "try-again-later"})


@frozen
class Entry:
    """A time that a device was let in.

    Attributes:
        node: By which node.
        began: When the attempt began, on Trio's clock.
    """

    node: str
    began: float


@define(eq=False)
class Login(Device):
    """A device that knocks again and again with one token; see `Device`.

    Attributes:
        asked: When its login was first asked to be ended; infinite before.
        ended: When that was answered with 202; infinite before.
        entries: When it was let in.
        closed: When its connection ended last.
    """

    asked: float = math.inf
    ended: float = math.inf
    entries: list[Entry] = Factory(list)
    closed: float = math.nan
    _began: float = math.nan

    async def connect(self, node: str) -> None:
        """See `Device`."""
        self._began = trio.current_time()
        await super().connect(node)
        # It may take a while until it knocks again.
        await trio.sleep(self.random.uniform(0.0, 0.3))

    def note(self, record: Record) -> None:
        """See `Device`."""
        if isinstance(record, Authenticated):
            self.entries.append(Entry(record.node, self._began))
        elif isinstance(record, Ended):
            self.closed = trio.current_time()
        super().note(record)

    @property
    def inside(self) -> bool:
        """Whether it has a connection that was let in."""
        return bool(self.log) and isinstance(self.log[-1], Authenticated | Received | Renewed)


def make_logins(seed: int, seconds: float, users: Sequence[str], nodes: Mapping[str, Node]) -> list[Login]:
    """The logins that a run ends, one after another: each has a token group of its own, and one old token."""
    random = Random(f"{seed} logins")
    addresses: dict[str, Address] = {name: (node.host, node.port) for name, node in nodes.items()}
    logins: list[Login] = []
    at = _FIRST
    while at < seconds:
        number = len(logins)
        logins.append(
            Login(
                number,
                random.choice(users),
                f"login{number}",
                (),
                addresses,
                _OneToken(),
                Random(f"{seed} login {number}"),
            )
        )
        at += random.uniform(*_PAUSE)
    return logins


class _OneToken:
    """Gives the same token each time."""

    def __init__(self) -> None:
        self._token: str | None = None

    def __call__(self, user: str, group: str) -> str:
        """See `Device.get_token`."""
        if self._token is None:
            self._token = mint_token(SECRET.encode(), user, group, 3600, time.time() - _AGE)
        return self._token


@define(eq=False)
class Revoker:
    """Ends one login after another.

    Attributes:
        logins: The logins.
        nodes: The nodes.
        random: Chooses nodes and pauses.
        complaints: Answers that no trouble explains.
    """

    logins: Sequence[Login]
    nodes: Mapping[str, Node]
    random: Random
    complaints: list[str] = Factory(list)

    async def run(self) -> None:
        """End them all, each asked for again until the answer is 202."""
        async with make_http() as http, trio.open_nursery() as nursery:
            began = trio.current_time()
            at = _FIRST
            for login in self.logins:
                await trio.sleep_until(began + at)
                nursery.start_soon(self._end, http, login)
                at += self.random.uniform(*_PAUSE)

    async def _end(self, http: httpx.AsyncClient, login: Login) -> None:
        body: dict[str, object] = {"user": login.user, "group": login.group, "issuedBefore": time.time()}
        if self.random.random() < 0.3:
            del body["user"]
        login.asked = trio.current_time()
        while login.ended == math.inf and trio.current_time() < login.asked + _ENDED_WITHIN:
            node = self.nodes[self.random.choice(sorted(self.nodes))]
            try:
                answer = await http.post(f"{node.internal_url}/v1/disconnect", json=body)
            except httpx.TransportError:
                pass
            else:
                if answer.status_code == 202:
                    login.ended = trio.current_time()
                elif answer.status_code != 503:
                    self.complaints.append(f"{answer.status_code} {answer.text} for {json.dumps(body)}")
                    return
            await trio.sleep(_RETRY)


async def knock(address: Address, node: str, user: str, group: str, token: str) -> str:
    """Try a token at a node: "authenticated", or how it was refused."""
    while_there_is_trouble = trio.current_time() + _KNOCKS_WITHIN
    while True:
        device = Device(-1, user, group, (), {node: address}, lambda *_: token, Random(0))
        with trio.move_on_after(_ANSWERED_WITHIN):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when, device.authenticated, nursery.cancel_scope)
                await device.connect(node)
                nursery.cancel_scope.cancel()
        if device.authenticated.is_set():
            return "authenticated"
        refusals = [record.code for record in device.log if isinstance(record, Refused)]
        if refusals and refusals[0] not in _TRY_AGAIN:
            return refusals[0]
        if trio.current_time() > while_there_is_trouble:
            return refusals[0] if refusals else "no answer"
        await trio.sleep(_RETRY)


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def try_all(logins: Sequence[Login], nodes: Mapping[str, Node]) -> list[str]:
    """Try every login's old token, and a new one, at every node; complaints come back."""
    complaints: list[str] = []

    async def try_one(login: Login, name: str, age: str, token: str, wanted: str) -> None:
        address = (nodes[name].host, nodes[name].port)
        came = await knock(address, name, login.user, login.group, token)
        if came != wanted:
            complaints.append(
                f"in the end node {name} met the {age} token of {login.group} with {came}, not {wanted}"
            )

    async with trio.open_nursery() as nursery:
        for login in logins:
            old, new = login.get_token(login.user, login.group), make_token(login.user, login.group)
            for name in nodes:
                nursery.start_soon(try_one, login, name, "old", old, "forbidden")
                nursery.start_soon(try_one, login, name, "new", new, "authenticated")
    return sorted(complaints)


def check_login(login: Login) -> list[str]:
    """Whether a login's token was let in after its end was answered, or its connection outlived it."""
    what = f"the token of {login.group} ({login.user})"
    if login.ended == math.inf:
        return [f"{what} was never answered to be ended"]
    if not login.entries:
        return [f"{what} was never let in; nothing was tried"]
    complaints = [
        f"node {entry.node} let in {what} {entry.began - login.ended:.2f} s after its end was answered"
        for entry in login.entries
        if entry.began > login.ended
    ]
    if login.inside:
        complaints.append(f"{what} still had its connection when all was over")
    complaints += [
        f"{what} was refused with {record.code}"
        for record in login.log
        if isinstance(record, Refused) and record.code not in (*_TRY_AGAIN, "forbidden")
    ]
    if login.asked == math.inf or any(
        isinstance(record, Refused) and record.code == "forbidden" and at < login.asked
        for record, at in zip(login.log, login.times, strict=True)
    ):
        complaints.append(f"{what} was forbidden before anybody asked for it")
    return complaints

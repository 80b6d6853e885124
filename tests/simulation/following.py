"""Follows what one device is told through its user's stream, and says what is wrong with it.

Which subscription held when an event was decided is not always to be known from outside: `subscribed` comes
in its place among what is told, but what is not told has no place. So all that it can have been is kept, and
what is told is wrong if it goes with none of that.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from localful_ws.protocol import EventName

from .truth import Fact, Line, Place, Truth, number_in, read_place

Vaults = frozenset[str]
_Possible = set[tuple[int, Vaults]]


@frozen
class Told:
    """A subscription that was confirmed.

    Attributes:
        vaults: The vaults.
        at: When the device was told; all that is accepted later goes by it.
    """

    vaults: Vaults
    at: float


class Follower:
    """Holds a device to the truth.

    Args:
        user: The device's user.
        truth: What was accepted.
        complain: Called with what is wrong.

    Attributes:
        group: The token group of the session in force.
        cursor: What the device would resume from.
        open: Whether it is authenticated on an open connection.
    """

    def __init__(self, user: str, truth: Truth, complain: Callable[[str], None]) -> None:
        self.user = user
        self.group = ""
        self.cursor: str | None = None
        self.open = False
        self.events = 0
        self._truth = truth
        self._complain = complain
        self._epoch = ""
        self._line = Line()
        self._passed = 0
        self._told: list[Told] = []
        self._possible: _Possible = set()
        self._over = False
        self._debts: list[tuple[str, Fact]] = []

    # --- what comes ---

    def begin(self, cursor: str, group: str, vaults: Sequence[str], since: str | None, now: float) -> None:
        """The first ``authenticated`` of a connection; with ``since`` if it resumes."""
        self.open = True
        self.group = group
        self._over = False
        epoch, place = read_place(cursor)
        if since is None:
            self.cursor = cursor
            self._debts.clear()
            self._go_to(epoch, place)
        else:
            since_epoch, since_place = read_place(since)
            if since_epoch != epoch:
                self._complain(f"resumed in {cursor} from {since}, which is of another stream")
            if place < since_place:
                self._complain(f"resumed at {cursor}, which is before {since}")
            self._go_to(since_epoch, since_place)
        self._hold(vaults, now)

    def renewed(
        self, cursor: str, group: str, vaults: Sequence[str], asked: Sequence[str] | None, now: float
    ) -> None:
        """The ``authenticated`` of a renewal: all up to its cursor was told, and nothing after it."""
        epoch, place = read_place(cursor)
        if epoch != self._epoch:
            self._complain(f"renewed in {cursor}, and the stream is {self._epoch}")
            return
        there = self._line.passed(place)
        if there < self._passed:
            self._complain(f"renewed at {cursor}, which is before what was told")
            return
        self._pass(there, "a renewal")
        self._let_confirmations_come(now)
        possible = self._now_possible()
        given = frozenset(vaults)
        if asked is not None and given != frozenset(asked):
            self._complain(f"renewed with {sorted(given)} and asked for {sorted(asked)}")
        if asked is None and given not in possible:
            self._complain(f"renewed with {sorted(given)}, which is not what it subscribed to: {possible}")
        self.group = group
        self.cursor = cursor
        self._hold(vaults, now)

    def subscribed(self, vaults: Sequence[str], now: float) -> None:
        """A subscription was confirmed."""
        self._told.append(Told(frozenset(vaults), now))

    def event(self, message: dict[str, Any]) -> Fact | None:
        """An event came."""
        number = number_in(message["data"])
        name = f"{message['event']} {number}"
        if not self.open:
            self._complain(f"{name} came before authenticated")
            return None
        user = self._truth.users.get(number)
        if user != self.user:
            self._complain(f"{name} is of {user}")
            return None
        epoch, place = read_place(message["cursor"])
        if epoch != self._epoch:
            self._complain(f"{name} at {message['cursor']} is of another stream than {self._epoch}")
            return None
        index = self._line.passed(place) - 1
        fact = self._line.facts[index] if index >= 0 else None
        if fact is None or (fact.place, fact.number) != (place, number):
            self._complain(f"{name} came as {message['cursor']}, and there is {fact}")
            return None
        if (fact.name.value, fact.vault) != (message["event"], message.get("vault")):
            self._complain(f"{message} was accepted as {fact}")
        self._judge(name, fact, index)
        self.cursor = message["cursor"]
        self.events += 1
        return fact

    def ended(self) -> None:
        """The connection ended."""
        self.open = False

    def finish(self) -> None:
        """Nothing more will come."""
        if self.open:
            self._pass(len(self._line.facts), "the end")

    def go_on(self) -> None:
        """It comes back, and is to be told what follows; if its user was deleted, somebody else's user."""
        self.open = True
        self._over = False

    def skipped(self) -> list[tuple[str, Fact]]:
        """What Redis had lost when it was passed, with its epoch: the device was not told of it.

        Empty once the device was told that it does not resume.
        """
        return self._debts

    @property
    def epoch(self) -> str:
        """The epoch of the stream that it follows."""
        return self._epoch

    def missing(self) -> int:
        """How many are in the stream that it has not passed."""
        return len(self._line.facts) - self._passed

    # --- where it is ---

    def _judge(self, name: str, fact: Fact, index: int) -> None:
        if self._over:
            self._complain(f"{name} came after user-delete")
        if index < self._passed:
            self._complain(f"{name} came again, or out of order")
            return
        self._pass(index, name)
        self._let_confirmations_come(fact.at)
        # What is told comes after all that was confirmed before it.
        vaults = self._now_possible()
        told = {some for some in vaults if fact.is_for(self.group, some)}
        if not told:
            if fact.group == self.group:
                self._complain(f"{name} is an echo")
            else:
                self._complain(
                    f"{name} is of {fact.vault}, and the subscription is {sorted(map(sorted, vaults))}"
                )
            told = vaults
        self._possible = {(0, _after(fact, some)) for some in told}
        self._told = self._told[-1:]
        self._over = fact.name is EventName.USER_DELETE
        self._passed = index + 1

    def _pass(self, index: int, before: str) -> None:
        """Pass facts that were not told."""
        for fact in self._line.facts[self._passed : index]:
            self._let_confirmations_come(fact.at)
            left = {
                (k, _after(fact, some)) for k, some in self._possible if not fact.is_for(self.group, some)
            }
            if fact.place in self._line.gone:
                # The node has passed it before it was lost, or never will.
                if not left:
                    self._debts.append((self._epoch, fact))
                self._possible |= left
                continue
            if not left:
                self._complain(f"{fact.name.value} {fact.number} was not told before {before}: {fact}")
                left = {(k, _after(fact, some)) for k, some in self._possible}
            self._possible = left
            if fact.name is EventName.USER_DELETE:
                self._over = True
        self._passed = max(self._passed, index)

    def _let_confirmations_come(self, at: float) -> None:
        """Of what was confirmed, all that the device had been told when this was accepted is in force."""
        told = self._told
        last = len(told) - 1
        reached = set(self._possible)
        for k in range(min((k for k, _ in self._possible), default=0) + 1, last + 1):
            reached.add((k, told[k].vaults))
        surely = max((k for k in range(last + 1) if told[k].at < at), default=0)
        self._possible = {(k, some) for k, some in reached if k >= surely}

    def _now_possible(self) -> set[Vaults]:
        last = len(self._told) - 1
        possible = {some for k, some in self._possible if k == last}
        return possible or {self._told[last].vaults}

    def _go_to(self, epoch: str, place: Place) -> None:
        self._epoch = epoch
        self._line = self._truth.line(self.user, epoch)
        self._passed = self._line.passed(place)

    def _hold(self, vaults: Sequence[str], now: float) -> None:
        self._told = [Told(frozenset(vaults), now)]
        self._possible = {(0, frozenset(vaults))}


def _after(fact: Fact, vaults: Vaults) -> Vaults:
    if fact.name is EventName.VAULT_DELETE and fact.vault in vaults:
        return vaults - {fact.vault}
    return vaults

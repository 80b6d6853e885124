"""A scripted device: connects, authenticates one way or another, does things, leaves, and comes back.

It has no task: it is called when something has come for it, or when it is time to do something.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import trio

from .following import Follower
from .frames import BINARY, TEXT, frame, handshake, message
from .talk import Talk, rubbish
from .tokens import Token, bad_token, issue

if TYPE_CHECKING:
    from .world import World

_MADE_UP = ("nonsense", "aaaaaaaaaaaa.5", "0123456789abcdef.1700000000000-0", "x.y.z-1")


class Device:
    """One device.

    Args:
        world: Where it lives.
        number: Its number.
        user: Its user.
        group: Its token group.
        random: What it draws from.

    Attributes:
        vaults: Its subscription, as it was confirmed last.
        follower: Holds what it is told against the truth.
        talk: Its connection, if it has one.
        calm: Whether it does nothing out of the ordinary any more.
    """

    def __init__(self, world: "World", number: int, user: str, group: str, random: Random) -> None:
        self.world = world
        self.name = f"device {number} of {user}"
        self.user = user
        self.group = group
        self.random = random
        self.vaults: tuple[str, ...] = ()
        self.follower = Follower(user, world.truth, self.complain)
        self.talk: Talk | None = None
        self.calm = False
        self.gone = False
        self._old_cursors: list[str] = []
        self._token: Token | None = None

    def complain(self, complaint: str) -> None:
        """Say that something is wrong."""
        self.world.complain(f"{self.name}: {complaint}")

    def mask(self) -> bytes:
        """A mask for a frame."""
        return b"\0\0\0\0" if self.random.random() < 0.7 else self.random.randbytes(4)

    # --- coming ---

    def connect(self) -> None:
        """Connect, if it is not connected."""
        if self.talk is not None or self.gone:
            return
        node = self.world.pick_node(self.random)
        if node is None:
            self._later(self.random.uniform(0.2, 1.0), self.connect)
            return
        beginnings = self.world.plan.beginnings
        beginning = "prompt"
        if not self.calm:
            (beginning,) = self.random.choices(list(beginnings), list(beginnings.values()))
        link = self.world.make_link(self.random)
        talk = Talk(self, node, link, beginning, trio.current_time())
        link.peer = talk
        self.talk = talk
        self.world.log(self.name, f"connects to {node.name}, {beginning}")
        node.plug_in(link)
        headers = ""
        if beginning == "header":
            talk.token = self._issue()
            if self.random.random() < 0.5:
                headers = f"Authorization: Bearer {talk.token.text}\r\n"
            else:
                headers = f"Sec-WebSocket-Protocol: localful.v1, localful.bearer.{talk.token.text}\r\n"
            talk.asking = talk.token
            talk.auth_sent = True
        elif beginning == "bad-header":
            talk.first_is_bad = True
            bad = bad_token(self.random, self.user, self.group, self.world.wall())
            headers = f"Authorization: Bearer {bad.text}\r\n"
        request = handshake(headers)
        if beginning == "unfinished":
            talk.done.add("unfinished")
            talk.send(request[: self.random.randint(1, len(request) - 2)])
            return
        if beginning == "prompt" and self.random.random() < 0.1:
            # All at once: what follows the handshake may come together with it.
            talk.send(request)
            self._authenticate(talk)
        else:
            talk.send(request)

    def upgraded(self, talk: Talk) -> None:  # noqa: C901 - one case for each beginning
        """The handshake was accepted."""
        if talk.beginning not in ("header", "bad-header"):
            self.world.checks.watch_authentication(talk)
        if talk.auth_sent:
            return
        random = self.random
        match talk.beginning:
            case "late":
                self._for(talk, random.uniform(0.0, 2.9), partial(self._authenticate, talk))
            case "edge":
                self._for(
                    talk, 3.0 + random.choice((-0.1, -0.001, 0.0, 0.001)), partial(self._authenticate, talk)
                )
            case "never" | "bad-header":
                pass
            case "pinging":
                self._ping_on(talk)
            case "half":
                request = message({"event": "authenticate", "token": self._issue().text})
                self._for(
                    talk,
                    random.uniform(0, 2),
                    partial(talk.send, request[: random.randint(1, len(request) - 1)]),
                )
            case "bad-token":
                talk.first_is_bad = True
                bad = bad_token(random, self.user, self.group, self.world.wall())
                talk.authenticate(bad, self._draw_vaults(), None)
            case "other-first":
                talk.first_is_bad = True
                talk.auth_sent = True
                talk.subscribe(self._draw_vaults(), bare=random.random() < 0.5)
            case "garbage-first":
                talk.done.add("garbage")
                talk.auth_sent = True
                talk.send(frame(random.choice((TEXT, BINARY)), b"hello"))
            case _:
                self._authenticate(talk)

    def _authenticate(self, talk: Talk) -> None:
        if talk.over or talk.auth_sent:
            return
        random = self.random
        since: str | None = None
        draw = random.random()
        if self.follower.cursor is not None and (self.calm or draw < 0.85):
            since = self.follower.cursor
        elif draw < 0.9 and self._old_cursors:
            since = random.choice(self._old_cursors)
        elif draw < 0.93:
            since = random.choice(_MADE_UP)
        elif draw < 0.96:
            since = self.world.somebody_elses_cursor(random, self.user)
        vaults = None if random.random() < 0.1 else self._draw_vaults()
        talk.authenticate(self._issue(), vaults, since)

    def _ping_on(self, talk: Talk) -> None:
        if not (talk.over or talk.told_close is not None):
            talk.ping()
            self._for(talk, 0.3, partial(self._ping_on, talk))

    # --- being there ---

    def authenticated(self, talk: Talk) -> None:
        """It was told so, for the first time on this connection or not."""
        self.group = talk.token.group if talk.token is not None else self.group
        if not talk.asked and "acting" not in talk.done:
            talk.done.add("acting")
            self._next_deed(talk)

    def asked_to_renew(self, talk: Talk) -> None:
        """The token expires soon."""
        if self.calm or self.random.random() < 0.8:
            self._for(talk, self.random.uniform(0, 1), partial(self._renew, talk))

    def _next_deed(self, talk: Talk) -> None:
        deeds = self.world.plan.deeds
        if not deeds or self.calm:
            return
        wait = self.random.expovariate(sum(deeds.values()) / 60)
        (deed,) = self.random.choices(list(deeds), list(deeds.values()))
        self._for(talk, wait, partial(self._do, talk, deed))

    def _do(self, talk: Talk, deed: str) -> None:  # noqa: C901 - one case for each deed
        if self.calm:
            return
        self.world.deeds[deed] += 1
        self.world.log(self.name, deed)
        random = self.random
        match deed:
            case "subscribe":
                talk.subscribe(self._draw_vaults(), bare=random.random() < 0.2)
            case "renew":
                self._renew(talk)
            case "regroup":
                talk.authenticate(self._issue(random.choice(self.world.groups_of(self.user))), None, None)
            case "foreign":
                talk.done.add("foreign")
                talk.authenticate(self._issue_for_another(), None, None)
            case "bad-renewal":
                talk.authenticate(bad_token(random, self.user, self.group, self.world.wall()), None, None)
            case "many-vaults":
                self._subscribe_to_many(talk)
            case "ping":
                talk.ping()
            case "close":
                talk.close()
            case "reset":
                talk.give_up("reset")
            case "half-close":
                talk.done.add("half-close")
                talk.link.send_eof()
            case "stall":
                self._stall(talk, random.choice((0.5, 5.0, 70.0)) * random.random())
            case "slow":
                talk.slow = True
                talk.link.reading = False
                self._read_slowly(talk, random.randint(20, 3000))
            case "dark":
                talk.done.add("dark")
                talk.link.go_dark()
                self._for(talk, random.uniform(1, 60), partial(talk.give_up, "silent"))
            case "flood":
                talk.done.add("flood")
                for _ in range(random.randint(5, 60)):
                    talk.subscribe(self._draw_vaults())
            case _:
                talk.done.add(deed)
                talk.send(rubbish(deed))
        self._next_deed(talk)

    def _renew(self, talk: Talk) -> None:
        vaults = self._draw_vaults() if self.random.random() < 0.3 else None
        talk.authenticate(self._issue(), vaults, None if self.random.random() < 0.9 else "nonsense")

    def _subscribe_to_many(self, talk: Talk) -> None:
        talk.subscribe(tuple(f"m{number}" for number in range(1001)))

    def _stall(self, talk: Talk, seconds: float) -> None:
        talk.slow = True
        talk.link.reading = False
        self._for(talk, seconds, talk.link.go_on_reading)

    def _read_slowly(self, talk: Talk, size: int) -> None:
        if self.calm:
            talk.link.go_on_reading()
        elif not talk.link.reading:
            talk.link.read(size)
            self._for(talk, 0.25, partial(self._read_slowly, talk, size))

    # --- leaving ---

    def ended(self, talk: Talk) -> None:
        """A connection is over."""
        if talk is not self.talk:
            return
        self.talk = None
        if self.follower.cursor is not None and self.random.random() < 0.2:
            self._old_cursors.append(self.follower.cursor)
        wait = self.random.choice((0.0, 0.1, 1.0, 1.0, 8.0)) * self.random.random()
        if self.calm:
            wait = self.random.random()
        elif self.world.plan.away and "close" in talk.done:
            wait = self.random.expovariate(1 / self.world.plan.away)
        self._later(wait, self.connect)

    def calm_down(self) -> None:
        """Do nothing out of the ordinary any more, and be there."""
        self.calm = True
        talk = self.talk
        if talk is None:
            self._later(self.random.random(), self.connect)
            return
        if (
            not talk.authenticated
            or "dark" in talk.done
            or "half-close" in talk.done
            or not self.world.good_network
        ):
            talk.give_up("silent")
        else:
            talk.link.go_on_reading()

    def renew(self) -> None:
        """Renew the token, if it is there."""
        if self.talk is not None and self.follower.open:
            self._renew(self.talk)

    def ping(self) -> None:
        """Send a ping, if it is there."""
        if self.talk is not None and self.follower.open:
            self.talk.ping()

    def unanswered(self) -> int:
        """How much that it said has no answer, and should have one."""
        talk = self.talk
        if talk is None or not talk.authenticated or talk.told_close is not None:
            return 0
        return len(talk.asked) + len(talk.pings)

    def leave(self) -> None:
        """Go, for good."""
        self.gone = True
        if self.talk is not None:
            if self.random.random() < 0.5:
                self.talk.close()
            else:
                self.talk.give_up("reset")

    # --- helpers ---

    def _later(self, seconds: float, call: Callable[[], object]) -> None:
        self.world.agenda.after(seconds, call)

    def _for(self, talk: Talk, seconds: float, call: Callable[[], object]) -> None:
        """Have something done later, if the connection is still there."""

        def do() -> None:
            if not talk.over and talk.told_close is None:
                call()

        self.world.agenda.after(seconds, do)

    def _draw_vaults(self) -> tuple[str, ...]:
        vaults = self.world.vaults
        drawn = self.random.sample(vaults, self.random.randint(0, len(vaults)))
        if drawn and self.random.random() < 0.1:
            drawn.append(drawn[0])
        return tuple(drawn)

    def _issue(self, group: str | None = None) -> Token:
        if not self.calm and self._token is not None and self.random.random() < 0.3:
            return self._token  # as long as it holds, or longer
        low, high = self.world.plan.ttl
        ttl = 3600.0 if self.calm else self.random.uniform(low, high)
        self._token = issue(self.user, group or self.world.group_in_use(self), ttl, self.world.wall())
        return self._token

    def _issue_for_another(self) -> Token:
        return issue(f"{self.user}-not", self.group, 1000.0, self.world.wall())

"""From accepted events to frames on their way.

First the devices are asked, then what they want is sent. Sends that follow each other at once cost the kernel
much less than sends with decisions in between, and the frames that one device gets of a batch go out in one
piece.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import structlog
import trio

from localful_ws.engine import Entry
from localful_ws.metrics import Metrics
from localful_ws.protocol import Event, EventName, Verdict
from localful_ws.routing import Router
from localful_ws.server.device import Device
from localful_ws.server.send_buffer import Piece, piece_of, pieces_of

_log = structlog.get_logger(__name__)
_QUESTIONS_WITHOUT_A_BREAK = 400
_DELIVER, _ECHO = Verdict.DELIVER, Verdict.ECHO  # compared with for every device and event
# After these, what follows is decided anew.
_LIFE_ENDING = frozenset({EventName.VAULT_DELETE, EventName.USER_DELETE})

Outgoing = tuple[Device, Sequence[Piece]]
"""A device and what it gets."""


class Delivery:
    """Delivers events to the devices that want them.

    Args:
        router: Knows which devices to ask.
        metrics: Where deliveries and suppressed echoes are counted.
        lose: Called with a user some of whose events could not be delivered, because of an error of ours.
    """

    def __init__(self, router: Router[Device], metrics: Metrics, lose: Callable[[str], object]) -> None:
        self._router = router
        self._metrics = metrics
        self._lose = lose

    async def deliver(self, entries: Sequence[Entry]) -> None:
        """Deliver a batch: for each user in the order given.

        Only to devices that are there when it begins. One that comes while it lasts has its place behind it.
        """
        outgoing: list[Outgoing] = []
        asked = 0
        for run, devices in [(run, self._devices_of(run[0].event.user)) for run in _runs_of(entries)]:
            at_a_time = max(1, _QUESTIONS_WITHOUT_A_BREAK // len(run))
            for start in range(0, len(devices), at_a_time):
                some = devices[start : start + at_a_time]
                self._ask(run, some, outgoing)
                asked += len(some) * len(run)
                if asked >= _QUESTIONS_WITHOUT_A_BREAK:
                    # What was decided is sent before anybody can change it.
                    _send(outgoing)
                    await trio.lowlevel.checkpoint()
                    asked = 0
            last = run[-1].event
            if last.name is EventName.USER_DELETE:
                # Those that came meanwhile are behind the event, and yet end with the user.
                _send(outgoing)
                asked_before = set(devices)
                now_there = self._devices_of(last.user)
                _tell_passed(last, [device for device in now_there if device not in asked_before])
        _send(outgoing)

    def _devices_of(self, user: str) -> Sequence[Device]:
        try:
            return self._router.devices_of(user)
        except Exception:
            self._fail(user)
            return ()

    def _ask(self, run: Sequence[Entry], devices: Sequence[Device], outgoing: list[Outgoing]) -> None:
        """Ask devices of a user what they want of a run. What fails here ends those of this user only."""
        last = run[-1].event
        try:
            if len(run) == 1:
                self._ask_about_one(run[0], devices, outgoing)
            else:
                self._ask_about_several(run, devices, outgoing)
        except Exception:
            _send(outgoing)
            self._fail(last.user)
        if last.name in _LIFE_ENDING:
            # Before anybody else's turn: who subscribes after the event keeps what it is told.
            _send(outgoing)
            _tell_passed(last, devices)

    def _ask_about_one(self, entry: Entry, devices: Sequence[Device], outgoing: list[Outgoing]) -> None:
        event = entry.event
        pieces = (piece_of(entry.frame),)
        deliveries = echoes = 0
        for device in devices:
            verdict = device.core.wants(event)
            if verdict is _DELIVER:
                outgoing.append((device, pieces))
                deliveries += 1
            elif verdict is _ECHO:
                echoes += 1
        self._count(deliveries, echoes)

    def _ask_about_several(
        self, run: Sequence[Entry], devices: Sequence[Device], outgoing: list[Outgoing]
    ) -> None:
        deliveries = echoes = 0
        # Most devices of a user want the same, and share it.
        earlier: list[bytes | memoryview] = []
        pieces: list[Piece] = []
        for device in devices:
            wanted: list[bytes | memoryview] = []
            for entry in run:
                verdict = device.core.wants(entry.event)
                if verdict is _DELIVER:
                    wanted.append(entry.frame)
                elif verdict is _ECHO:
                    echoes += 1
            if wanted != earlier:
                earlier, pieces = wanted, pieces_of(wanted)
            if wanted:
                outgoing.append((device, pieces))
            deliveries += len(wanted)
        self._count(deliveries, echoes)

    def _count(self, deliveries: int, echoes: int) -> None:
        self._metrics.events_delivered += deliveries
        self._metrics.echoes_suppressed += echoes

    def _fail(self, user: str) -> None:
        """Log the exception being handled, and close the devices of the user, so that they know."""
        _log.exception("events could not be routed")
        try:
            self._lose(user)
        except Exception:
            _log.exception("events could not be routed")


def _send(outgoing: list[Outgoing]) -> None:
    for device, pieces in outgoing:
        try:
            device.send_batch(pieces)
        except Exception:
            device.fail()
    outgoing.clear()


def _tell_passed(event: Event, devices: Sequence[Device]) -> None:
    for device in devices:
        try:
            device.event_passed(event)
        except Exception:
            device.fail()


def _runs_of(entries: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
    """Sort a batch by user, each user's events in the order given.

    A run ends after an event that ends a vault or a user, since what follows is decided anew.
    """
    if len(entries) == 1:
        return (entries,)
    by_user: dict[str, list[list[Entry]]] = {}
    for entry in entries:
        runs = by_user.get(entry.event.user)
        if runs is None:
            by_user[entry.event.user] = [[entry]]
        elif runs[-1][-1].event.name in _LIFE_ENDING:
            runs.append([entry])
        else:
            runs[-1].append(entry)
    return chain.from_iterable(by_user.values())

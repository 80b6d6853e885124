"""From accepted events to frames on their way.

First the devices are asked, then what they want is sent. Sends that follow each other at once cost the kernel
much less than sends with decisions in between, and the frames that one device gets of a batch go out in one
piece.
"""

from collections.abc import Callable, Sequence

import trio

from localful_ws.engine import Entry
from localful_ws.metrics import Metrics
from localful_ws.protocol import Event, EventName, Verdict
from localful_ws.routing import Router
from localful_ws.server.batching import LIFE_ENDING, pieces_of, runs_of
from localful_ws.server.device import Device
from localful_ws.server.outbox import OutboxFullError

_QUESTIONS_WITHOUT_A_BREAK = 400
_DELIVER, _ECHO = Verdict.DELIVER, Verdict.ECHO  # compared with for every device and event

Outgoing = tuple[Device, bytes | memoryview, Sequence[bytes | memoryview]]
"""A device and the frames it gets: joined, and one by one."""


class Delivery:
    """Delivers events to the devices that want them.

    Args:
        router: Knows which devices to ask.
        metrics: Where deliveries and suppressed echoes are counted.
        end_of_life: Called after a ``vault-delete`` or ``user-delete`` has been sent, with the devices that
            were asked; more than once if they are many.
    """

    def __init__(
        self, router: Router[Device], metrics: Metrics, end_of_life: Callable[[Event, Sequence[Device]], None]
    ) -> None:
        self._router = router
        self._metrics = metrics
        self._end_of_life = end_of_life

    async def deliver(self, entries: Sequence[Entry]) -> None:
        """Deliver a batch: for each user in the order given.

        Only to devices that are there when it begins. One that comes while it lasts has its place behind it.
        """
        outgoing: list[Outgoing] = []
        asked = 0
        for run, devices in [(run, self._router.devices_of(run[0].event.user)) for run in runs_of(entries)]:
            frames = [entry.frame for entry in run] if devices else []
            last = run[-1].event
            ends_life = last.name in LIFE_ENDING
            at_a_time = max(1, _QUESTIONS_WITHOUT_A_BREAK // len(run))
            for start in range(0, len(devices), at_a_time):
                some = devices[start : start + at_a_time]
                if len(run) == 1:
                    self._ask_about_one(last, frames, some, outgoing)
                else:
                    self._ask_about_several(run, frames, some, outgoing)
                if ends_life:
                    # Before anybody else's turn: who subscribes after the event keeps what it is told.
                    _send(outgoing)
                    self._end_of_life(last, some)
                asked += len(some) * len(run)
                if asked >= _QUESTIONS_WITHOUT_A_BREAK:
                    # What was decided is sent before anybody can change it.
                    _send(outgoing)
                    await trio.lowlevel.checkpoint()
                    asked = 0
            if last.name is EventName.USER_DELETE:
                # Those that came meanwhile are behind the event, and yet end with the user.
                _send(outgoing)
                asked_before = set(devices)
                now_there = self._router.devices_of(last.user)
                self._end_of_life(last, [device for device in now_there if device not in asked_before])
        _send(outgoing)

    def _ask_about_one(
        self,
        event: Event,
        frames: Sequence[bytes | memoryview],
        devices: Sequence[Device],
        outgoing: list[Outgoing],
    ) -> None:
        (frame,) = frames
        deliveries = echoes = 0
        for device in devices:
            verdict = device.wants(event)
            if verdict is _DELIVER:
                outgoing.append((device, frame, frames))
                deliveries += 1
            elif verdict is _ECHO:
                echoes += 1
        self._count(deliveries, echoes)

    def _ask_about_several(
        self,
        run: Sequence[Entry],
        frames: Sequence[bytes | memoryview],
        devices: Sequence[Device],
        outgoing: list[Outgoing],
    ) -> None:
        deliveries = echoes = 0
        # Most devices of a user want the same, and share it.
        earlier: list[bytes | memoryview] = []
        pieces: list[tuple[bytes, Sequence[bytes | memoryview]]] = []
        for device in devices:
            wanted = []
            for entry, frame in zip(run, frames, strict=True):
                verdict = device.wants(entry.event)
                if verdict is _DELIVER:
                    wanted.append(frame)
                elif verdict is _ECHO:
                    echoes += 1
            if wanted != earlier:
                earlier, pieces = wanted, pieces_of(wanted)
            outgoing.extend((device, data, some) for data, some in pieces)
            deliveries += len(wanted)
        self._count(deliveries, echoes)

    def _count(self, deliveries: int, echoes: int) -> None:
        self._metrics.events_delivered += deliveries
        self._metrics.echoes_suppressed += echoes


def _send(outgoing: list[Outgoing]) -> None:
    for device, data, frames in outgoing:
        try:
            device.send_frames(data, frames)
        except OutboxFullError:
            device.close_slow_consumer()
        except Exception:
            device.fail()
    outgoing.clear()

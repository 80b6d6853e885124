"""From accepted events to frames on their way.

First the devices are asked, then what they want is sent. Sends that follow each other at once cost the kernel
much less than sends with decisions in between, and the frames that one device gets of a batch go out in one
piece.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import trio

from localful_ws.metrics import Metrics
from localful_ws.protocol import Event, EventName, Verdict, encode_event, text_frame
from localful_ws.routing import Router
from localful_ws.server.device import Device
from localful_ws.server.outbox import OutboxFullError

_QUESTIONS_WITHOUT_A_BREAK = 400
_PIECE = 65536  # bytes; what is longer gains nothing from going out in one piece
LIFE_ENDING = frozenset({EventName.VAULT_DELETE, EventName.USER_DELETE})
"""After these, what follows is decided anew."""
_DELIVER, _ECHO = Verdict.DELIVER, Verdict.ECHO  # compared with for every device and event

Outgoing = tuple[Device, bytes, Sequence[bytes]]
"""A device and the frames it gets: joined, and one by one."""


class Delivery:
    """Delivers events to the devices that want them.

    Args:
        router: Knows which devices to ask.
        metrics: Where deliveries and suppressed echoes are counted.
        end_of_life: Called after a ``vault-delete`` or ``user-delete`` has been sent, with the devices that
            were asked; more than once if they are many, and with none if there are none.
    """

    def __init__(
        self, router: Router[Device], metrics: Metrics, end_of_life: Callable[[Event, Sequence[Device]], None]
    ) -> None:
        self._router = router
        self._metrics = metrics
        self._end_of_life = end_of_life

    async def deliver(self, events: Sequence[Event]) -> None:
        """Deliver a batch: for each user in the order given."""
        outgoing: list[Outgoing] = []
        asked = 0
        for run in runs_of(events):
            devices = self._router.devices_of(run[0].user)
            frames = [text_frame(encode_event(event)) for event in run] if devices else []
            ends_life = run[-1].name in LIFE_ENDING
            if ends_life and not devices:
                self._end_of_life(run[-1], ())
            at_a_time = max(1, _QUESTIONS_WITHOUT_A_BREAK // len(run))
            for start in range(0, len(devices), at_a_time):
                some = devices[start : start + at_a_time]
                if len(run) == 1:
                    self._ask_about_one(run[0], frames, some, outgoing)
                else:
                    self._ask_about_several(run, frames, some, outgoing)
                if ends_life:
                    # Before anybody else's turn: who subscribes after the event keeps what it is told.
                    _send(outgoing)
                    self._end_of_life(run[-1], some)
                asked += len(some) * len(run)
                if asked >= _QUESTIONS_WITHOUT_A_BREAK:
                    # What was decided is sent before anybody can change it.
                    _send(outgoing)
                    await trio.lowlevel.checkpoint()
                    asked = 0
        _send(outgoing)

    def _ask_about_one(
        self, event: Event, frames: Sequence[bytes], devices: Sequence[Device], outgoing: list[Outgoing]
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
        run: Sequence[Event],
        frames: Sequence[bytes],
        devices: Sequence[Device],
        outgoing: list[Outgoing],
    ) -> None:
        deliveries = echoes = 0
        # Most devices of a user want the same, and share it.
        earlier: list[bytes] = []
        pieces: list[tuple[bytes, Sequence[bytes]]] = []
        for device in devices:
            wanted = []
            for event, frame in zip(run, frames, strict=True):
                verdict = device.wants(event)
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


def runs_of(events: Sequence[Event]) -> Iterable[Sequence[Event]]:
    """Sort a batch by user, each user's events in the order given.

    A run ends after an event that ends a vault or a user, since what follows is decided anew.
    """
    if len(events) == 1:
        return (events,)
    by_user: dict[str, list[list[Event]]] = {}
    for event in events:
        runs = by_user.get(event.user)
        if runs is None:
            by_user[event.user] = [[event]]
        elif runs[-1][-1].name in LIFE_ENDING:
            runs.append([event])
        else:
            runs[-1].append(event)
    return chain.from_iterable(by_user.values())


def pieces_of(frames: Sequence[bytes]) -> list[tuple[bytes, Sequence[bytes]]]:
    """Join frames to pieces of some 64 KiB, given joined and one by one; a longer frame is its own piece."""
    pieces: list[tuple[bytes, Sequence[bytes]]] = []
    piece: list[bytes] = []
    size = 0
    for frame in frames:
        if piece and size + len(frame) > _PIECE:
            pieces.append((b"".join(piece), piece))
            piece, size = [], 0
        piece.append(frame)
        size += len(frame)
    if piece:
        pieces.append((b"".join(piece), piece))
    return pieces


def _send(outgoing: list[Outgoing]) -> None:
    for device, data, frames in outgoing:
        try:
            device.send_frames(data, frames)
        except OutboxFullError:
            device.close_slow_consumer()
        except Exception:
            device.fail()
    outgoing.clear()

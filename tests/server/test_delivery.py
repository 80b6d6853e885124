"""What happens between asking devices and sending to them, where there are many."""

from collections.abc import Sequence
from typing import cast

import pytest
import trio
from attrs import define
from trio.testing import MockClock

from localful_ws.engine import entry_of
from localful_ws.metrics import Metrics
from localful_ws.protocol import Event, EventName, Verdict
from localful_ws.routing import Router
from localful_ws.server.delivery import Delivery
from localful_ws.server.device import Device


@define(eq=False)
class Recorder:
    """A device that wants everything and notes when it gets it."""

    number: int
    log: list[tuple[str, int]]

    def wants(self, event: Event) -> Verdict:
        return Verdict.DELIVER

    def send_frames(self, data: bytes, frames: Sequence[bytes]) -> None:
        self.log.append(("sent", self.number))


@pytest.mark.parametrize("name", [EventName.VAULT_DELETE, EventName.USER_DELETE])
@pytest.mark.parametrize(("count", "before"), [(1, 0), (1000, 0), (20, 99), (0, 1)])
async def test_nobody_else_has_a_turn_between_the_end_of_a_life_and_what_follows(
    autojump_clock: MockClock, nursery: trio.Nursery, name: EventName, count: int, before: int
) -> None:
    log: list[tuple[str, int]] = []
    router = Router[Device]()
    for number in range(count):
        router.add("ada", cast("Device", Recorder(number, log)))

    def end_of_life(event: Event, devices: Sequence[Device]) -> None:
        assert event is end
        if not devices:
            return
        log.extend(("ended", cast("Recorder", device).number) for device in devices)
        log.append(("followed", 0))

    async def others() -> None:
        while True:
            log.append(("turn", 0))
            await trio.lowlevel.checkpoint()

    end = Event(name, "ada", None if name is EventName.USER_DELETE else "v")
    events = [Event(EventName.USER_UPDATE, "ada")] * before + [end]
    nursery.start_soon(others)
    await Delivery(router, Metrics(), end_of_life).deliver([entry_of(event, "c") for event in events])
    nursery.cancel_scope.cancel()

    assert (("followed", 0) in log) is (count > 0)
    assert (("turn", 0) in log) is (count * len(events) > 400)
    open_ended: set[int] = set()
    ended: list[int] = []
    for what, number in log:
        if what == "sent":
            open_ended.add(number)
        elif what == "ended":
            open_ended.remove(number)
            ended.append(number)
        elif what == "turn":
            assert open_ended == set()
    assert ended == list(range(count))

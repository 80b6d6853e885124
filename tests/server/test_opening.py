"""From the first byte to the device: what comes early, late, or not at all."""

import pytest
import trio
from trio.testing import MockClock

from tests.raw_device import close, handshake, text
from tests.server.verifiers import slow_verifier
from tests.world import open_world

LEAN = "lean"


@pytest.mark.parametrize("seconds", [0.0, 1.0])
@pytest.mark.parametrize("cut", [0, 3, 1000])
async def test_what_comes_right_behind_a_request_with_a_token(
    autojump_clock: MockClock, seconds: float, cut: int
) -> None:
    """Nothing of it is lost, however it was cut."""
    async with open_world(LEAN, verifier=slow_verifier(seconds)) as world:
        said = text({"vaults": ["a"], "id": "s1"}) + text({"vaults": ["b"], "id": "s2"})
        device = await world.raw(handshake(f"Authorization: Bearer {world.token()}") + said[:cut])
        await trio.sleep(seconds)
        await device.say(said[cut:])
        assert [message.get("id") for message in device.messages] == [None, "s1", "s2"]
        assert device.closed is None


@pytest.mark.parametrize("cut", [0, 3, 1000])
async def test_what_comes_right_behind_a_request(autojump_clock: MockClock, cut: int) -> None:
    async with open_world(LEAN) as world:
        said = text({"event": "authenticate", "token": world.token()}) + text({"vaults": ["b"], "id": "s"})
        device = await world.raw(handshake() + said[:cut])
        await device.say(said[cut:])
        assert [message["event"] for message in device.messages] == ["authenticated", "subscribed"]


async def test_a_close_right_behind_a_request_with_a_token(autojump_clock: MockClock) -> None:
    async with open_world(LEAN) as world:
        device = await world.raw(handshake(f"Authorization: Bearer {world.token()}") + close(1000))
        assert [message["event"] for message in device.messages] == ["authenticated"]
        assert (device.closed, device.ended_at) == ((1000, "normal"), 0)
        assert world.closes() == {"device-closed": 1}

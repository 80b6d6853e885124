"""The engine of a single node: a bounded memory channel."""

from collections.abc import Sequence

import trio
from attrs import frozen

from localful_ws.engine import EngineUnavailableError, Subscriber
from localful_ws.protocol import Event
from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError


@frozen
class _Batch:
    events: Sequence[Event]
    accepted_at: float


@frozen
class _Disconnecting:
    disconnect: Disconnect
    outcome: "trio.MemorySendChannel[int | TooManyRevocationsError]"


class MemoryEngine:
    """Carries events from publishers to this process's node, in the order in which they were accepted.

    Args:
        queue: How many batches may wait to be routed.
        timeout: Seconds that a publisher waits for a place in the queue, or for the answer to a disconnect.
    """

    def __init__(self, queue: int, timeout: float) -> None:
        self._timeout = timeout
        self._send, self._receive = trio.open_memory_channel[_Batch | _Disconnecting](queue)

    def unavailable(self) -> str | None:
        """None: this engine is always there."""
        return None

    async def publish(self, events: Sequence[Event]) -> int:
        """See `Engine.publish`."""
        await self._put(_Batch(events, trio.current_time()))
        return len(events)

    async def disconnect(self, disconnect: Disconnect) -> int:
        """See `Engine.disconnect`."""
        send, receive = trio.open_memory_channel[int | TooManyRevocationsError](1)
        await self._put(_Disconnecting(disconnect, send))
        with trio.move_on_after(self._timeout):
            outcome = await receive.receive()
            if isinstance(outcome, TooManyRevocationsError):
                raise outcome
            return outcome
        raise EngineUnavailableError("The node is too busy to answer.", retry_after=1)

    async def run(self, subscriber: Subscriber) -> None:
        """See `Engine.run`."""
        async with self._receive:
            async for item in self._receive:
                if isinstance(item, _Batch):
                    await subscriber.route(item.events, item.accepted_at)
                    continue
                try:
                    item.outcome.send_nowait(subscriber.apply_disconnect(item.disconnect))
                except TooManyRevocationsError as error:
                    item.outcome.send_nowait(error)

    async def aclose(self) -> None:
        """See `Engine.aclose`."""
        await self._send.aclose()

    async def _put(self, item: _Batch | _Disconnecting) -> None:
        try:
            with trio.fail_after(self._timeout):
                await self._send.send(item)
        except trio.TooSlowError:
            raise EngineUnavailableError("Too many events are waiting to be routed.", retry_after=1) from None
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise EngineUnavailableError("The server is shutting down.", retry_after=5) from None

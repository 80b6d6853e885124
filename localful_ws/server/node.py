"""One node: the devices connected to this process, and everything they share."""

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog
import trio

from localful_ws.clock import Clock
from localful_ws.engine import Engine, Presence, Receipt
from localful_ws.metrics import Gauges, Metrics
from localful_ws.protocol import (
    Accept,
    CloseCode,
    Event,
    HandshakeError,
    Rejection,
    Session,
    State,
    judge_handshake,
)
from localful_ws.publishing import Disconnect
from localful_ws.revocations import Revocations
from localful_ws.routing import Router
from localful_ws.server.boundary import run_bounded
from localful_ws.server.device import Device
from localful_ws.server.opening import Opening
from localful_ws.server.parking import Parking, Poller, system_poller
from localful_ws.server.send_buffer import SendBudget, SendLimits
from localful_ws.server.subscriber import NodeSubscriber
from localful_ws.server.survey.respondent import Respondent
from localful_ws.server.timers import Timers
from localful_ws.server.turn import Turn
from localful_ws.server.upgrade import UpgradeRequest
from localful_ws.server.watching import Watching
from localful_ws.settings import Settings
from localful_ws.tokens import TokenRejectedError, TokenVerifier, VerifierUnavailableError

_log = structlog.get_logger(__name__)

# Above max-connections, so many at a time are heard all the same, to be told that they are refused.
_REFUSALS_AT_ONCE = 128
# A handshake that is under way when the drain begins is answered, if it comes in so many seconds.
_LAST_HANDSHAKES = 1.0
_TELL_AGAIN_AFTER = 60.0
_REFUSED = {
    CloseCode.UNAUTHORIZED: 401,
    CloseCode.FORBIDDEN: 403,
    CloseCode.TOO_MANY: 429,
    CloseCode.TRY_AGAIN_LATER: 503,
}
_CLOSINGS_A_SECOND = 50


class Node:
    """Serves devices on streams, and takes events and disconnects for them.

    Args:
        settings: The daemon's settings.
        clock: The daemon's clock.
        verifier: Turns access tokens into sessions.
        engine: Brings events.
        poller: Says which parked devices' sockets are ready, in place of the system's epoll.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        verifier: TokenVerifier,
        engine: Engine,
        poller: Poller | None = None,
    ) -> None:
        self.clock = clock
        self.engine = engine
        self.timers = Timers(clock)
        self.budget = SendBudget(
            SendLimits(
                settings.send_buffer_events,
                settings.send_buffer_bytes,
                settings.send_budget,
                settings.send_timeout,
            ),
            self.timers,
        )
        self.limits = settings.limits()
        self.transport = settings.transport
        self.max_message_bytes = settings.max_message_bytes
        self.handshake_timeout = settings.handshake_timeout
        self.ping_interval = settings.ping_interval
        self.ping_timeout = settings.ping_timeout
        self.close_timeout = settings.close_timeout
        self.turn = Turn()
        self.draining = False
        self.metrics = Metrics(gauges=self._gauges)
        self._settings = settings
        self._rules = settings.handshake_rules()
        self._verifier = verifier
        self._router = Router[Device]()
        self.respondent = Respondent(self._router, self.metrics)
        self.watching = Watching(engine, clock.now)
        self._revocations = Revocations(settings.max_revocations)
        self.subscriber = NodeSubscriber(self._router, self._revocations, self.watching, self.metrics, clock)
        if poller is None:
            poller = system_poller()
        self.parking = None if poller is None else Parking(poller, self.start_soon)
        # In the order in which they came, which is the order in which they are drained.
        self._devices: dict[Device, None] = {}
        # Those that are being let in, the oldest first.
        self._half_open: dict[Opening, None] = {}
        # Those of them whose device is not there yet.
        self._strangers: set[Opening] = set()
        # Those of these who will have one: their handshakes were accepted.
        self._reserved: set[Opening] = set()
        self._told_half_open = -math.inf
        self._connections: trio.Nursery | None = None
        self._drained = trio.Event()
        self._all_gone = trio.Event()
        self._routed_all = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[trio.Nursery] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the time, verify and route until cancelled.

        Starts with the nursery in which connections are to be served.
        """
        trio.lowlevel.add_instrument(self.turn)
        try:
            await self._run(task_status)
        finally:
            trio.lowlevel.remove_instrument(self.turn)

    async def _run(self, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._verifier.run)
            nursery.start_soon(self.timers.run)
            await nursery.start(self._run_engine)
            async with trio.open_nursery() as connections:
                self._connections = connections
                if self.parking is not None:
                    connections.start_soon(self.parking.run)
                async with trio.open_nursery() as openings:
                    openings.start_soon(self._drained.wait)
                    task_status.started(openings)
                # Only now nobody can be parked any more.
                if self.parking is not None:
                    self.parking.finish()
            self._all_gone.set()
            await trio.sleep_forever()

    async def finish(self) -> None:
        """Take no more from publishers, and have routed what was accepted, in bounded time."""
        await self.engine.aclose()
        with trio.move_on_after(self._settings.publish_timeout):
            await self._routed_all.wait()

    async def _run_engine(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.engine.run(self.subscriber, task_status=task_status)
        self._routed_all.set()

    # --- devices ---

    def devices(self) -> Iterable[Device]:
        """All open connections, authenticated or not."""
        return tuple(self._devices)

    def _gauges(self) -> Gauges:
        connections = Counter({state.value: 0 for state in State})
        connections.update(device.state.value for device in self._devices)
        return Gauges(
            connections=connections,
            half_open=len(self._half_open),
            send_bytes=self.budget.bytes,
            send_buffer_peak_events=self.budget.peak_events,
            send_buffer_peak_bytes=self.budget.peak_bytes,
            engine_up=self.engine.unavailable() is None,
            draining=self.draining,
            engine=self.engine.figures(),
            users=self._router.users(),
            missed_events_lately=self.subscriber.lost.count(),
        )

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, until it is parked or over. Nothing it does is raised here."""
        pump = await Opening(self, stream).run()
        if pump is not None:
            await pump.run()

    def start_soon(self, task: Callable[..., Awaitable[object]], *args: object) -> None:
        """Start a task among the connections. One that raises is logged and harms nobody else."""
        if self._connections is None:
            raise RuntimeError("Node.run must be running before a stream is served.")
        self._connections.start_soon(run_bounded, task, args)

    def begin_opening(self, opening: Opening) -> None:
        """Count a connection that is being let in. If there are too many, the oldest of them gives way."""
        if self.draining:
            opening.hurry(trio.current_time() + _LAST_HANDSHAKES)
        self._half_open[opening] = None
        self._strangers.add(opening)
        connections = len(self._devices) + len(self._strangers)
        if (
            len(self._half_open) > self._settings.max_half_open
            or connections > self._settings.max_connections + _REFUSALS_AT_ONCE
        ):
            self._give_way()

    def end_opening(self, opening: Opening) -> None:
        """Count it no more: it is in, or over."""
        self._half_open.pop(opening, None)
        self._strangers.discard(opening)
        self._reserved.discard(opening)

    def _give_way(self) -> None:
        oldest = next(iter(self._half_open))
        # A place that is kept for it is free when it is over.
        del self._half_open[oldest]
        self._strangers.discard(oldest)
        oldest.give_way()
        self.metrics.half_opens_dropped += 1
        if trio.current_time() > self._told_half_open + _TELL_AGAIN_AFTER:
            self._told_half_open = trio.current_time()
            _log.warning(
                "more connections at once have yet to authenticate than may; the oldest give way",
                half_open=len(self._half_open),
            )

    def opened(self, opening: Opening, device: Device) -> None:
        """Take note that a connection whose handshake was accepted has its device."""
        self._strangers.discard(opening)
        self._reserved.discard(opening)
        self.admit(device)

    def admit(self, device: Device) -> None:
        """Count a device."""
        self._devices[device] = None
        self.metrics.connections_opened += 1

    def forget(self, device: Device) -> None:
        """Count a device no more; its connection is over."""
        self._devices.pop(device, None)

    async def judge(self, opening: Opening, request: UpgradeRequest) -> tuple[Accept, Session | None]:
        """Decide about a handshake. When it returns there is a place for the device, which is kept for it.

        Returns:
            How to answer, and the session of a token that came with it.

        Raises:
            HandshakeError: If it is refused.
        """
        accepted = judge_handshake(self._rules, request.target, request.headers, request.subprotocols)
        self._refuse_all()
        session = None
        if accepted.token is not None:
            outcome = await self.verify(accepted.token)
            if isinstance(outcome, Session):
                outcome = self.refusal(outcome, renewal=False) or self._no_engine() or outcome
            if isinstance(outcome, Rejection):
                self.metrics.authentication_failed(outcome.code.reason)
                raise HandshakeError(_REFUSED[outcome.code], outcome.code.reason, outcome.message)
            # Others may have taken the last place while the token was verified.
            self._refuse_all()
            session = outcome
        self._reserved.add(opening)
        return accepted, session

    def _refuse_all(self) -> None:
        """Refuse whoever comes now, if nobody can be let in."""
        if self.draining:
            raise HandshakeError(503, "draining", "The server is shutting down.")
        if len(self._devices) + len(self._reserved) >= self._settings.max_connections:
            raise HandshakeError(
                503, "too-many-connections", "The server has as many connections as it can hold."
            )

    def _no_engine(self) -> Rejection | None:
        reason = self.engine.unavailable()
        return None if reason is None else Rejection(CloseCode.TRY_AGAIN_LATER, reason)

    async def verify(self, token: str) -> Session | Rejection:
        """Verify an access token, no longer than ``auth-timeout``."""
        try:
            if not self._verifier.waits:
                return await self._verifier.verify(token)
            with trio.move_on_after(self.limits.auth_timeout):
                return await self._verifier.verify(token)
        except TokenRejectedError as error:
            return Rejection(CloseCode.UNAUTHORIZED, error.message)
        except VerifierUnavailableError:
            pass
        return Rejection(CloseCode.TRY_AGAIN_LATER, "Tokens can't be verified just now.")

    def refusal(self, session: Session, *, renewal: bool) -> Rejection | None:
        """Why a session whose token holds may not begin; None if it may."""
        now = self.clock.now()
        if now >= session.expires_at:
            # It held when it was looked at, and joining the user's events took a while.
            return Rejection(CloseCode.UNAUTHORIZED, "The token has expired.")
        if self._revocations.is_revoked(session, now):
            return Rejection(CloseCode.FORBIDDEN, "This session was revoked.")
        limit = self._settings.max_connections_per_user
        if not renewal and self._router.count(session.user) >= limit:
            return Rejection(CloseCode.TOO_MANY, f"A user may have at most {limit} connections.")
        return None

    def enter(self, device: Device, session: Session) -> None:
        """Ask this device about the events of its user from now on."""
        self._router.add(session.user, device)

    def leave(self, device: Device) -> None:
        """Ask this device no more; it has ended, or is about to."""
        session = device.session
        if session is not None and self._router.remove(session.user, device):
            self.engine.leave(session.user)

    # --- events ---

    def unavailable(self) -> str | None:
        """Why nothing should be sent here now, as a sentence; None if the node is ready."""
        if self.draining:
            return "The server is shutting down."
        if not self._verifier.ready:
            return "The keys that access tokens are verified with have not been fetched yet."
        return self.engine.unavailable()

    async def publish(self, events: Sequence[Event]) -> Receipt:
        """Accept events from a publisher.

        Raises:
            EngineUnavailableError: If they can't be accepted now.
            TooManyRevocationsError: If the tokens of a user that one of them deletes can't be revoked.
        """
        receipt = await self.engine.publish(events)
        self.metrics.accepted((event.name for event in events), receipt.duplicates)
        return receipt

    async def who_is_there(self, user: str, vaults: int) -> list[Presence]:
        """A user's devices on all nodes, with at most so many vaults of each.

        Raises:
            EngineUnavailableError: If it can't be told now.
        """
        return await self.engine.who_is_there(user, vaults)

    async def disconnect(self, disconnect: Disconnect) -> int:
        """Refuse the tokens that a disconnect is about, and close the connections that came with them.

        Returns:
            How many connections were closed.

        Raises:
            EngineUnavailableError: If it can't be done now.
            TooManyRevocationsError: If no more revocations can be remembered.
        """
        return await self.engine.disconnect(disconnect)

    # --- the end ---

    async def drain(self, seconds: float) -> None:
        """Refuse new connections and close every device, spread over half of ``seconds``.

        Returns when all are gone or ``seconds`` are over.
        """
        if self._connections is None:
            return
        self.draining = True
        self.watching.end()
        now = trio.current_time()
        self._connections.cancel_scope.deadline = now + seconds
        for opening in self._strangers:
            opening.hurry(now + _LAST_HANDSHAKES)
        await self._close_spread(tuple(self._devices), seconds / 2)
        self._drained.set()
        await self._all_gone.wait()

    async def _close_spread(self, devices: Sequence[Device], seconds: float) -> None:
        steps = max(1, min(len(devices), math.ceil(seconds * _CLOSINGS_A_SECOND)))
        started = trio.current_time()
        for step in range(steps):
            if step:
                await trio.sleep_until(started + seconds * step / steps)
            for device in devices[step::steps]:
                device.close(CloseCode.SERVER_SHUTDOWN)

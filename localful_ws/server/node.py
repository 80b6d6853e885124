"""One node: the devices connected to this process, and everything they share."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import structlog
import trio

from localful_ws.clock import Clock
from localful_ws.engine import Engine, EngineUnavailableError, Entry, Position, Receipt
from localful_ws.metrics import Gauges, Metrics
from localful_ws.protocol import (
    CloseCode,
    Event,
    Refuse,
    Rejection,
    Session,
    State,
    judge_handshake,
)
from localful_ws.publishing import Disconnect
from localful_ws.revocations import Revocations, TooManyRevocationsError
from localful_ws.routing import Router
from localful_ws.server.boundary import Boundary
from localful_ws.server.delivery import Delivery
from localful_ws.server.device import Device
from localful_ws.server.outbox import OutboxPeaks, OutboxPolicy
from localful_ws.server.survey.respondent import Respondent
from localful_ws.server.timekeeper import Timekeeper
from localful_ws.server.transport.base import (
    Accepter,
    HttpRefusal,
    RequestHead,
    Transport,
    TransportHost,
    Upgrade,
    http_refusal,
)
from localful_ws.server.watching import Watching
from localful_ws.settings import Settings
from localful_ws.tokens import TokenRejectedError, TokenVerifier, VerifierUnavailableError

_log = structlog.get_logger(__name__)

# Above max-connections, so many at a time are told that they are refused; more are dropped unheard.
_REFUSALS_AT_ONCE = 128
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
        accept: Does the opening handshake with the configured transport.
    """

    def __init__(
        self, settings: Settings, clock: Clock, verifier: TokenVerifier, engine: Engine, accept: Accepter
    ) -> None:
        self.clock = clock
        self.timekeeper = Timekeeper(clock)
        self.limits = settings.limits()
        self.ping_interval = settings.ping_interval
        self.ping_timeout = settings.ping_timeout
        self.close_timeout = settings.close_timeout
        self.draining = False
        self._peaks = OutboxPeaks()
        self.metrics = Metrics(gauges=self._gauges)
        self._settings = settings
        self._rules = settings.handshake_rules()
        self._verifier = verifier
        self._engine = engine
        self._accept = accept
        self._router = Router[Device]()
        self.respondent = Respondent(self._router, self.metrics)
        self.watching = Watching(engine, clock.now)
        self._delivery = Delivery(self._router, self.metrics, self._end_of_life)
        self._revocations = Revocations(settings.max_revocations)
        # In the order in which they came, which is the order in which they are drained.
        self._devices: dict[Device, None] = {}
        self._streams = 0
        # Handshakes that are let in and whose device is not there yet.
        self._opening = 0
        self._all_gone = trio.Event()
        self._transport_host: TransportHost | None = None

    async def run(self, *, task_status: trio.TaskStatus[trio.Nursery] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the time, verify and route until cancelled.

        Starts with the nursery in which connections are to be served.
        """
        async with trio.open_nursery() as nursery:
            boundary = Boundary(nursery)
            outbox = OutboxPolicy(
                self._settings.outbox_events, self._settings.outbox_bytes, boundary.start_soon, self._peaks
            )
            self._transport_host = TransportHost(
                boundary, outbox, self._settings.max_message_bytes, self.close_timeout
            )
            await nursery.start(self._verifier.run)
            nursery.start_soon(self.timekeeper.run)
            await nursery.start(self._engine.run, self)
            task_status.started(nursery)

    # --- devices ---

    def devices(self) -> Iterable[Device]:
        """All open connections, authenticated or not."""
        return tuple(self._devices)

    def _gauges(self) -> Gauges:
        connections = Counter({state.value: 0 for state in State})
        connections.update(device.state.value for device in self._devices)
        return Gauges(
            connections=connections,
            outbox_peak_events=self._peaks.events,
            outbox_peak_bytes=self._peaks.bytes,
            engine_up=self._engine.unavailable() is None,
            draining=self.draining,
            engine=self._engine.figures(),
            users=self._router.users(),
        )

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one connection from its first byte to its last. Nothing it does is raised here."""
        self._streams += 1
        try:
            if self._streams <= self._settings.max_connections + _REFUSALS_AT_ONCE:
                await self._serve(stream)
        except Exception:
            _log.exception("a connection failed")
        finally:
            self._streams -= 1
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        transport, session = await self._open(stream)
        if transport is None:
            return
        device = Device(self, transport)
        self._devices[device] = None
        self.metrics.connections_opened += 1
        if self.draining:  # its handshake was under way when that began
            device.close(CloseCode.SERVER_SHUTDOWN)
        try:
            await device.run(session)
        finally:
            self._devices.pop(device, None)
            if not self._devices and self.draining:
                self._all_gone.set()

    async def _open(self, stream: trio.abc.Stream) -> tuple[Transport | None, Session | None]:
        """Do the opening handshake, in bounded time."""
        host = self._transport_host
        if host is None:
            raise RuntimeError("Node.run must be running before a stream is served.")
        session: Session | None = None
        let_in = 0

        async def judge(head: RequestHead) -> Upgrade | HttpRefusal:
            nonlocal session, let_in
            outcome = await self._judge(head)
            if isinstance(outcome, tuple):
                upgrade, session = outcome
                let_in = 1
                self._opening += let_in
                return upgrade
            return outcome

        try:
            with trio.move_on_after(self._settings.handshake_timeout):
                if isinstance(stream, trio.SSLStream):
                    try:
                        await stream.do_handshake()
                    except trio.BrokenResourceError:
                        return None, None
                return await self._accept(stream, host, judge), session
            return None, None
        finally:
            self._opening -= let_in

    async def _judge(self, head: RequestHead) -> tuple[Upgrade, Session | None] | HttpRefusal:
        answer = judge_handshake(self._rules, head.target, head.headers, head.subprotocols)
        if isinstance(answer, Refuse):
            return self._refuse(answer.status, answer.identifier, answer.message)
        refusal = self._refuse_all()
        if refusal is not None:
            return refusal
        if answer.token is None:
            return Upgrade(answer.subprotocol), None
        outcome = await self.verify(answer.token)
        if isinstance(outcome, Session):
            outcome = self.refusal(outcome, renewal=False) or self._no_engine() or outcome
        if isinstance(outcome, Rejection):
            self.metrics.authentication_failed(outcome.code.reason)
            return self._refuse(_REFUSED[outcome.code], outcome.code.reason, outcome.message)
        # Others may have taken the last place while the token was verified.
        return self._refuse_all() or (Upgrade(answer.subprotocol), outcome)

    def _refuse_all(self) -> HttpRefusal | None:
        """Refuse whoever comes now, if nobody can be let in."""
        if self.draining:
            return self._refuse(503, "draining", "The server is shutting down.")
        if len(self._devices) + self._opening >= self._settings.max_connections:
            return self._refuse(
                503, "too-many-connections", "The server has as many connections as it can hold."
            )
        return None

    def _no_engine(self) -> Rejection | None:
        reason = self._engine.unavailable()
        return None if reason is None else Rejection(CloseCode.TRY_AGAIN_LATER, reason)

    def _refuse(self, status: int, identifier: str, message: str) -> HttpRefusal:
        self.metrics.handshake_refused(status)
        return http_refusal(status, identifier, message)

    async def verify(self, token: str) -> Session | Rejection:
        """Verify an access token, no longer than ``auth-timeout``."""
        try:
            with trio.move_on_after(self.limits.auth_timeout):
                return await self._verifier.verify(token)
        except TokenRejectedError as error:
            return Rejection(CloseCode.UNAUTHORIZED, error.message)
        except VerifierUnavailableError:
            pass
        return Rejection(CloseCode.TRY_AGAIN_LATER, "Tokens can't be verified just now.")

    def refusal(self, session: Session, *, renewal: bool) -> Rejection | None:
        """Why a session whose token holds may not begin; None if it may."""
        if self._revocations.is_revoked(session, self.clock.now()):
            return Rejection(CloseCode.FORBIDDEN, "This session was revoked.")
        limit = self._settings.max_connections_per_user
        if not renewal and self._router.count(session.user) >= limit:
            return Rejection(CloseCode.TOO_MANY, f"A user may have at most {limit} connections.")
        return None

    async def join(self, user: str, since: str | None, begin: Callable[[Position], None]) -> Rejection | None:
        """Follow the user's stream for one more device; see `DeviceHost.join`."""
        try:
            await self._engine.join(user, since, begin)
        except EngineUnavailableError as error:
            return Rejection(CloseCode.TRY_AGAIN_LATER, error.message)
        return None

    async def pause(self, user: str, act: Callable[[str], object]) -> Rejection | None:
        """Do something in a pause between events; see `DeviceHost.pause`."""
        try:
            await self._engine.pause(user, act)
        except EngineUnavailableError as error:
            return Rejection(CloseCode.TRY_AGAIN_LATER, error.message)
        return None

    def enter(self, device: Device, session: Session) -> None:
        """Ask this device about the events of its user from now on."""
        self._router.add(session.user, device)

    def leave(self, device: Device) -> None:
        """Ask this device no more; it has ended, or is about to."""
        session = device.session
        if session is not None and self._router.remove(session.user, device):
            self._engine.leave(session.user)

    # --- events ---

    def unavailable(self) -> str | None:
        """Why nothing should be sent here now, as a sentence; None if the node is ready."""
        if self.draining:
            return "The server is shutting down."
        if not self._verifier.ready:
            return "The keys that access tokens are verified with have not been fetched yet."
        return self._engine.unavailable()

    async def publish(self, events: Sequence[Event]) -> Receipt:
        """Accept events from a publisher.

        Raises:
            EngineUnavailableError: If they can't be accepted now.
        """
        receipt = await self._engine.publish(events)
        self.metrics.accepted((event.name for event in events), receipt.duplicates)
        return receipt

    async def disconnect(self, disconnect: Disconnect) -> int:
        """Close the connections of a user or group and refuse their tokens.

        Returns:
            How many connections were closed.

        Raises:
            EngineUnavailableError: If it can't be done now.
            TooManyRevocationsError: If no more revocations can be remembered.
        """
        return await self._engine.disconnect(disconnect)

    async def route(self, entries: Sequence[Entry], accepted_at: float) -> None:
        """Deliver events to the devices that want them; see `localful_ws.engine.Subscriber`."""
        self.watching.tell(entries)
        await self._delivery.deliver(entries)
        self.metrics.publish_to_write.observe(trio.current_time() - accepted_at, len(entries))

    def lose(self, user: str) -> None:
        """Close a user's devices, which missed something; see `localful_ws.engine.Subscriber`."""
        self.watching.lose(user)
        for device in self._router.devices_of(user):
            device.close(CloseCode.MISSED_EVENTS)

    def _end_of_life(self, event: Event, devices: Sequence[Device]) -> None:
        for device in devices:
            device.event_passed(event)

    def apply_disconnect(self, disconnect: Disconnect) -> int:
        """Close and refuse; see `localful_ws.engine.Subscriber`."""
        self._revoke(disconnect)
        if not disconnect.close:
            return 0
        closed = 0
        for device in self._named(disconnect):
            if device.state is State.AUTHENTICATED:
                device.close(CloseCode.FORBIDDEN)
                closed += 1
        return closed

    def recall(self, disconnects: Sequence[Disconnect]) -> None:
        """Refuse and close whom past disconnects name; see `localful_ws.engine.Subscriber`."""
        for disconnect in disconnects:
            try:
                self._revoke(disconnect)
            except TooManyRevocationsError:
                _log.warning("not all revocations can be remembered: max-revocations is reached")
                break
        now = self.clock.now()
        for device in self._router:
            if device.session is not None and self._revocations.is_revoked(device.session, now):
                device.close(CloseCode.FORBIDDEN)

    def _named(self, disconnect: Disconnect) -> Iterable[Device]:
        if disconnect.user is not None:
            return self._router.devices_of(disconnect.user)
        return [
            device
            for device in self._router
            if device.session is not None and device.session.group == disconnect.group
        ]

    def _revoke(self, disconnect: Disconnect) -> None:
        now, until = self.clock.now(), disconnect.until
        if disconnect.user is not None:
            self._revocations.revoke_user(disconnect.user, issued_before=disconnect.at, until=until, now=now)
        elif disconnect.group is not None:
            self._revocations.revoke_group(disconnect.group, until=until, now=now)

    # --- the end ---

    async def drain(self, seconds: float) -> None:
        """Refuse new connections and close every device, spread over half of ``seconds``.

        Returns when all are gone or ``seconds`` are over.
        """
        self.draining = True
        self.watching.end()
        with trio.move_on_after(seconds):
            await self._close_spread(tuple(self._devices), seconds / 2)
            while self._devices:
                self._all_gone = trio.Event()
                await self._all_gone.wait()

    async def _close_spread(self, devices: Sequence[Device], seconds: float) -> None:
        steps = max(1, min(len(devices), math.ceil(seconds * _CLOSINGS_A_SECOND)))
        started = trio.current_time()
        for step in range(steps):
            if step:
                await trio.sleep_until(started + seconds * step / steps)
            for device in devices[step::steps]:
                device.close(CloseCode.SERVER_SHUTDOWN)

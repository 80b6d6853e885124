"""The device's side on Trio: a `Conversation`, driven over trio-websocket."""

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Self

import trio
from attrs import frozen
from trio_websocket import CloseReason, ConnectionClosed, ConnectionRejected, WebSocketConnection
from wsproto.utilities import LocalProtocolError as WebSocketMisuseError

from localful_ws.client.codec import ReceivedEvent
from localful_ws.client.conversation import ClientState, Conversation, Decision, GiveUp
from localful_ws.client.endpoint import Endpoint
from localful_ws.client.errors import (
    ClientClosedError,
    NoAnswerError,
    RequestRefusedError,
    ServerMessageError,
    TokenUnavailableError,
)
from localful_ws.client.inbox import Inbox
from localful_ws.client.reconnect import LOST
from localful_ws.client.resuming import SnapshotNeeded
from localful_ws.client.status import Connected, Disconnected, Refused, RenewalFailed, Status, Timeouts
from localful_ws.client.websocket import ConnectionLostError, open_websocket
from localful_ws.protocol import Authenticated, CloseCode, Error, Reauthenticate, Session, Subscribed

GetToken = Callable[[], str | Awaitable[str]]
"""Gives an access token: called before each connection, and when the server asks for a renewal."""


@frozen
class ClientOptions:
    """What a client needs to know of its surroundings; see `localful_ws.client.open_client`."""

    endpoint: Endpoint
    get_token: GetToken
    open_stream: Callable[[], Awaitable[trio.abc.Stream]]
    timeouts: Timeouts
    buffered_events: int
    max_message_bytes: int
    on_status: Callable[[Status], None]
    draw: Callable[[], float]


class Client:
    """A device: iterate over it for its events. `localful_ws.client.open_client` makes one.

    Each event that concerns the device is handed over once, in the order in which the server accepted them,
    however often the connection breaks: a new one resumes where the last one ended. Where that can't be, and
    at the very beginning unless ``since`` said where to begin, a `SnapshotNeeded` comes in its place among
    the events.

    Iteration ends with `ClosedByServerError` or another `ClientError` when there is no coming back, or with
    what ``get_token`` raised; events that came before are handed over first. It simply ends when the client
    is closed from our side.
    """

    def __init__(self, options: ClientOptions, vaults: Iterable[str], since: str | None) -> None:
        self._options = options
        self._timeouts = options.timeouts
        self._conversation = Conversation(vaults, since)
        self._inbox = Inbox(options.buffered_events)
        self._cursor = since
        self._talk: trio.CancelScope | None = None
        self._ended = trio.Event()
        self._failure: Exception | None = None
        self._changed = trio.Event()
        # Says "there is something to send"; saying it twice is no more than saying it once.
        self._to_send, self._sending = trio.open_memory_channel[None](1)

    @property
    def session(self) -> Session | None:
        """The session in force; None while not connected."""
        return self._conversation.session

    @property
    def vaults(self) -> tuple[str, ...]:
        """The subscription that the server confirmed last."""
        return self._conversation.vaults

    @property
    def cursor(self) -> str | None:
        """The position up to which everything has been handed over; None where the server keeps no history.

        Store it once what was handed over last has been dealt with, best in the same transaction, and pass it
        as ``since`` to the next client: it goes on from there. It moves when an event or a `SnapshotNeeded`
        is handed over, and now and then while the next one is waited for.
        """
        return self._cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedEvent | SnapshotNeeded:
        while True:
            try:
                arrival = await self._inbox.take()
            except trio.EndOfChannel:
                raise self._failure or StopAsyncIteration from None
            self._cursor = arrival.cursor
            if arrival.content is not None:
                return arrival.content

    async def wait_ready(self) -> Session:
        """Wait until the device is authenticated: its events arrive from then on. Bound it as you see fit.

        Raises:
            ClientError: If the client has ended; see the class.
        """
        while self.session is None:
            await self._wait_for_change()
        return self.session

    async def subscribe(self, vaults: Iterable[str]) -> tuple[str, ...]:
        """Replace the subscription, and wait until it is in force.

        While there is no connection the wish goes along with the next. The answer comes behind the events
        that are under way: let another task read those meanwhile, if they may be more than are buffered.

        A vault that was not in the subscription before needs a snapshot, fetched after this returns; there is
        no `SnapshotNeeded` for it. If the answer came with a connection that resumed, older events of such a
        vault may be handed over as well: what happened in any of the vaults wanted since the last event.

        Args:
            vaults: Every vault whose data events are wanted.

        Returns:
            The subscription now in force.

        Raises:
            RequestRefusedError: If the server refuses it; the earlier one stays.
            NoAnswerError: If no answer comes in time. The wish stands.
            ClientError: If the client has ended; see the class.
        """
        request = self._conversation.subscribe(vaults)
        _remind(self._to_send)
        try:
            with trio.move_on_after(self._timeouts.answer):
                while request.outcome is None:
                    await self._wait_for_change()
        finally:
            self._conversation.forget(request)
        match request.outcome:
            case Subscribed(vaults=in_force):
                return in_force
            case Error(code=code, message=message):
                raise RequestRefusedError(code, message)
        raise NoAnswerError("The server has not confirmed the subscription in time.")

    async def run(self) -> None:
        """Connect, and connect again, until there is no coming back. `open_client` calls it."""
        try:
            await self._stay_connected()
        except Exception as error:
            # Such as what get_token raised. It belongs to whoever iterates.
            self._failure = error
        finally:
            self._conversation.close()
            self._inbox.close()
            self._tell_change()
            self._ended.set()

    async def aclose(self) -> None:
        """Say goodbye to the server, in bounded time. `open_client` calls it."""
        self._conversation.close()
        self._tell_change()
        if self._talk is not None:
            self._talk.cancel()
            await self._ended.wait()

    async def _stay_connected(self) -> None:
        while True:
            # A connection that nobody reads from would soon be given up again.
            await self._inbox.wait_for_room()
            decision = await self._connect_once()
            self._tell_change()
            if isinstance(decision, GiveUp):
                self._failure = decision.error
                return
            self._options.on_status(
                Disconnected(decision.code, decision.reason, decision.message, decision.delay)
            )
            await trio.sleep(decision.delay)

    async def _connect_once(self) -> Decision:
        try:
            token = await self._fetch_token()
        except TokenUnavailableError as error:
            return self._lost(str(error), code=None)
        return self._conversation.take_token(token) or await self._hold_connection()

    async def _hold_connection(self) -> Decision:
        """Connect and stay connected as long as can be; say what comes next."""
        decision: Decision | None = None
        try:
            async with trio.open_nursery() as nursery:
                websocket = await open_websocket(
                    nursery,
                    self._options.endpoint,
                    self._options.open_stream,
                    self._timeouts.connect,
                    self._options.max_message_bytes,
                )
                try:
                    with trio.CancelScope() as self._talk:
                        decision = await self._converse(websocket.connection, nursery)
                    await websocket.say_goodbye(_close_code(decision), self._timeouts.close)
                except ConnectionClosed as closed:
                    decision = self._closed(closed.reason)
                finally:
                    self._talk = None
                    await websocket.drop()
                    nursery.cancel_scope.cancel()
        except* ConnectionRejected as rejections:
            rejection = _first(rejections)
            decision = self._conversation.handshake_refused(
                rejection.status_code, rejection.body or b"", self._options.draw()
            )
        except* ConnectionLostError as losses:
            decision = self._lost(str(_first(losses)), code=None)
        return decision or self._lost("The server fell silent.")

    async def _converse(self, connection: WebSocketConnection, nursery: trio.Nursery) -> Decision:
        self._conversation.connection_opened()
        _remind(self._to_send)
        nursery.start_soon(self._send, connection)
        to_renew, renewing = trio.open_memory_channel[None](1)
        nursery.start_soon(self._renew, renewing)
        nursery.start_soon(self._keep_alive, connection, nursery)
        first_answer_due = trio.current_time() + self._timeouts.answer
        try:
            while True:
                await self._inbox.wait_for_room()
                authenticating = self._conversation.state is ClientState.AUTHENTICATING
                message: str | bytes | None = None
                with trio.move_on_at(first_answer_due if authenticating else math.inf):
                    message = await connection.get_message()
                if message is None:
                    return self._lost("The server did not answer in time.")
                self._take(message, to_renew)
        except ServerMessageError as error:
            return self._conversation.server_misbehaved(error)

    def _take(self, message: str | bytes, to_renew: trio.MemorySendChannel[None]) -> None:
        if isinstance(message, bytes):
            raise ServerMessageError("The server sent a binary message.")
        said = self._conversation.receive_text(message)
        for arrival in self._conversation.take_arrivals():
            self._inbox.put(arrival)
        _remind(self._to_send)
        match said:
            case ReceivedEvent():
                return
            case Authenticated():
                session = Session(said.user, said.group, said.expires_at)
                self._options.on_status(Connected(session, said.vaults, said.resumed))
            case Error():
                self._options.on_status(Refused(said.code, said.message))
            case Reauthenticate():
                _remind(to_renew)
        self._tell_change()

    async def _send(self, connection: WebSocketConnection) -> None:
        """Send what is to be sent, in this task only: a send that is cancelled would spoil the connection."""
        async for _ in self._sending:
            for text in self._conversation.take_outgoing():
                try:
                    await connection.send_message(text)
                except (ConnectionClosed, WebSocketMisuseError):
                    # Whoever receives is told as well, and knows the code.
                    return

    async def _renew(self, renewing: trio.MemoryReceiveChannel[None]) -> None:
        async for _ in renewing:
            try:
                self._conversation.renew(await self._fetch_token())
            except Exception as error:
                self._options.on_status(RenewalFailed(error))
            else:
                _remind(self._to_send)

    async def _keep_alive(self, connection: WebSocketConnection, nursery: trio.Nursery) -> None:
        """Find out about a server that is gone without a word."""
        while True:
            await trio.sleep(self._timeouts.ping_interval)
            with trio.move_on_after(self._timeouts.ping) as waiting:
                try:
                    await connection.ping()
                except (ConnectionClosed, WebSocketMisuseError):
                    return
            if waiting.cancelled_caught:
                nursery.cancel_scope.cancel()
                return

    async def _fetch_token(self) -> str:
        with trio.move_on_after(self._timeouts.token):
            token = self._options.get_token()
            if inspect.isawaitable(token):
                token = await token
            if not isinstance(token, str):
                raise TypeError(f"get_token must give a string, not {type(token).__name__}.")
            return token
        raise TokenUnavailableError("There is no token: get_token took too long.")

    async def _wait_for_change(self) -> None:
        if self._conversation.state is ClientState.ENDED:
            raise self._failure or ClientClosedError("The client has been closed.")
        await self._changed.wait()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _closed(self, reason: CloseReason | None) -> Decision:
        if reason is None:
            return self._lost("The connection broke.")
        return self._lost("The server closed the connection.", code=reason.code, reason=reason.reason or "")

    def _lost(self, message: str, *, code: int | None = LOST, reason: str = "") -> Decision:
        return self._conversation.connection_lost(code, reason, message, self._options.draw())


def _close_code(decision: Decision | None) -> CloseCode:
    misbehaved = isinstance(decision, GiveUp) and isinstance(decision.error, ServerMessageError)
    return CloseCode.PROTOCOL_ERROR if misbehaved else CloseCode.NORMAL


def _first(group: BaseExceptionGroup[Any]) -> Any:
    """The first exception in a group, however deep."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _remind(channel: trio.MemorySendChannel[None]) -> None:
    with suppress(trio.WouldBlock):
        channel.send_nowait(None)

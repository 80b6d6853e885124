"""The device's side on Trio or asyncio: a `Conversation`, driven over a `WebSocket`."""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Self

import anyio
from anyio.abc import ByteStream, TaskGroup
from attrs import frozen

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
from localful_ws.client.waking import Reminder, Signal
from localful_ws.client.websocket import (
    ConnectionLostError,
    HandshakeRefusedError,
    WebSocket,
    WebSocketClosedError,
    open_websocket,
)
from localful_ws.protocol import Authenticated, CloseCode, Error, Reauthenticate, Session, Subscribed

GetToken = Callable[[], str | Awaitable[str]]
"""Gives an access token: called before each connection, and when the server asks for a renewal."""


@frozen
class ClientOptions:
    """What a client needs to know of its surroundings; see `localful_ws.client.open_client`."""

    endpoint: Endpoint
    get_token: GetToken
    open_stream: Callable[[], Awaitable[ByteStream]]
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
        self._talk: anyio.CancelScope | None = None
        self._has_ended = False
        self._failure: Exception | None = None
        self._changed = Signal()
        self._to_send = Reminder()

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
            except anyio.EndOfStream:
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
        self._to_send.remind()
        try:
            with anyio.move_on_after(self._timeouts.answer):
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
            self._has_ended = True
            self._changed.notify()

    async def aclose(self) -> None:
        """Say goodbye to the server, in bounded time. `open_client` calls it."""
        self._conversation.close()
        self._changed.notify()
        if self._talk is not None:
            self._talk.cancel()
            while not self._has_ended:
                await self._changed.wait()

    async def _stay_connected(self) -> None:
        while True:
            # A connection that nobody reads from would soon be given up again.
            await self._inbox.wait_for_room()
            decision = await self._connect_once()
            self._changed.notify()
            if isinstance(decision, GiveUp):
                self._failure = decision.error
                return
            self._options.on_status(
                Disconnected(decision.code, decision.reason, decision.message, decision.delay)
            )
            await anyio.sleep(decision.delay)

    async def _connect_once(self) -> Decision:
        try:
            token = await self._fetch_token()
        except TokenUnavailableError as error:
            return self._lost(str(error), code=None)
        return self._conversation.take_token(token) or await self._hold_connection()

    async def _hold_connection(self) -> Decision:
        """Connect and stay connected as long as can be; say what comes next."""
        try:
            websocket = await open_websocket(
                self._options.endpoint,
                self._options.open_stream,
                connect_timeout=self._timeouts.connect,
                close_timeout=self._timeouts.close,
                max_message_bytes=self._options.max_message_bytes,
            )
        except HandshakeRefusedError as refusal:
            return self._conversation.handshake_refused(refusal.status, refusal.body, self._options.draw())
        except ConnectionLostError as error:
            return self._lost(str(error), code=None)
        decision: Decision | None = None
        try:
            async with anyio.create_task_group() as tasks:
                try:
                    with anyio.CancelScope() as self._talk:
                        decision = await self._converse(websocket, tasks)
                finally:
                    self._talk = None
                await websocket.say_goodbye(_close_code(decision))
                tasks.cancel_scope.cancel()
        finally:
            await websocket.drop()
        return decision or self._lost("The server fell silent.")

    async def _converse(self, websocket: WebSocket, tasks: TaskGroup) -> Decision:
        self._conversation.connection_opened()
        self._to_send.remind()
        to_renew = Reminder()
        tasks.start_soon(self._send, websocket)
        tasks.start_soon(self._renew, to_renew)
        tasks.start_soon(self._keep_alive, websocket, tasks)
        try:
            with anyio.move_on_after(self._timeouts.answer):
                while self._conversation.state is ClientState.AUTHENTICATING:
                    await self._receive(websocket, to_renew)
            if self._conversation.state is ClientState.AUTHENTICATING:
                return self._lost("The server did not answer in time.")
            while True:
                await self._receive(websocket, to_renew)
        except WebSocketClosedError as closed:
            return self._lost(str(closed), code=closed.code, reason=closed.reason)
        except ServerMessageError as error:
            return self._conversation.server_misbehaved(error)

    async def _receive(self, websocket: WebSocket, to_renew: Reminder) -> None:
        message = await websocket.receive()
        # If the connection ends meanwhile this message has not been received, and comes again with the next.
        await self._inbox.wait_for_room()
        if isinstance(message, bytes):
            raise ServerMessageError("The server sent a binary message.")
        said = self._conversation.receive_text(message)
        for arrival in self._conversation.take_arrivals():
            self._inbox.put(arrival)
        match said:
            case ReceivedEvent():
                return
            case Authenticated():
                session = Session(said.user, said.group, said.expires_at)
                self._options.on_status(Connected(session, said.vaults, said.resumed))
            case Error():
                self._options.on_status(Refused(said.code, said.message))
            case Reauthenticate():
                to_renew.remind()
        self._to_send.remind()
        self._changed.notify()

    async def _send(self, websocket: WebSocket) -> None:
        """Send what is to be sent, in this task only: a send that is cancelled would spoil the connection."""
        while True:
            await self._to_send.wait()
            for text in self._conversation.take_outgoing():
                try:
                    await websocket.send(text)
                except WebSocketClosedError:
                    # Whoever receives is told as well, and knows the code.
                    return

    async def _renew(self, to_renew: Reminder) -> None:
        while True:
            await to_renew.wait()
            try:
                self._conversation.renew(await self._fetch_token())
            except Exception as error:
                self._options.on_status(RenewalFailed(error))
            else:
                self._to_send.remind()

    async def _keep_alive(self, websocket: WebSocket, tasks: TaskGroup) -> None:
        """Find out about a server that is gone without a word."""
        while True:
            await anyio.sleep(self._timeouts.ping_interval)
            with anyio.move_on_after(self._timeouts.ping) as waiting:
                try:
                    await websocket.ping()
                except WebSocketClosedError:
                    return
            if waiting.cancelled_caught:
                tasks.cancel_scope.cancel()
                return

    async def _fetch_token(self) -> str:
        with anyio.move_on_after(self._timeouts.token):
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

    def _lost(self, message: str, *, code: int | None = LOST, reason: str = "") -> Decision:
        return self._conversation.connection_lost(code, reason, message, self._options.draw())


def _close_code(decision: Decision | None) -> CloseCode:
    misbehaved = isinstance(decision, GiveUp) and isinstance(decision.error, ServerMessageError)
    return CloseCode.PROTOCOL_ERROR if misbehaved else CloseCode.NORMAL

"""Connections that break anywhere, and a server that keeps its promises: once each, in order, or a notice."""

import json

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from localful_ws.client import ReceivedEvent, SnapshotNeeded
from localful_ws.client.conversation import ClientState, ComeBack, Conversation
from localful_ws.client.resuming import Arrival
from tests.client.model_server import ModelServer, Published

STEADY, LOOSE = "steady", "loose"
"""A vault that is wanted all the time, and one that comes and goes."""

some_events = st.lists(
    st.sampled_from(
        [
            Published(name, vault, own)
            for own in (False, True)
            for name, vault in (
                ("user-update", None),
                ("vault-update", LOOSE),
                ("vault-delete", LOOSE),
                ("item-create", STEADY),
                ("item-create", LOOSE),
                ("item-create", "never wanted"),
            )
        ]
    ),
    min_size=1,
    max_size=5,
)


def is_due(event: Published) -> bool:
    """Whether the device has to be told, whatever it subscribed to otherwise."""
    return not event.own and event.content_of in (None, STEADY)


class Device(RuleBasedStateMachine):
    """One device: published to, connected, cut off; what it hands over is checked as it comes.

    ``behind`` is the position up to which everything has been handed over, None before the first notice, and
    ``cursor`` what came with it.
    """

    @initialize(before=some_events, position=st.none() | st.integers(0, 5))
    def begin(self, before: list[Published], position: int | None) -> None:
        self.server = ModelServer()
        self.server.publish(*before)
        self.behind = None if position is None else min(position, len(before))
        self.cursor = None if self.behind is None else self.server.cursor(self.behind)
        self.conversation = Conversation([STEADY, LOOSE], self.cursor)
        self.tokens = 0

    def is_connected(self) -> bool:
        return self.conversation.state is not ClientState.DISCONNECTED

    def next_token(self) -> str:
        self.tokens += 1
        return f"token-{self.tokens}"

    @rule(events=some_events)
    def publish(self, events: list[Published]) -> None:
        self.server.publish(*events)

    @precondition(lambda self: not self.is_connected())
    @rule(vain=st.sampled_from([False, False, False, True]))
    def connect(self, *, vain: bool) -> None:
        assert self.conversation.take_token(self.next_token()) is None
        self.conversation.connection_opened()
        if vain:
            self.cut(1006)
        else:
            self.reach_the_server()

    @precondition(is_connected)
    @rule(wanted=st.booleans())
    def subscribe(self, *, wanted: bool) -> None:
        self.conversation.subscribe([STEADY, LOOSE] if wanted else [STEADY])
        self.reach_the_server()

    @precondition(is_connected)
    @rule(lag=st.integers(0, 3))
    def renew(self, lag: int) -> None:
        self.server.lag = lag
        self.conversation.renew(self.next_token())
        self.reach_the_server()

    def reach_the_server(self) -> None:
        for text in self.conversation.take_outgoing():
            said = json.loads(text)
            if self.server.vaults is None:
                assert said.get("since") == self.cursor
            self.server.take(said)

    @precondition(lambda self: self.server.under_way)
    @rule(count=st.integers(1, 4))
    def arrive(self, count: int) -> None:
        arriving = self.server.under_way[:count]
        del self.server.under_way[:count]
        for message in arriving:
            begins = self.conversation.state is ClientState.AUTHENTICATING
            self.conversation.receive_text(json.dumps(message))
            arrivals = self.conversation.take_arrivals()
            if begins:
                notices = 0 if message.get("resumed") else 1
                assert [type(arrival.content) for arrival in arrivals] == [SnapshotNeeded] * notices
            for arrival in arrivals:
                self.hand_over(arrival)

    @precondition(is_connected)
    @rule(code=st.sampled_from([1001, 1006, 4412, 4413]))
    def cut(self, code: int) -> None:
        self.server.cut()
        assert isinstance(self.conversation.connection_lost(code, "", "It broke.", 1.0), ComeBack)

    @rule(kept=st.none() | st.integers(0, 30))
    def lose_history(self, kept: int | None) -> None:
        if kept is not None:
            self.server.reach = max(self.server.reach, len(self.server.stream) - kept)
            return
        if self.is_connected():
            self.cut(4413)
        self.server.lose_stream()

    def hand_over(self, arrival: Arrival) -> None:
        stream = self.server.stream
        self.cursor = arrival.cursor
        match arrival.content:
            case SnapshotNeeded(cursor=cursor, vaults=vaults):
                assert STEADY in vaults
                assert cursor == arrival.cursor
                self.behind = self.server.position(cursor or "")
            case ReceivedEvent(event=name, vault=vault, data=position):
                assert self.behind is not None
                assert position > self.behind
                event = stream[position - 1]
                assert (event.name, event.vault, event.own) == (name, vault, False)
                assert event.content_of != "never wanted"
                self.skip_to(position - 1)
                self.behind = position
                assert arrival.cursor == self.server.cursor(position)
            case None:
                self.skip_to(self.server.position(arrival.cursor or ""))

    def skip_to(self, position: int) -> None:
        """What is passed over must not have been due."""
        assert self.behind is not None
        assert self.behind <= position
        assert not any(map(is_due, self.server.stream[self.behind : position]))
        self.behind = position

    def teardown(self) -> None:
        if not hasattr(self, "server"):
            return
        if not self.is_connected():
            self.connect(vain=False)
        self.reach_the_server()
        self.arrive(len(self.server.under_way))
        self.skip_to(len(self.server.stream))


Device.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDevice = Device.TestCase

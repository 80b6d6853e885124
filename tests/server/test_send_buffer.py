"""What waits to be sent: bounded for one and for all, counted once, and in the end nothing is left of it."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from attrs import Factory, define
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from localful_ws.protocol import close_frame, text_frame
from localful_ws.server.send_buffer import (
    Piece,
    SendBudget,
    SendBuffer,
    SendLimits,
    piece_of,
    pieces_of,
)
from localful_ws.server.timers import Timed, Timers
from tests.raw_device import parse_frames

NOW = 1_700_000_000.0
TIMEOUT = 30.0
OVERHEAD = 256
CLOSE = close_frame(4412, "slow-consumer")
FIRST, SECOND, THIRD = (text_frame(letter * 100) for letter in (b"1", b"2", b"3"))


class Alarm(Timers):
    """Timers that only note what is asked of them."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def set(self, timed: Timed, due: float) -> None:
        timed.due = due
        self.moments.append(due)


def make_budget(
    events: int = 1000, size: int = 1_000_000, node_bytes: int = 1_000_000
) -> tuple[SendBudget, Alarm]:
    alarm = Alarm()
    return SendBudget(SendLimits(events, size, node_bytes, TIMEOUT), alarm), alarm


@define(eq=False)
class Slowpoke:
    """Somebody who gets something, and is told when it is too slow; what a device does with its buffer.

    Attributes:
        budget: The budget.
        told: The names of those who were told to go, in this order.
        name: Its own.
        buffer: What waits for it.
        got: What it has got.
        frames: Frame by frame, what was sent to it and not forgotten.
        gone: Whether it was told to go.
        dropped: Whether it was dropped.
    """

    budget: SendBudget
    told: list[str] = Factory(list)
    name: str = ""
    buffer: SendBuffer | None = None
    got: bytearray = Factory(bytearray)
    frames: list[bytes] = Factory(list)
    gone: bool = False
    dropped: bool = False

    def send(self, *pieces: Piece, sent: int = 0, now: float = NOW) -> None:
        for piece in pieces:
            if self.buffer is None:
                self.buffer = self.budget.open(self, now)
                self.got += piece.data[:sent]
                self.budget.add(self.buffer, piece, sent)
            else:
                self.budget.add(self.buffer, piece)

    def take(self, size: int, now: float = NOW) -> None:
        """Let the kernel take some of what waits."""
        assert self.buffer is not None
        data = b"".join(self.buffer.head())[:size]
        self.got += data
        self.budget.sent(self, self.buffer, len(data), now)
        if not self.buffer.pieces:
            self.close()

    def close(self) -> None:
        assert self.buffer is not None
        self.budget.close(self, self.buffer)
        self.buffer = None

    def close_slow_consumer(self) -> None:
        if self.gone:
            self.abort()
            return
        assert self.buffer is not None
        self.budget.give_up(self, self.buffer)
        self.gone = True
        self.told.append(self.name)
        self.budget.add(self.buffer, piece_of(CLOSE))

    def abort(self) -> None:
        assert self.gone
        self.dropped = True
        self.close()


# --- pieces ---


def frames_of(piece: Piece) -> list[bytes]:
    return [bytes(piece.data[start:end]) for start, end in pairwise([0, *piece.ends])]


def test_a_piece_of_one_frame_is_the_frame() -> None:
    for frame in (FIRST, memoryview(FIRST)):
        piece = piece_of(frame)
        assert piece.data is frame
        assert (list(piece.ends), piece.holders) == ([102], 0)


def test_a_slice_of_something_kept_elsewhere_costs_no_more_than_what_is_around_it() -> None:
    assert piece_of(FIRST).cost == OVERHEAD + len(FIRST)
    assert piece_of(memoryview(FIRST)).cost == OVERHEAD


def test_short_frames_travel_together() -> None:
    (piece,) = pieces_of([FIRST, memoryview(SECOND), THIRD])
    assert piece.data == FIRST + SECOND + THIRD
    assert list(piece.ends) == [102, 204, 306]


def test_of_one_frame_alone_no_copy_is_made() -> None:
    (piece,) = pieces_of([FIRST])
    assert piece.data is FIRST
    assert pieces_of([]) == []


def test_of_long_frames_no_copy_is_made() -> None:
    short, long = text_frame(b"x" * 4092), text_frame(b"y" * 4093)
    assert (len(short), len(long)) == (4096, 4097)
    pieces = pieces_of([FIRST, long, short, SECOND, memoryview(long), long])
    assert [frames_of(piece) for piece in pieces] == [[FIRST], [long], [short, SECOND], [long], [long]]
    assert pieces[0].data is FIRST
    assert pieces[1].data is pieces[4].data is long


def test_a_piece_has_at_most_65536_bytes() -> None:
    frame = text_frame(b"x" * 1020)
    assert len(frame) == 1024
    assert [len(piece.ends) for piece in pieces_of([frame] * 64)] == [64]
    assert [len(piece.ends) for piece in pieces_of([frame] * 130)] == [64, 64, 2]
    assert [len(piece.ends) for piece in pieces_of([*[frame] * 63, FIRST, frame])] == [64, 1]


@given(st.lists(st.binary(max_size=9000).map(text_frame), max_size=30), st.booleans())
@settings(max_examples=100, deadline=None)
def test_pieces_are_the_frames_in_their_order(
    frames: list[bytes],
    slices: bool,  # noqa: FBT001 - Hypothesis names it
) -> None:
    pieces = pieces_of([memoryview(frame) for frame in frames] if slices else frames)
    assert [frame for piece in pieces for frame in frames_of(piece)] == frames
    assert all(len(piece.data) <= 65536 for piece in pieces)


# --- one buffer ---


def test_what_waits_is_counted() -> None:
    budget, _ = make_budget()
    one = Slowpoke(budget)
    one.send(piece_of(FIRST), sent=30)
    assert one.buffer is not None
    assert (one.buffer.frames, one.buffer.size, one.buffer.since) == (1, 72, NOW)
    one.send(*pieces_of([SECOND, THIRD]))
    assert (one.buffer.frames, one.buffer.size) == (3, 276)
    assert budget.bytes == 2 * OVERHEAD + 306
    assert (budget.peak_events, budget.peak_bytes) == (3, 276)


def test_the_peaks_are_those_of_one_and_stay() -> None:
    budget, _ = make_budget()
    one, other = Slowpoke(budget), Slowpoke(budget)
    one.send(piece_of(FIRST), piece_of(SECOND))
    other.send(piece_of(FIRST + SECOND + THIRD))
    assert (budget.peak_events, budget.peak_bytes) == (2, 306)
    one.close()
    other.close()
    assert (budget.peak_events, budget.peak_bytes, budget.bytes) == (2, 306, 0)


@pytest.mark.parametrize(("events", "size"), [(3, 10_000), (1000, 3 * len(FIRST))])
def test_the_bounds_of_one(events: int, size: int) -> None:
    budget, _ = make_budget(events, size)
    one = Slowpoke(budget)
    for _ in range(3):
        assert one.buffer is None or not budget.is_over(one.buffer)
        one.send(piece_of(FIRST))
    assert one.buffer is not None
    assert budget.is_over(one.buffer)
    one.take(len(FIRST))
    assert not budget.is_over(one.buffer)


def test_what_is_handed_to_the_kernel() -> None:
    budget, _ = make_budget()
    one = Slowpoke(budget)
    one.send(*(piece_of(FIRST) for _ in range(200)), sent=7)
    assert one.buffer is not None
    head = one.buffer.head()
    assert len(head) == 64
    assert head[0] == FIRST[7:]
    assert all(data is FIRST for data in head[1:])


@pytest.mark.parametrize("step", [1, 7, 101, 102, 103, 205, 10_000])
def test_what_is_sent_over_the_borders_of_pieces(step: int) -> None:
    budget, _ = make_budget()
    one = Slowpoke(budget)
    pieces = [piece_of(FIRST), Piece(SECOND + THIRD, (102, 204)), piece_of(memoryview(FIRST))]
    one.send(*pieces)
    whole = FIRST + SECOND + THIRD + FIRST
    while (buffer := one.buffer) is not None:
        one.take(step)
        gone = min(len(one.got), len(whole))
        assert one.got == whole[:gone]
        assert buffer.size == len(whole) - gone
        begun = [piece for piece, end in zip(pieces, (102, 306, 408), strict=True) if gone < end]
        assert list(buffer.pieces) == begun
        assert buffer.frames == sum(len(piece.ends) for piece in begun)
        assert [piece.holders for piece in pieces] == [1 if piece in begun else 0 for piece in pieces]
    assert budget.bytes == 0


# --- all of them ---


def test_what_several_wait_for_is_counted_once() -> None:
    budget, _ = make_budget()
    several = [Slowpoke(budget) for _ in range(5)]
    shared = piece_of(FIRST)
    for each in several:
        each.send(shared)
    assert (budget.bytes, shared.holders) == (shared.cost, 5)
    several[0].take(50)
    several[1].take(102)
    several[2].close()
    assert (budget.bytes, shared.holders) == (shared.cost, 3)
    for each in several:
        if each.buffer is not None:
            each.take(102)
    assert (budget.bytes, shared.holders) == (0, 0)


def test_when_it_is_short() -> None:
    budget, _ = make_budget(node_bytes=1000)
    for size, short in ((900, False), (901, True), (1000, True)):
        one = Slowpoke(budget)
        one.send(piece_of(b"x" * (size - OVERHEAD)))
        assert (budget.is_short, one.gone) == (short, False)
        one.close()


def test_who_has_not_read_for_longest_gives_way() -> None:
    budget, _ = make_budget(node_bytes=7 * (OVERHEAD + 102))
    told: list[str] = []
    ada, bob, zoe = (Slowpoke(budget, told, name) for name in ("ada", "bob", "zoe"))
    ada.send(*(piece_of(FIRST) for _ in range(5)), now=NOW)
    bob.send(piece_of(FIRST), now=NOW + 1)
    zoe.send(piece_of(FIRST), now=NOW + 2)
    ada.take(50, NOW + 3)  # of a piece, that is none
    bob.take(50, NOW + 3)
    assert told == []
    bob.send(piece_of(SECOND))
    assert told == ["ada"]
    bob.send(piece_of(SECOND))
    assert told == ["ada"]
    # What ada had begun to get is kept, and the close after it.
    ada.take(1000)
    assert ada.got == FIRST + CLOSE


def test_who_has_read_comes_last() -> None:
    budget, _ = make_budget(node_bytes=6 * (OVERHEAD + 102))
    told: list[str] = []
    ada, bob, zoe = (Slowpoke(budget, told, name) for name in ("ada", "bob", "zoe"))
    for number, each in enumerate((ada, bob, zoe)):
        each.send(piece_of(FIRST), piece_of(SECOND), now=NOW + number)
    ada.take(102, NOW + 3)
    bob.take(103, NOW + 4)
    zoe.send(*(piece_of(FIRST) for _ in range(3)))
    assert told == ["zoe"]
    ada.send(*(piece_of(FIRST) for _ in range(5)))
    assert told == ["zoe", "ada"]
    assert not bob.gone


def test_whoever_asks_for_too_much_may_be_who_gives_way() -> None:
    budget, _ = make_budget(node_bytes=1000)
    one = Slowpoke(budget)
    one.send(piece_of(b"x" * 1000), sent=0)
    assert (one.gone, one.dropped) == (True, False)
    one.take(2000)
    assert one.got == CLOSE
    assert budget.bytes == 0


def test_as_many_give_way_as_it_takes() -> None:
    """Each is left in the middle of a frame. Those that were told to go and take room yet are dropped."""
    budget, _ = make_budget(node_bytes=2000 * (OVERHEAD + 102))
    told: list[str] = []
    several = [Slowpoke(budget, told, str(number)) for number in range(2000)]
    for each in several:
        each.send(piece_of(FIRST), sent=50)
    assert told == []
    last = Slowpoke(budget, told, "last")
    # What is left of the frame, and the close frame, take more than was given up.
    last.send(piece_of(SECOND))
    assert told == ["0"]
    assert several[0].dropped
    last.send(piece_of(b"x" * 200_000))
    assert told == list(map(str, range(len(told))))
    assert 200_000 < len(told) * (OVERHEAD + 102) < 203_000
    assert [each.dropped for each in several[: len(told)]] == [True] * len(told)
    assert (last.gone, budget.bytes <= 2000 * (OVERHEAD + 102)) == (False, True)


def test_a_great_many_give_way_to_one() -> None:
    budget, _ = make_budget(node_bytes=2000 * (OVERHEAD + 102))
    several = [Slowpoke(budget) for _ in range(2000)]
    for each in several:
        each.send(piece_of(FIRST))
    last = Slowpoke(budget)
    last.send(piece_of(b"x" * 1999 * (OVERHEAD + 102)))
    assert all(each.dropped for each in several)
    assert not last.gone


def test_those_who_gave_way_are_told_once_and_dropped_when_it_is_short_again() -> None:
    budget, _ = make_budget(node_bytes=1700)
    told: list[str] = []
    ada, bob = Slowpoke(budget, told, "ada"), Slowpoke(budget, told, "bob")
    ada.send(piece_of(b"x" * 900))
    bob.send(piece_of(b"x" * 900))
    assert (told, ada.dropped) == (["ada"], False)
    bob.send(piece_of(FIRST))
    assert (told, ada.dropped) == (["ada"], True)
    bob.close()
    assert budget.bytes == 0


# --- giving up ---


@pytest.mark.parametrize(
    ("gone", "kept"),
    [
        (0, b""),
        (1, FIRST[1:]),
        (101, FIRST[101:]),
        (102, b""),
        (103, SECOND[1:]),
        (203, SECOND[101:]),
        (204, b""),
        (205, THIRD[1:]),
        (306, b""),
        (307, FIRST[1:]),
    ],
)
@pytest.mark.parametrize("slices", [True, False])
def test_the_rest_of_a_torn_frame_is_kept(gone: int, kept: bytes, *, slices: bool) -> None:
    budget, _ = make_budget()
    one = Slowpoke(budget)
    joined = FIRST + SECOND + THIRD
    shared = Piece(memoryview(joined) if slices else joined, (102, 204, 306))
    one.send(shared, piece_of(FIRST), sent=min(gone, 305))
    if gone > 305:
        one.take(gone - 305)
    assert one.buffer is not None
    budget.give_up(one, one.buffer)
    assert (one.buffer.frames, one.buffer.size) == (1 if kept else 0, len(kept))
    assert one.buffer.head() == ([kept] if kept else [])
    assert budget.bytes == (OVERHEAD + 102 if kept else 0)
    assert shared.holders == 0
    budget.give_up(one, one.buffer)
    assert one.buffer.head() == ([kept] if kept else [])
    one.send(piece_of(CLOSE))
    one.take(1000)
    assert one.got == (joined + FIRST)[:gone] + kept + CLOSE
    assert budget.bytes == 0


def test_what_one_gives_up_another_still_waits_for() -> None:
    budget, _ = make_budget()
    one, other = Slowpoke(budget), Slowpoke(budget)
    shared = piece_of(FIRST)
    one.send(shared)
    other.send(shared)
    one.close_slow_consumer()
    assert shared.holders == 1
    assert budget.bytes == shared.cost + OVERHEAD + len(CLOSE)
    other.take(102)
    assert other.got == FIRST
    one.close()
    assert budget.bytes == 0


# --- the time ---


def test_what_is_first_has_its_time_to_leave() -> None:
    budget, alarm = make_budget()
    told: list[str] = []
    ada, bob, zoe = (Slowpoke(budget, told, name) for name in ("ada", "bob", "zoe"))
    ada.send(piece_of(FIRST), piece_of(FIRST), now=NOW)
    bob.send(piece_of(FIRST), now=NOW + 5)
    assert alarm.moments == [NOW + TIMEOUT]
    assert budget.time_passed(NOW + 29.9) == NOW + 30
    ada.take(102, NOW + 29.9)  # and has as much for the next one
    assert budget.time_passed(NOW + 30) == NOW + 35
    assert told == []
    assert budget.time_passed(NOW + 35) == NOW + 59.9
    assert told == ["bob"]
    zoe.send(piece_of(FIRST), now=NOW + 59.9)
    assert budget.time_passed(NOW + 89.9) is None
    assert told == ["bob", "ada", "zoe"]
    # Who was told to go is not told again.
    assert budget.time_passed(NOW + 1e6) is None


def test_the_time_is_kept_only_while_something_waits() -> None:
    budget, alarm = make_budget()
    assert (budget.time_passed(NOW), alarm.moments) == (None, [])
    one = Slowpoke(budget)
    one.send(piece_of(FIRST))
    one.close()
    budget.due = None  # as it is when it is called
    assert budget.time_passed(NOW + TIMEOUT) is None
    one.send(piece_of(FIRST), now=NOW + 100)
    assert alarm.moments == [NOW + TIMEOUT, NOW + 100 + TIMEOUT]


# --- anything, in any order ---

some_frames = st.lists(
    st.one_of(st.binary(max_size=30), st.binary(min_size=4090, max_size=4110)).map(text_frame),
    min_size=1,
    max_size=6,
)


class Budget(RuleBasedStateMachine):
    """Devices that are sent to, read, stall and go, under bounds so tight that they matter."""

    devices = Bundle("devices")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.budget, self.alarm = make_budget(5, 10_000, 25_000)
        self.told: list[str] = []
        self.everybody: list[Slowpoke] = []
        self.sent: list[Piece] = []

    @rule(target=devices)
    def comes(self) -> Slowpoke:
        device = Slowpoke(self.budget, self.told, str(len(self.everybody)))
        self.everybody.append(device)
        return device

    @rule(
        several=st.lists(devices, min_size=1, max_size=4, unique=True),
        frames=some_frames,
        slices=st.booleans(),
        taken=st.integers(0, 5000),
    )
    def sends(self, several: list[Slowpoke], frames: list[bytes], slices: Any, taken: int) -> None:
        """A batch, to several who share it; of the first piece the kernel takes some at once, never all."""
        pieces = pieces_of([memoryview(frame) for frame in frames] if slices else frames)
        self.sent += pieces
        for device in several:
            if device.buffer is not None and self.budget.is_over(device.buffer):
                device.close_slow_consumer()
            for piece in pieces:
                if not device.gone:
                    device.frames += frames_of(piece)
                    device.send(piece, sent=min(taken, len(pieces[0].data) - 1), now=self.now)

    @rule(device=devices, size=st.one_of(st.integers(1, 200), st.integers(1, 30_000)))
    def reads(self, device: Slowpoke, size: int) -> None:
        if device.buffer is not None and device.buffer.pieces:
            device.take(size, self.now)

    @rule(device=devices)
    def is_given_up(self, device: Slowpoke) -> None:
        if device.buffer is not None:
            device.close_slow_consumer()

    @rule(device=consumes(devices))
    def goes(self, device: Slowpoke) -> None:
        if device.buffer is not None:
            device.close()
        self.everybody.remove(device)

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 29.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.budget.due is not None and self.now >= self.budget.due:
            self.budget.due = None
            again = self.budget.time_passed(self.now)
            if again is not None:
                assert again > self.now
                self.alarm.set(self.budget, again)

    @invariant()
    def all_is_counted(self) -> None:
        waiting: dict[int, Piece] = {}
        for device in self.everybody:
            buffer = device.buffer
            if buffer is None:
                continue
            assert buffer.size == sum(len(piece.data) for piece in buffer.pieces) - buffer.offset
            assert buffer.frames == sum(len(piece.ends) for piece in buffer.pieces)
            assert 0 <= buffer.offset < (len(buffer.pieces[0].data) if buffer.pieces else 1)
            waiting |= {id(piece): piece for piece in buffer.pieces}
        assert self.budget.bytes == sum(piece.cost for piece in waiting.values())
        for piece in self.sent:
            assert piece.holders == sum(
                device.buffer is not None and piece in device.buffer.pieces for device in self.everybody
            )

    @invariant()
    def nobody_waits_too_long_or_for_too_much(self) -> None:
        staying = [device for device in self.everybody if device.buffer is not None and not device.gone]
        assert self.budget.bytes <= 25_000
        if staying:
            assert self.budget.due is not None
        for device in staying:
            assert device.buffer is not None
            assert self.now < device.buffer.since + TIMEOUT

    @invariant()
    def what_was_got_is_whole(self) -> None:
        for device in self.everybody:
            if not device.gone:
                assert b"".join(device.frames).startswith(device.got)

    def teardown(self) -> None:
        for device in self.everybody:
            while device.buffer is not None and device.buffer.pieces:
                device.take(7000)
            if device.buffer is not None:
                device.close()
            if not device.dropped:
                check_whole(device.got, device.frames, ended=device.gone)
        assert self.budget.bytes == 0
        assert {piece.holders for piece in self.sent} <= {0}


def check_whole(got: bytearray, sent: Sequence[bytes], *, ended: bool) -> None:
    """That somebody got whole frames in their order: all of them, or, if it was told to go, that last."""
    frames, rest = parse_frames(bytes(got))
    assert rest == b""
    in_order: Iterable[bytes] = iter(sent)
    if ended:
        assert got.endswith(CLOSE)
        assert all(text_frame(frame.payload) in in_order for frame in frames[:-1])
    else:
        assert got == b"".join(sent)


Budget.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_budget = Budget.TestCase

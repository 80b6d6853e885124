"""The outbox: whole frames in order, whatever the kernel takes and whoever writes."""

from contextlib import suppress

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.protocol import text_frame
from localful_ws.server.outbox import OutboxFullError
from tests.raw_device import parse_frames
from tests.server.kernels import ENDLESS, STREAMS, Kernel, make_outbox

both_kinds = pytest.mark.parametrize("kind", STREAMS)
FIRST, SECOND, THIRD = (text_frame(letter * 100) for letter in (b"1", b"2", b"3"))


async def test_what_the_kernel_takes_at_once_is_not_queued(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(ENDLESS)
        outbox, peaks = make_outbox("tcp", nursery, kernel, events=0, size=0)
        outbox.write(FIRST)
        outbox.write(SECOND)
        assert kernel.taken == FIRST + SECOND
        assert kernel.calls == 2
        assert (outbox.waiting_bytes, peaks.events, peaks.bytes) == (0, 0, 0)
        assert not nursery.child_tasks


@both_kinds
async def test_what_it_does_not_take_waits(autojump_clock: MockClock, kind: str) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(30 if kind == "tcp" else 0)
        outbox, peaks = make_outbox(kind, nursery, kernel)
        for frame in (FIRST, SECOND, THIRD):
            outbox.write(frame)
        await wait_all_tasks_blocked()
        waiting = len(FIRST + SECOND + THIRD) - len(kernel.taken)
        assert outbox.waiting_bytes == waiting
        assert (peaks.events, peaks.bytes) == (3, waiting)
        kernel.make_room(150)
        await wait_all_tasks_blocked()
        assert kernel.taken == (FIRST + SECOND)[: len(kernel.taken)]
        kernel.make_room(ENDLESS)
        await wait_all_tasks_blocked()
        assert kernel.taken == FIRST + SECOND + THIRD
        assert outbox.waiting_bytes == 0
        assert not nursery.child_tasks
        outbox.write(FIRST)
        await wait_all_tasks_blocked()
        assert kernel.taken == FIRST + SECOND + THIRD + FIRST


async def test_many_frames_go_out_together(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(0)
        outbox, _ = make_outbox("tcp", nursery, kernel)
        for _ in range(200):
            outbox.write(FIRST)
        kernel.make_room(ENDLESS)
        await wait_all_tasks_blocked()
        assert kernel.taken == FIRST * 200
        assert kernel.calls <= 1 + 200 // 64 + 1


async def test_a_stream_without_a_socket_gets_chunks(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(0)
        outbox, _ = make_outbox("stream", nursery, kernel)
        frame = text_frame(b"x" * 30_000)
        for _ in range(10):
            outbox.write(frame)
        kernel.make_room(ENDLESS)
        await wait_all_tasks_blocked()
        assert kernel.taken == frame * 10
        assert kernel.calls == 4


@both_kinds
@pytest.mark.parametrize(("events", "size"), [(3, 10_000), (1000, 3 * len(FIRST))])
async def test_the_outbox_is_full(autojump_clock: MockClock, kind: str, events: int, size: int) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(0)
        outbox, peaks = make_outbox(kind, nursery, kernel, events=events, size=size)
        for _ in range(3):
            outbox.write(FIRST)
        with pytest.raises(OutboxFullError):
            outbox.write(SECOND)
        assert (outbox.waiting_bytes, peaks.events, peaks.bytes) == (3 * len(FIRST), 3, 3 * len(FIRST))
        outbox.write_last(THIRD)
        outbox.write(SECOND)
        outbox.write_last(SECOND)
        kernel.make_room(ENDLESS)
        await wait_all_tasks_blocked()
        outbox.write(SECOND)
        assert kernel.taken == FIRST * 3 + THIRD


@both_kinds
async def test_frames_that_are_given_together(autojump_clock: MockClock, kind: str) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(len(FIRST) + 10)
        outbox, peaks = make_outbox(kind, nursery, kernel, events=3)
        outbox.write_frames(FIRST + SECOND + THIRD, (FIRST, SECOND, THIRD))
        await wait_all_tasks_blocked()
        assert kernel.taken == (FIRST + SECOND)[: len(FIRST) + 10]
        assert peaks.events == (2 if kind == "tcp" else 3)
        with pytest.raises(OutboxFullError):
            outbox.write_frames(FIRST * 4, (FIRST,) * 4)
        kernel.make_room(ENDLESS)
        await wait_all_tasks_blocked()
        frames, rest = parse_frames(bytes(kernel.taken))
        assert rest == b""
        assert [each.payload[:1] for each in frames[:3]] == [b"1", b"2", b"3"]
        assert {each.payload for each in frames[3:]} == {b"1" * 100}


@both_kinds
async def test_what_is_a_slice_of_something_is_copied_if_it_waits(
    autojump_clock: MockClock, kind: str
) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(10)
        outbox, _ = make_outbox(kind, nursery, kernel)
        kept = bytearray(FIRST + SECOND + THIRD)
        slices = [memoryview(kept)[begin : begin + len(FIRST)] for begin in range(0, len(kept), len(FIRST))]
        outbox.write_frames(b"".join(slices[:2]), slices[:2])
        outbox.write_frames(slices[2], slices[2:])
        del slices
        kept.clear()  # refused as long as there are slices
        kernel.make_room(ENDLESS)
        await wait_all_tasks_blocked()
        assert kernel.taken == FIRST + SECOND + THIRD


@both_kinds
async def test_nothing_follows_the_last_frame(autojump_clock: MockClock, kind: str) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(ENDLESS)
        outbox, _ = make_outbox(kind, nursery, kernel)
        outbox.write_last(FIRST)
        outbox.write(SECOND)
        outbox.write_last(SECOND)
        await outbox.send_all(SECOND)
        assert kernel.taken == FIRST


@both_kinds
async def test_send_all_waits_its_turn(autojump_clock: MockClock, kind: str) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(0)
        outbox, _ = make_outbox(kind, nursery, kernel, events=4, size=1000)
        done: list[str] = []

        async def send(name: str, data: bytes | bytearray) -> None:
            await outbox.send_all(data)
            done.append(name)

        outbox.write(FIRST)
        nursery.start_soon(send, "second", SECOND)
        await wait_all_tasks_blocked()
        outbox.write(THIRD)
        nursery.start_soon(send, "more", bytearray(FIRST))
        nursery.start_soon(outbox.wait_send_all_might_not_block)
        await wait_all_tasks_blocked()
        assert done == []
        kernel.make_room(len(FIRST + SECOND))
        await wait_all_tasks_blocked()
        assert done == ["second"]
        kernel.make_room(len(THIRD))
        await wait_all_tasks_blocked()
        assert done == ["second"]
        kernel.make_room(len(FIRST))
        await wait_all_tasks_blocked()
        assert done == ["second", "more"]
        assert kernel.taken == FIRST + SECOND + THIRD + FIRST


@both_kinds
async def test_send_all_at_once(autojump_clock: MockClock, kind: str) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(ENDLESS)
        outbox, _ = make_outbox(kind, nursery, kernel)
        await outbox.send_all(FIRST)
        await outbox.send_all(b"")
        await outbox.wait_send_all_might_not_block()
        assert kernel.taken == FIRST


@both_kinds
async def test_a_cancelled_send_still_goes_out_whole(autojump_clock: MockClock, kind: str) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(10)
        outbox, _ = make_outbox(kind, nursery, kernel)
        with trio.move_on_after(1) as scope:
            await outbox.send_all(FIRST)
        assert scope.cancelled_caught
        outbox.write(SECOND)
        kernel.make_room(ENDLESS)
        await wait_all_tasks_blocked()
        assert kernel.taken == FIRST + SECOND


@both_kinds
@pytest.mark.parametrize("begun", [0, 10])
async def test_discarding_keeps_the_rest_of_a_frame_that_has_begun(
    autojump_clock: MockClock, kind: str, begun: int
) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(begun)
        outbox, _ = make_outbox(kind, nursery, kernel)
        sent: list[str] = []

        async def send() -> None:
            await outbox.send_all(THIRD)
            sent.append("third")

        outbox.write(FIRST)
        await wait_all_tasks_blocked()
        assert len(kernel.taken) == begun
        outbox.write(SECOND)
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        outbox.discard_waiting()
        # A stream without a socket has been handed all of the first frame.
        kept = FIRST if begun or kind == "stream" else b""
        assert outbox.waiting_bytes == (len(kept) - begun if kind == "tcp" else len(kept))
        outbox.write_last(SECOND)
        await wait_all_tasks_blocked()
        assert sent == ["third"]  # whoever waited is let go
        kernel.make_room(ENDLESS)
        await wait_all_tasks_blocked()
        assert kernel.taken == kept + SECOND
        assert outbox.waiting_bytes == 0
        outbox.discard_waiting()


@both_kinds
async def test_a_connection_that_breaks(autojump_clock: MockClock, kind: str) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(10)
        outbox, _ = make_outbox(kind, nursery, kernel)
        errors: list[str] = []

        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await outbox.send_all(SECOND)
            errors.append("second")

        outbox.write(FIRST)
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        kernel.break_down()
        await wait_all_tasks_blocked()
        assert errors == ["second"]
        assert outbox.waiting_bytes == 0
        outbox.write(THIRD)
        outbox.write_last(THIRD)
        outbox.discard_waiting()
        with pytest.raises(trio.BrokenResourceError):
            await outbox.send_all(THIRD)
        with pytest.raises(trio.BrokenResourceError):
            await outbox.wait_send_all_might_not_block()
        assert kernel.taken == FIRST[:10]


async def test_a_connection_that_is_broken_already(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(broken=True)
        outbox, _ = make_outbox("tcp", nursery, kernel)
        outbox.write(FIRST)
        outbox.write(SECOND)
        assert kernel.calls == 1
        with pytest.raises(trio.BrokenResourceError):
            await outbox.send_all(FIRST)


@both_kinds
async def test_closing_releases_whoever_waits(autojump_clock: MockClock, kind: str) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(10)
        outbox, _ = make_outbox(kind, nursery, kernel)
        errors: list[str] = []

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await outbox.send_all(SECOND)
            errors.append("second")

        outbox.write(FIRST)
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        await outbox.aclose()
        await wait_all_tasks_blocked()
        assert errors == ["second"]
        assert kernel.taken == FIRST[:10]
        outbox.write(THIRD)
        with pytest.raises(trio.ClosedResourceError):
            await outbox.send_all(THIRD)
        await outbox.aclose()


async def test_it_hears(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        outbox, _ = make_outbox("stream", nursery, Kernel())
        assert not outbox.heard
        assert await outbox.receive_some(100) == b"heard"
        assert outbox.heard


sizes = st.one_of(st.integers(0, 10), st.integers(0, 200))
acts = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "write", "batch", "send", "room", "room"]), sizes),
        st.tuples(st.sampled_from(["settle", "discard"]), st.just(0)),
    ),
    max_size=40,
)


@both_kinds
@given(acts=acts, last=st.booleans())
@settings(max_examples=150, deadline=None)
async def test_any_interleaving_gives_whole_frames_in_order(
    kind: str,
    acts: list[tuple[str, int]],
    last: bool,  # noqa: FBT001 - Hypothesis names it
) -> None:
    async with trio.open_nursery() as nursery:
        kernel = Kernel(0)
        outbox, _ = make_outbox(kind, nursery, kernel, events=6, size=400)
        frames: list[bytes] = []
        incomplete = False
        for number, (act, size) in enumerate(acts):
            frame = text_frame(b"%d:" % number + b"x" * size)
            if act == "write":
                with suppress(OutboxFullError):
                    outbox.write(frame)
                    frames.append(frame)
            elif act == "batch":
                batch = [text_frame(b"%d-%d:" % (number, part) + b"x" * (size // 4)) for part in range(5)]
                frames += batch
                try:
                    outbox.write_frames(b"".join(batch), batch)
                except OutboxFullError:
                    incomplete = True
            elif act == "send":
                nursery.start_soon(outbox.send_all, frame)
                await wait_all_tasks_blocked()
                frames.append(frame)
            elif act == "room":
                kernel.make_room(size)
            elif act == "discard":
                outbox.discard_waiting()
                incomplete = True
            else:
                await wait_all_tasks_blocked()
        if last:
            frames.append(text_frame(b"last"))
            outbox.write_last(frames[-1])
        kernel.make_room(ENDLESS)
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks  # nobody waits any more
    assert outbox.waiting_bytes == 0
    if not incomplete:
        assert kernel.taken == b"".join(frames)
    got, rest = parse_frames(bytes(kernel.taken))
    assert rest == b""
    remaining = iter(frames)
    assert all(text_frame(each.payload) in remaining for each in got)
    assert not last or got[-1].payload == b"last"

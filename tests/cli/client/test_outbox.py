import asyncio

import pytest

from prepcli.client.outbox import Outbox
from prepcli.client.recording import FRAME_BYTES, MAX_WAITING, Recording
from prepcli.errors import QueueFull, RecordingRefused, ServerUnreachable, UsageError
from prepserver.wire.codec import decode_client, unpack_frame
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    AudioCancel,
    AudioStart,
    AudioStop,
    ClientMessages,
    Failure,
    GetAllMessages,
    HintRequest,
    TurnStop,
    UserMessage,
    UserTyping,
)

FRAME = b"\x01\x02" * (FRAME_BYTES // 2)


def drained(outbox: Outbox) -> list[ClientMessages | int]:
    """All that would be sent now; frames as their numbers."""
    sent: list[ClientMessages | int] = []
    while (data := outbox.next_to_send()) is not None:
        sent.append(unpack_frame(data)[0] if isinstance(data, bytes) else decode_client(data))
    return sent


def recorded(outbox: Outbox, frames: int) -> Recording:
    recording = Recording("rec", lambda: None)
    outbox.queue_recording(recording)
    recording.feed(FRAME * frames)
    return recording


async def stopping(recording: Recording) -> asyncio.Task[None]:
    task = asyncio.create_task(recording.stop())
    await asyncio.sleep(0)
    return task


def test_messages_leave_once_and_in_order() -> None:
    """Each message is sent once on a connection, in the order of the calls."""
    outbox = Outbox()
    outbox.queue_message(UserMessage(id="a", text="one"), "")
    outbox.queue_message(HintRequest(id="b"), "")
    assert drained(outbox) == [UserMessage(id="a", text="one"), HintRequest(id="b")]
    assert drained(outbox) == []


def test_a_message_without_an_id_gets_one() -> None:
    """An id is made where the caller did not care for one."""
    outbox = Outbox()
    outbox.queue_message(TurnStop(), "made")
    assert drained(outbox) == [TurnStop(id="made")]


def test_what_is_not_acknowledged_leaves_again_after_a_reconnect() -> None:
    """Acknowledged and refused messages are done with; the others are repeated in order."""
    outbox = Outbox()
    for id in ("a", "b", "c", "d"):
        outbox.queue_message(UserMessage(id=id, text=id), "")
    drained(outbox)
    outbox.mark_accepted("b")
    outbox.mark_refused(Failure(code=ErrorCode.BAD_REQUEST, message="No.", id="c"))
    outbox.start_connection()
    assert drained(outbox) == [UserMessage(id="a", text="a"), UserMessage(id="d", text="d")]


def test_what_is_true_of_the_moment_is_not_repeated() -> None:
    """That somebody typed an hour ago is of no interest after the reconnect."""
    outbox = Outbox()
    outbox.queue_message(UserTyping(), "x")
    outbox.queue_message(GetAllMessages(), "x")
    outbox.start_connection()
    assert drained(outbox) == []
    assert len(outbox) == 0


def test_what_is_true_of_the_moment_is_queued_once() -> None:
    """Typing while the connection is away does not fill the queue."""
    outbox = Outbox()
    for _ in range(1000):
        outbox.queue_message(UserTyping(), "x")
    assert drained(outbox) == [UserTyping()]


def test_the_latest_draft_stands_for_those_before_it() -> None:
    """One that would not pass as a text frame is left out: that somebody types still passes."""
    outbox = Outbox()
    outbox.queue_message(UserTyping(draft="We"), "x")
    outbox.queue_message(UserTyping(draft="We moved"), "x")
    assert drained(outbox) == [UserTyping(draft="We moved")]
    outbox.queue_message(UserTyping(draft="\U0001f600\n" * 16_000), "x")
    assert drained(outbox) == [UserTyping()]


def test_the_queue_is_bounded() -> None:
    """A full queue refuses the next message and keeps the others."""
    outbox = Outbox(limit=2)
    outbox.queue_message(TurnStop(id="a"), "")
    outbox.queue_message(TurnStop(id="b"), "")
    with pytest.raises(QueueFull):
        outbox.queue_message(TurnStop(id="c"), "")
    assert drained(outbox) == [TurnStop(id="a"), TurnStop(id="b")]


def test_a_message_that_the_server_would_not_take_is_not_queued() -> None:
    """A frame over the server's limit would close the connection again and again."""
    with pytest.raises(UsageError, match="too long"):
        Outbox().queue_message(UserMessage(id="a", text="\x00" * 12_000), "")


def test_a_recording_waits_for_the_acknowledgement_of_its_start() -> None:
    """No frame leaves before the server has said where to begin."""
    outbox = Outbox()
    recorded(outbox, 3)
    assert drained(outbox) == [AudioStart(id="rec")]
    outbox.acknowledge_frames("rec", -1)
    assert drained(outbox) == [0, 1, 2]


def test_samples_are_cut_into_frames_of_40_ms_and_the_rest_comes_last() -> None:
    """Pieces of any size become whole frames; stop sends what is left, in whole samples."""

    async def run() -> None:
        outbox = Outbox()
        recording = Recording("rec", lambda: None)
        outbox.queue_recording(recording)
        data = bytes(range(256)) * 12 + b"odd"
        for start in range(0, len(data), 7):
            recording.feed(data[start : start + 7])
        task = await stopping(recording)
        outbox.next_to_send()
        outbox.acknowledge_frames("rec", -1)
        frames = []
        while isinstance(frame := outbox.next_to_send(), bytes):
            frames.append(unpack_frame(frame)[1])
        assert [len(frame) for frame in frames] == [1280, 1280, 514]
        assert b"".join(frames) == data[:-1]
        assert frame is not None
        assert decode_client(frame) == AudioStop(id="rec", frames=3)
        task.cancel()

    asyncio.run(run())


def test_a_recording_goes_on_after_a_reconnect_from_where_the_server_is() -> None:
    """Frames the server has stored are not sent again; the others are, and then the stop."""

    async def run() -> None:
        outbox = Outbox()
        recording = recorded(outbox, 5)
        outbox.next_to_send()
        outbox.acknowledge_frames("rec", -1)
        assert drained(outbox) == [0, 1, 2, 3, 4]
        outbox.acknowledge_frames("rec", 1)
        outbox.start_connection()
        recording.feed(FRAME)
        task = await stopping(recording)
        assert drained(outbox) == [AudioStart(id="rec")]
        outbox.acknowledge_frames("rec", 2)
        assert drained(outbox) == [3, 4, 5, AudioStop(id="rec", frames=6)]
        outbox.start_connection()
        assert drained(outbox) == [AudioStart(id="rec")]
        outbox.acknowledge_frames("rec", 5)
        assert drained(outbox) == [AudioStop(id="rec", frames=6)]
        assert not task.done()
        outbox.mark_accepted("rec")
        await task
        assert len(outbox) == 0

    asyncio.run(run())


def test_frames_that_the_server_lost_are_sent_again_a_few_times() -> None:
    """A server that misses frames is given them again, but not for ever."""

    async def run() -> None:
        outbox = Outbox()
        recording = recorded(outbox, 1)
        task = await stopping(recording)
        missing = Failure(code=ErrorCode.FRAMES_MISSING, message="Again.", id="rec", retryable=True)
        for _ in range(4):
            assert drained(outbox) == [AudioStart(id="rec")]
            outbox.acknowledge_frames("rec", -1)
            assert drained(outbox) == [0, AudioStop(id="rec", frames=1)]
            outbox.mark_refused(missing)
        with pytest.raises(RecordingRefused, match="Again"):
            await task
        assert drained(outbox) == []

    asyncio.run(run())


def test_a_server_that_lost_what_it_had_stored_ends_the_recording() -> None:
    """What is gone on both sides cannot be sent again."""
    outbox = Outbox()
    recording = recorded(outbox, 3)
    outbox.next_to_send()
    outbox.acknowledge_frames("rec", 1)
    outbox.start_connection()
    outbox.next_to_send()
    outbox.acknowledge_frames("rec", -1)
    with pytest.raises(RecordingRefused, match="lost"):
        recording.feed(FRAME)


def test_a_refused_recording_says_why_to_whoever_feeds_it() -> None:
    """The server's sentence reaches the one who records."""
    outbox = Outbox()
    recording = recorded(outbox, 1)
    outbox.next_to_send()
    outbox.mark_refused(Failure(code=ErrorCode.COMPLETED, message="It is over.", id="rec"))
    with pytest.raises(RecordingRefused, match="It is over"):
        recording.feed(FRAME)
    assert drained(outbox) == []


def test_what_is_said_during_a_recording_passes_it_and_what_comes_after_waits() -> None:
    """A stop of the model does not wait for the end of the recording; what follows its end does."""

    async def run() -> None:
        outbox = Outbox()
        recording = recorded(outbox, 1)
        outbox.queue_message(TurnStop(id="now"), "")
        assert drained(outbox) == [AudioStart(id="rec"), TurnStop(id="now")]
        task = await stopping(recording)
        outbox.queue_message(UserMessage(id="after", text="x"), "")
        assert drained(outbox) == []
        outbox.acknowledge_frames("rec", -1)
        assert drained(outbox) == [
            0,
            AudioStop(id="rec", frames=1),
            UserMessage(id="after", text="x"),
        ]
        task.cancel()

    asyncio.run(run())


def test_a_second_recording_waits_for_the_first() -> None:
    """A connection carries one recording at a time."""

    async def run() -> None:
        outbox = Outbox()
        first = recorded(outbox, 1)
        second = Recording("rec2", lambda: None)
        outbox.queue_recording(second)
        task = await stopping(first)
        outbox.next_to_send()
        outbox.acknowledge_frames("rec", -1)
        assert drained(outbox) == [0, AudioStop(id="rec", frames=1)]
        outbox.mark_accepted("rec")
        assert drained(outbox) == [AudioStart(id="rec2")]
        await task

    asyncio.run(run())


def test_a_cancelled_recording_is_forgotten_on_both_sides() -> None:
    """The server is told if it has heard of the recording, and only then."""
    outbox = Outbox()
    recorded(outbox, 2).cancel()
    assert drained(outbox) == []
    recording = recorded(outbox, 2)
    outbox.next_to_send()
    recording.cancel()
    assert drained(outbox) == [AudioCancel(id="rec")]
    assert drained(outbox) == []
    assert len(outbox) == 0


def test_an_endless_recording_offline_is_bounded() -> None:
    """Ten minutes are kept without an acknowledgement, not more."""
    recording = Recording("rec", lambda: None)
    recording.feed(FRAME * MAX_WAITING)
    with pytest.raises(QueueFull):
        recording.feed(FRAME)


def test_leaving_the_room_ends_the_wait_for_a_recording() -> None:
    """Whoever waits for the delivery learns that it will not come."""

    async def run() -> None:
        outbox = Outbox()
        task = await stopping(recorded(outbox, 1))
        outbox.fail_all(ServerUnreachable("gone"))
        with pytest.raises(ServerUnreachable, match="gone"):
            await task

    asyncio.run(run())


def test_recordings_that_wait_are_bounded_together() -> None:
    """However long somebody is offline, no new recording begins while ten minutes wait."""
    outbox = Outbox()
    first = Recording("first", lambda: None)
    outbox.queue_recording(first)
    first.feed(FRAME * (MAX_WAITING - 1))
    outbox.queue_recording(Recording("second", lambda: None))
    first.feed(FRAME)
    with pytest.raises(QueueFull):
        outbox.queue_recording(Recording("third", lambda: None))
    first.cancel()
    outbox.queue_recording(Recording("third", lambda: None))


def test_only_what_has_left_can_have_been_too_big() -> None:
    """The first message on its way is taken out; what has not left stays."""
    outbox = Outbox()
    outbox.queue_message(UserMessage(id="a", text="one"), "")
    outbox.queue_message(UserMessage(id="b", text="two"), "")
    assert outbox.drop_oldest_sent() == ""
    assert outbox.next_to_send() is not None
    assert outbox.drop_oldest_sent() == "a"
    assert drained(outbox) == [UserMessage(id="b", text="two")]

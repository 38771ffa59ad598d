import asyncio

import pytest

from prepcli.client.outbox import Outbox
from prepcli.client.recording import FRAME_BYTES, MAX_UNACKNOWLEDGED, Recording
from prepcli.errors import QueueFull, RecordingRefused, ServerUnreachable, UsageError
from prepserver.wire.client_messages import (
    AudioCancel,
    AudioStart,
    AudioStop,
    ClientMessages,
    GetAllMessages,
    HintRequest,
    TurnStop,
    UserMessage,
    UserTyping,
)
from prepserver.wire.codec import decode_client, unpack_frame
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Failure

FRAME = b"\x01\x02" * (FRAME_BYTES // 2)


def drain(outbox: Outbox) -> list[ClientMessages | int]:
    """Return everything that can be sent now, with each frame replaced by its number."""
    sent: list[ClientMessages | int] = []
    while (data := outbox.next_to_send()) is not None:
        sent.append(unpack_frame(data)[0] if isinstance(data, bytes) else decode_client(data))
    return sent


def queue_recording(outbox: Outbox, frames: int) -> Recording:
    """Queue a recording with the id `rec` and `frames` full frames."""
    recording = Recording("rec", lambda: None)
    outbox.queue_recording(recording)
    recording.feed(FRAME * frames)
    return recording


async def start_stop(recording: Recording) -> asyncio.Task[None]:
    """Call `Recording.stop` in a task, and return the task once `stop` is waiting."""
    task = asyncio.create_task(recording.stop())
    await asyncio.sleep(0)
    return task


def test_messages_are_sent_once_and_in_order() -> None:
    """Each message is sent once per connection, in the order in which the messages were queued."""
    outbox = Outbox()
    outbox.queue_message(UserMessage(id="a", text="one"), "")
    outbox.queue_message(HintRequest(id="b"), "")
    assert drain(outbox) == [UserMessage(id="a", text="one"), HintRequest(id="b")]
    assert drain(outbox) == []


def test_message_without_an_id_gets_one() -> None:
    """A message without an id is sent with the id that the caller provides."""
    outbox = Outbox()
    outbox.queue_message(TurnStop(), "made")
    assert drain(outbox) == [TurnStop(id="made")]


def test_unacknowledged_messages_are_resent_after_a_reconnect() -> None:
    """After a reconnect, messages that were neither accepted nor rejected are resent in order."""
    outbox = Outbox()
    for id in ("a", "b", "c", "d"):
        outbox.queue_message(UserMessage(id=id, text=id), "")
    drain(outbox)
    outbox.mark_accepted("b")
    outbox.mark_refused(Failure(code=ErrorCode.BAD_REQUEST, message="No.", id="c"))
    outbox.start_connection()
    assert drain(outbox) == [UserMessage(id="a", text="a"), UserMessage(id="d", text="d")]


def test_ephemeral_messages_are_not_resent() -> None:
    """Ephemeral messages that were not sent before a reconnect are dropped."""
    outbox = Outbox()
    outbox.queue_message(UserTyping(), "x")
    outbox.queue_message(GetAllMessages(), "x")
    outbox.start_connection()
    assert drain(outbox) == []
    assert len(outbox) == 0


def test_ephemeral_messages_are_queued_once() -> None:
    """Typing while offline queues a single message, however long the typing lasts."""
    outbox = Outbox()
    for _ in range(1000):
        outbox.queue_message(UserTyping(), "x")
    assert drain(outbox) == [UserTyping()]


def test_latest_draft_replaces_earlier_ones() -> None:
    """Only the latest of several queued drafts is sent; if the latest draft is too long for a text
    frame, `user.typing` is sent without a draft."""
    outbox = Outbox()
    outbox.queue_message(UserTyping(draft="We"), "x")
    outbox.queue_message(UserTyping(draft="We moved"), "x")
    assert drain(outbox) == [UserTyping(draft="We moved")]
    outbox.queue_message(UserTyping(draft="\U0001f600\n" * 16_000), "x")
    assert drain(outbox) == [UserTyping()]


def test_queue_is_bounded() -> None:
    """Queueing a message in a full queue raises QueueFull, and the queued messages are kept."""
    outbox = Outbox(limit=2)
    outbox.queue_message(TurnStop(id="a"), "")
    outbox.queue_message(TurnStop(id="b"), "")
    with pytest.raises(QueueFull):
        outbox.queue_message(TurnStop(id="c"), "")
    assert drain(outbox) == [TurnStop(id="a"), TurnStop(id="b")]


def test_message_over_the_size_limit_is_not_queued() -> None:
    """Queueing a message that is too big for a text frame raises UsageError."""
    with pytest.raises(UsageError, match="too long"):
        Outbox().queue_message(UserMessage(id="a", text="\x00" * 12_000), "")


def test_frames_wait_for_the_acknowledgement_of_the_start() -> None:
    """No frame is sent before the server has acknowledged `audio.start`."""
    outbox = Outbox()
    queue_recording(outbox, 3)
    assert drain(outbox) == [AudioStart(id="rec")]
    outbox.acknowledge_frames("rec", -1)
    assert drain(outbox) == [0, 1, 2]


def test_samples_are_cut_into_frames_of_40_ms() -> None:
    """Audio is sent in frames of 40 ms, whatever the size of the blocks that are fed; an incomplete
    sample at the end is dropped."""

    async def run() -> None:
        outbox = Outbox()
        recording = Recording("rec", lambda: None)
        outbox.queue_recording(recording)
        data = bytes(range(256)) * 12 + b"odd"
        for start in range(0, len(data), 7):
            recording.feed(data[start : start + 7])
        task = await start_stop(recording)
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


def test_recording_resumes_after_a_reconnect() -> None:
    """After a reconnect, the frames that the server lacks are resent, then `audio.stop`."""

    async def run() -> None:
        outbox = Outbox()
        recording = queue_recording(outbox, 5)
        outbox.next_to_send()
        outbox.acknowledge_frames("rec", -1)
        assert drain(outbox) == [0, 1, 2, 3, 4]
        outbox.acknowledge_frames("rec", 1)
        outbox.start_connection()
        recording.feed(FRAME)
        task = await start_stop(recording)
        assert drain(outbox) == [AudioStart(id="rec")]
        outbox.acknowledge_frames("rec", 2)
        assert drain(outbox) == [3, 4, 5, AudioStop(id="rec", frames=6)]
        outbox.start_connection()
        assert drain(outbox) == [AudioStart(id="rec")]
        outbox.acknowledge_frames("rec", 5)
        assert drain(outbox) == [AudioStop(id="rec", frames=6)]
        assert not task.done()
        outbox.mark_accepted("rec")
        await task
        assert len(outbox) == 0

    asyncio.run(run())


def test_missing_frames_are_resent_a_few_times() -> None:
    """Frames that are reported as missing are resent three times; then the recording fails."""

    async def run() -> None:
        outbox = Outbox()
        recording = queue_recording(outbox, 1)
        task = await start_stop(recording)
        missing = Failure(code=ErrorCode.FRAMES_MISSING, message="Again.", id="rec", retryable=True)
        for _ in range(4):
            assert drain(outbox) == [AudioStart(id="rec")]
            outbox.acknowledge_frames("rec", -1)
            assert drain(outbox) == [0, AudioStop(id="rec", frames=1)]
            outbox.mark_refused(missing)
        with pytest.raises(RecordingRefused, match="Again"):
            await task
        assert drain(outbox) == []

    asyncio.run(run())


def test_lost_acknowledged_frames_end_the_recording() -> None:
    """A recording fails if the server has lost frames that it had acknowledged."""
    outbox = Outbox()
    recording = queue_recording(outbox, 3)
    outbox.next_to_send()
    outbox.acknowledge_frames("rec", 1)
    outbox.start_connection()
    outbox.next_to_send()
    outbox.acknowledge_frames("rec", -1)
    with pytest.raises(RecordingRefused, match="lost"):
        recording.feed(FRAME)


def test_refused_recording_raises_on_feed() -> None:
    """After a recording has been rejected, `feed` raises an error with the server's message."""
    outbox = Outbox()
    recording = queue_recording(outbox, 1)
    outbox.next_to_send()
    outbox.mark_refused(Failure(code=ErrorCode.COMPLETED, message="It is over.", id="rec"))
    with pytest.raises(RecordingRefused, match="It is over"):
        recording.feed(FRAME)
    assert drain(outbox) == []


def test_messages_overtake_an_open_recording_only() -> None:
    """A message overtakes a recording that is still open, but not one that has ended."""

    async def run() -> None:
        outbox = Outbox()
        recording = queue_recording(outbox, 1)
        outbox.queue_message(TurnStop(id="now"), "")
        assert drain(outbox) == [AudioStart(id="rec"), TurnStop(id="now")]
        task = await start_stop(recording)
        outbox.queue_message(UserMessage(id="after", text="x"), "")
        assert drain(outbox) == []
        outbox.acknowledge_frames("rec", -1)
        assert drain(outbox) == [
            0,
            AudioStop(id="rec", frames=1),
            UserMessage(id="after", text="x"),
        ]
        task.cancel()

    asyncio.run(run())


def test_second_recording_waits_for_the_first() -> None:
    """A second recording is sent only after the first one has been accepted."""

    async def run() -> None:
        outbox = Outbox()
        first = queue_recording(outbox, 1)
        second = Recording("rec2", lambda: None)
        outbox.queue_recording(second)
        task = await start_stop(first)
        outbox.next_to_send()
        outbox.acknowledge_frames("rec", -1)
        assert drain(outbox) == [0, AudioStop(id="rec", frames=1)]
        outbox.mark_accepted("rec")
        assert drain(outbox) == [AudioStart(id="rec2")]
        await task

    asyncio.run(run())


def test_cancelled_recording_is_discarded_on_both_sides() -> None:
    """Cancelling a recording sends `audio.cancel` only if `audio.start` was sent."""
    outbox = Outbox()
    queue_recording(outbox, 2).cancel()
    assert drain(outbox) == []
    recording = queue_recording(outbox, 2)
    outbox.next_to_send()
    recording.cancel()
    assert drain(outbox) == [AudioCancel(id="rec")]
    assert drain(outbox) == []
    assert len(outbox) == 0


def test_unacknowledged_recording_is_bounded() -> None:
    """Feeding a recording raises QueueFull once ten minutes of its frames are unacknowledged."""
    recording = Recording("rec", lambda: None)
    recording.feed(FRAME * MAX_UNACKNOWLEDGED)
    with pytest.raises(QueueFull):
        recording.feed(FRAME)


def test_failing_the_outbox_ends_a_pending_stop() -> None:
    """A pending `Recording.stop` raises the error with which the outbox failed."""

    async def run() -> None:
        outbox = Outbox()
        task = await start_stop(queue_recording(outbox, 1))
        outbox.fail_all(ServerUnreachable("gone"))
        with pytest.raises(ServerUnreachable, match="gone"):
            await task

    asyncio.run(run())


def test_unacknowledged_recordings_are_bounded_together() -> None:
    """Queueing a recording raises QueueFull while ten minutes of other audio are unacknowledged."""
    outbox = Outbox()
    first = Recording("first", lambda: None)
    outbox.queue_recording(first)
    first.feed(FRAME * (MAX_UNACKNOWLEDGED - 1))
    outbox.queue_recording(Recording("second", lambda: None))
    first.feed(FRAME)
    with pytest.raises(QueueFull):
        outbox.queue_recording(Recording("third", lambda: None))
    first.cancel()
    outbox.queue_recording(Recording("third", lambda: None))


def test_drop_oldest_sent_removes_only_sent_messages() -> None:
    """`drop_oldest_sent` removes the oldest message that was sent, but never an unsent message."""
    outbox = Outbox()
    outbox.queue_message(UserMessage(id="a", text="one"), "")
    outbox.queue_message(UserMessage(id="b", text="two"), "")
    assert outbox.drop_oldest_sent() == ""
    assert outbox.next_to_send() is not None
    assert outbox.drop_oldest_sent() == "a"
    assert drain(outbox) == [UserMessage(id="b", text="two")]


def test_message_after_two_recordings_waits_for_both() -> None:
    """A message that is queued after two ended recordings is sent after both recordings."""

    async def run() -> None:
        outbox = Outbox()
        first = queue_recording(outbox, 1)
        second = Recording("rec2", lambda: None)
        outbox.queue_recording(second)
        tasks = [await start_stop(first), await start_stop(second)]
        outbox.queue_message(TurnStop(id="after"), "")
        assert drain(outbox) == [AudioStart(id="rec")]
        outbox.acknowledge_frames("rec", -1)
        assert drain(outbox) == [0, AudioStop(id="rec", frames=1)]
        outbox.mark_accepted("rec")
        assert drain(outbox) == [AudioStart(id="rec2")]
        outbox.acknowledge_frames("rec2", -1)
        assert drain(outbox) == [AudioStop(id="rec2", frames=0), TurnStop(id="after")]
        for task in tasks:
            task.cancel()

    asyncio.run(run())

"""Interviews from creation to summary, with scripted models in virtual time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from prepserver.errors import InferenceError, NotFound
from prepserver.interview.events import TextProduced
from prepserver.interview.rules import MAX_REJECTIONS
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.objects import connection
from prepserver.objects.connection import Connection
from prepserver.objects.registry import Registry
from prepserver.objects.storage import Storage
from prepserver.objects.stubs import ObjectCall
from prepserver.wire import client_messages
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import MessageKind, Phase
from tests.server.interview.conversation import (
    answer,
    latest_deltas,
    message_kinds,
    open_room,
    request_snapshot,
    start_reply,
    wait_until_idle,
)
from tests.server.interview.stored import query_database
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, split_words
from tests.support.rooms import USER, Rooms


@asynchronous
async def test_an_interview_runs_to_its_summary(tmp_path: Path) -> None:
    """After two answers, the closing and the summary complete an interview with two questions."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms, questions=2, job_description="Python and SQL.")
        await client.send(answer("I wrote a service in Python."))
        await client.next_message(MessageKind.QUESTION)
        await client.wait_for_phase(Phase.IDLE)
        await client.send(answer("I tuned a query in SQL."))
        await client.next_message(MessageKind.SUMMARY)
        await client.wait_for_phase(Phase.IDLE)
        truth = await request_snapshot(client)
    assert message_kinds(truth.messages) == [
        "question", "answer", "question", "answer", "closing", "summary",
    ]  # fmt: skip
    assert truth.interview is not None
    assert truth.interview.status is wire.Status.COMPLETED
    assert (truth.interview.asked, truth.interview.answered) == (2, 2)
    assert set(truth.interview.skills) == {"python", "sql"}
    assert "Questions answered: 2 of 2" in truth.messages[-1].text
    assert "I tuned a query in SQL." in truth.messages[-1].text


@asynchronous
async def test_hello_and_snapshot_come_first(tmp_path: Path) -> None:
    """The first two messages on a connection are `hello` and a full snapshot."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
    hello, first = client.messages[:2]
    assert isinstance(hello, wire.Hello)
    assert hello.party == "interview"
    assert isinstance(first, wire.Snapshot)
    assert first.ratelimit is not None


@asynchronous
async def test_a_second_client_receives_the_partial_reply(tmp_path: Path) -> None:
    """A snapshot sent during a reply contains the text so far, and later deltas continue from the
    end of that text."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, delay=1.0) as rooms:
        first = await start_reply(rooms)
        while len(latest_deltas(first)) < 3:
            await rooms.advance(1.0)
        second = await rooms.join(first.room)
        truth = await second.next(wire.Snapshot)
        assert truth.state is Phase.GENERATING
        assert truth.streaming is not None
        assert truth.streaming.text.startswith("".join(d.text for d in latest_deltas(first)))
        assert truth.streaming.offset == len(truth.streaming.text)
        while not any(isinstance(m, wire.InterviewMessage) for m in second.messages):
            await rooms.advance(1.0)
        rest = "".join(m.text for m in second.messages if isinstance(m, wire.Delta))
        whole = await second.next_message(MessageKind.QUESTION)
        assert truth.streaming.text + rest == whole.text


@asynchronous
async def test_a_message_sent_twice_is_applied_once(tmp_path: Path) -> None:
    """An answer that is sent twice under the same id is accepted twice and stored once."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await client.send(answer("Once.", id="m1"))
        await client.send(answer("Once.", id="m1"))
        await client.next(wire.Accepted)
        await client.next(wire.Accepted)
        await client.next_message(MessageKind.QUESTION)
        truth = await request_snapshot(client)
    assert message_kinds(truth.messages).count("answer") == 1


@asynchronous
async def test_an_answer_during_a_turn_is_rejected(tmp_path: Path) -> None:
    """An answer during a turn is rejected with a retryable error that gives the id of the
    message."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, delay=1.0) as rooms:
        client = await start_reply(rooms)
        await client.send(answer("Too soon.", id="m1"))
        failure = await client.next(wire.Failure)
    assert (failure.code, failure.id, failure.retryable) == (ErrorCode.BUSY, "m1", True)


@asynchronous
async def test_an_answer_without_a_question_is_rejected(tmp_path: Path) -> None:
    """If no turn is active, an answer before the next question is rejected as `no_question`."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, delay=1.0) as rooms:
        client = await start_reply(rooms)
        await client.send(client_messages.TurnStop(id="s1"))
        await client.wait_for_phase(Phase.IDLE)
        await client.send(answer("An answer to nothing.", id="m1"))
        failure = await client.next(wire.Failure)
    assert (failure.code, failure.id) == (ErrorCode.NO_QUESTION, "m1")


@asynchronous
async def test_a_rejected_message_is_rejected_again(tmp_path: Path) -> None:
    """An answer that was rejected as too early is rejected again when the client resends it after a
    later question, even after a restart."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, delay=1.0) as rooms:
        client = await start_reply(rooms)
        await client.send(answer("Too soon.", id="m1"))
        rejection = await client.next(wire.Failure)
    async with Rooms(tmp_path, clock=clock) as rooms:
        client = await rooms.join(client.room)
        await wait_until_idle(client)
        await client.send(answer("In time.", id="m2"))
        await client.next(wire.Accepted)
        await client.next_message(MessageKind.QUESTION)
        await client.send(answer("Too soon.", id="m1"))
        assert await client.next(wire.Failure) == rejection
        truth = await request_snapshot(client)
    texts = [m.text for m in truth.messages if m.kind is MessageKind.ANSWER]
    assert texts == ["I wrote a service in Python.", "In time."]


@asynchronous
async def test_the_stored_rejections_are_limited(tmp_path: Path) -> None:
    """Only the latest `MAX_REJECTIONS` rejections are stored, so that no client can fill the
    disk."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, delay=1.0) as rooms:
        client = await start_reply(rooms)
        for number in range(MAX_REJECTIONS + 10):
            await client.send(answer("Too soon.", id=f"m{number}"))
        await rooms.registry.wait_for_handlers()
    kept = query_database(tmp_path, "SELECT id FROM rejected_messages ORDER BY number")
    assert kept == [(f"m{number}",) for number in range(10, MAX_REJECTIONS + 10)]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", ErrorCode.BAD_MESSAGE),
        ('{"type":"nonsense","id":"m1"}', ErrorCode.BAD_MESSAGE),
        ('{"type":"user.typing","x":' + "[" * 9_000 + "]" * 9_000 + "}", ErrorCode.BAD_MESSAGE),
        ('{"type":"user.message","id":"m1","text":7}', ErrorCode.BAD_MESSAGE),
        ('{"type":"user.message","id":"m1","text":" "}', ErrorCode.EMPTY_ANSWER),
        (
            '{"type":"message.edit","id":"m1","message_id":"x","text":"y"}',
            ErrorCode.NO_SUCH_MESSAGE,
        ),
        ('{"type":"turn.stop","id":"m1"}', ErrorCode.NOTHING_TO_STOP),
        ('{"type":"turn.retry","id":"m1"}', ErrorCode.NOTHING_TO_RETRY),
        ('{"type":"audio.stop","id":"r9","frames":1}', ErrorCode.NO_SUCH_RECORDING),
        (b"", ErrorCode.EMPTY_RECORDING),
        (b"\x01", ErrorCode.NOT_AUDIO),
        (b"%PDF-1.7 and so on", ErrorCode.NOT_AUDIO),
        (b"just some plain text that is no sound", ErrorCode.NOT_AUDIO),
    ],
    ids=str,
)
@asynchronous
async def test_invalid_input_gets_an_error_and_the_room_continues(
    tmp_path: Path, frame: str | bytes, code: str
) -> None:
    """An invalid message or recording is rejected with a specific error code, and the next answer
    is accepted."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await client.send(frame)
        failure = await client.next(wire.Failure)
        assert failure.code == code
        assert failure.id in ("", "m1", "r9")
        await client.send(answer("A valid answer."))
        await client.next_message(MessageKind.QUESTION)


@asynchronous
async def test_an_active_turn_is_finished_after_a_restart(tmp_path: Path) -> None:
    """A turn that a shutdown interrupts is finished after the restart and is not charged again."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, delay=1.0) as rooms:
        room = (await start_reply(rooms)).room
    async with Rooms(tmp_path, clock=clock) as rooms:
        await rooms.advance(6.0)
        client = await rooms.join(room)
        await wait_until_idle(client)
        truth = await request_snapshot(client)
    assert message_kinds(truth.messages) == ["question", "answer", "question"]
    assert truth.ratelimit is not None
    assert truth.ratelimit.remaining == 99, "a resumed turn is not charged again"


@asynchronous
async def test_a_stopped_turn_can_be_retried(tmp_path: Path) -> None:
    """Stopping a turn drops its partial reply, and the turn stays stopped until the client retries
    it."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, delay=1.0) as rooms:
        client = await start_reply(rooms)
        await client.send(client_messages.TurnStop(id="s1"))
        await client.next(wire.DeltaDropped)
        await client.wait_for_phase(Phase.IDLE)
        truth = await request_snapshot(client)
        assert truth.failed is not None
        assert truth.failed.code == ErrorCode.STOPPED
        assert truth.streaming is None
        await rooms.advance(30.0)
        assert message_kinds((await request_snapshot(client)).messages) == ["question", "answer"], (
            "a stopped turn is not resumed by the alarm"
        )
        await client.send(client_messages.TurnRetry(id="s2"))
        seen = len(client.messages)
        while not any(isinstance(m, wire.InterviewMessage) for m in client.messages[seen:]):
            await rooms.advance(1.0)
        truth = await request_snapshot(client)
    assert message_kinds(truth.messages) == ["question", "answer", "question"]
    assert truth.failed is None


@asynchronous
async def test_a_failed_turn_reports_its_error_and_can_be_retried(tmp_path: Path) -> None:
    """The error of a failed turn is reported to the room and in later snapshots, and the turn can
    be retried."""
    clock = ManualClock()
    broken = InferenceError("No memory.", code=ErrorCode.INFERENCE, retryable=False)
    # The turn survives the first failure, which is that of the decision.
    model = CuedLanguageModel(clock, [[broken], [broken], split_words("What is it like?")])
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms, questions=7)
        await client.send(answer("I wrote a service in Python."))
        assert (await client.next(wire.Failure)).code == ErrorCode.INFERENCE
        truth = await request_snapshot(client)
        assert truth.failed is not None
        assert truth.failed.code == ErrorCode.INFERENCE
        await client.send(client_messages.TurnRetry(id="t1"))
        message = await client.next_message(MessageKind.QUESTION)
    assert message.text == "What is it like?"


@asynchronous
async def test_the_candidate_can_end_the_interview(tmp_path: Path) -> None:
    """Ending an interview produces the closing and the summary; further answers are rejected."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms, questions=9)
        await client.send(client_messages.InterviewEnd(id="e1"))
        await client.next_message(MessageKind.SUMMARY)
        await client.wait_for_phase(Phase.IDLE)
        await client.send(answer("One more thing."))
        assert (await client.next(wire.Failure)).code == ErrorCode.COMPLETED


@asynchronous
async def test_ending_again_resumes_the_stopped_summary(tmp_path: Path) -> None:
    """Ending an interview again after its summary was stopped retries the summary and does not
    repeat the closing."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, delay=1.0) as rooms:
        client = await open_room(rooms)
        await client.send(client_messages.InterviewEnd(id="e1"))
        while not any(isinstance(m, wire.Delta) and m.kind == "summary" for m in client.messages):
            await rooms.advance(1.0)
        await client.send(client_messages.TurnStop(id="s1"))
        await client.send(client_messages.InterviewEnd(id="e2"))
        while not any(
            isinstance(m, wire.InterviewMessage) and m.message.kind == "summary"
            for m in client.messages
        ):
            await rooms.advance(1.0)
        truth = await request_snapshot(client)
    assert message_kinds(truth.messages) == ["question", "closing", "summary"]


@asynchronous
async def test_an_answer_can_be_edited(tmp_path: Path) -> None:
    """The room receives an edited answer marked as `edited`; questions cannot be edited."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await client.send(answer("I used Coffee."))
        message = await client.next_message(MessageKind.ANSWER)
        await client.next_message(MessageKind.QUESTION)
        edit = client_messages.MessageEdit(id="e1", message_id=message.id, text="I used Kafka.")
        await client.send(edit)
        edited = await client.next_message(MessageKind.ANSWER)
        assert (edited.text, edited.edited, edited.position) == ("I used Kafka.", True, 1)
        question = (await request_snapshot(client)).messages[0]
        await client.send(
            client_messages.MessageEdit(id="e2", message_id=question.id, text="Mine now?")
        )
        assert (await client.next(wire.Failure)).code == ErrorCode.NO_SUCH_MESSAGE


@asynchronous
async def test_a_slow_client_that_reconnects_gets_one_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow client that reconnects receives one snapshot instead of the messages that it
    missed."""
    monkeypatch.setattr(connection, "MAX_QUEUED_MESSAGES", 4)
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        slow = Connection("slow")
        rooms.registry.connect("interview", client.room, slow)
        for number in range(3):
            await client.send(answer(f"Answer {number}."))
            await client.next_message(MessageKind.QUESTION)
        assert slow.closing is not None
        assert slow.closing.code == wire.CLOSE_SLOW
        again = await rooms.join(client.room, id="slow")
        assert await again.next(wire.Snapshot) == await request_snapshot(client)
        await rooms.registry.wait_for_handlers()
        assert [type(message) for message in again.messages] == [wire.Hello, wire.Snapshot]


@asynchronous
async def test_a_rate_limited_turn_fails_and_keeps_the_answer(tmp_path: Path) -> None:
    """A turn that exceeds the rate limit fails with an error that gives the time at which the limit
    resets, and the answer stays stored."""
    async with Rooms(tmp_path, rate_limit=1) as rooms:
        client = await open_room(rooms)
        await client.send(answer("One answer."))
        await client.next_message(MessageKind.QUESTION)
        await client.wait_for_phase(Phase.IDLE)
        await client.send(answer("Another answer."))
        failure = await client.next(wire.Failure)
        truth = await request_snapshot(client)
    assert failure.code == ErrorCode.RATE_LIMITED
    assert failure.details["reset"] > rooms.clock.now()
    assert message_kinds(truth.messages) == ["question", "answer"] * 2


@asynchronous
async def test_events_of_an_earlier_epoch_are_dropped(tmp_path: Path) -> None:
    """Text that arrives from an earlier turn is not streamed."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        late = TextProduced(epoch=0, text="Boo")
        await rooms.registry.call(ObjectCall(InterviewStub.kind, client.room, "on_event", (late,)))
        truth = await request_snapshot(client)
    assert truth.streaming is None


@asynchronous
async def test_streaming_a_piece_of_text_reads_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text from the model is streamed as a delta without a database query."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, delay=60.0) as rooms:
        client = await start_reply(rooms)
        statements: list[str] = []
        sql = Storage.sql

        def recording_sql(storage: Storage, statement: str, *bindings: Any) -> Any:
            statements.append(statement)
            return sql(storage, statement, *bindings)

        monkeypatch.setattr(Storage, "sql", recording_sql)
        # The epochs before: the agenda, the first question, the wait, and the assessment.
        piece = TextProduced(epoch=5, text="Why")
        await rooms.registry.call(ObjectCall(InterviewStub.kind, client.room, "on_event", (piece,)))
        assert statements == []
        await client.until(lambda m: isinstance(m, wire.Delta) and m.text == "Why")
        await request_snapshot(client)
        assert statements


@asynchronous
async def test_an_interview_cannot_be_begun_by_another_user(tmp_path: Path) -> None:
    """Calling `begin` for a user who does not own the interview raises NotFound."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create()
        with pytest.raises(NotFound):
            await rooms.registry.call(InterviewStub(view.id).begin("user-2", {}, view))


@asynchronous
async def test_a_lost_update_reaches_the_list_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server stops after the commit of an interview but before the commit of its user's
    list, the list is updated after the restart."""
    clock = ManualClock()
    tell = Registry.tell

    def tell_interviews_only(
        registry: Registry, call: ObjectCall[Any], on_done: Callable[[], None]
    ) -> None:
        if call.kind == InterviewStub.kind:
            tell(registry, call, on_done)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "tell", tell_interviews_only)
        async with Rooms(tmp_path, clock=clock) as rooms:
            client = await open_room(rooms, questions=1)
            await client.send(answer("That is all."))
            await client.next_message(MessageKind.SUMMARY)
            await client.wait_for_phase(Phase.IDLE)
            (listed,) = await rooms.registry.call(UserInterviewsStub(USER).list())
            assert listed.status is wire.Status.ACTIVE
    async with Rooms(tmp_path, clock=clock) as rooms:
        await rooms.advance(6.0)
        watcher = await rooms.join(USER, party="user-interviews")
        await watcher.until(
            lambda m: (
                (isinstance(m, wire.Snapshot) and any_completed(m.interviews or []))
                or (isinstance(m, wire.InterviewUpdated) and any_completed([m.interview]))
            )
        )
        await rooms.registry.wait_for_handlers()
        await rooms.advance(10.0)
        assert rooms.registry.alarms.pop_due_alarms(clock.now() + 1_000.0) == [], (
            "no update is pending"
        )


def any_completed(interviews: Sequence[wire.Interview]) -> bool:
    return any(interview.status is wire.Status.COMPLETED for interview in interviews)

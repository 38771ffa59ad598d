import pytest
from websockets.exceptions import ConnectionClosed

from prepcli.errors import (
    InferenceFailed,
    NotFound,
    RateLimited,
    ServerUnreachable,
)
from prepcli.headless.answers import RecordedAnswer, TypedAnswer
from prepserver.wire.client_messages import (
    AudioStart,
    AudioStop,
    InterviewEnd,
    TurnRetry,
    UserMessage,
)
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Accepted,
    AudioAck,
    Error,
    Failure,
    InterviewDeleted,
    InterviewMessage,
    Phase,
    Snapshot,
    StateChanged,
    Status,
)
from tests.cli.client.builders import make_interview, make_message
from tests.cli.headless.conversations import (
    ANSWER,
    BUSY,
    IDLE,
    ask,
    converse,
    fail,
    failed_turn,
    finish,
    open_room,
)
from tests.support.fake_room import FakeRoom


def test_interview_runs_to_its_end() -> None:
    """Each question receives the next answer, and the conversation ends with the interview."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room())
        await ask(peer, 0)
        for position in (1, 3):
            message = await peer.accept()
            assert isinstance(message, UserMessage)
            await peer.send(InterviewMessage(message=make_message(position, ANSWER, message.text)))
            if position == 1:
                await ask(peer, 2, "And how?")
        await finish(peer, 4)

    result = converse(
        script, [TypedAnswer("Because."), TypedAnswer("Slowly."), TypedAnswer("Unused.")]
    )
    assert result.error is None
    assert result.out.getvalue().splitlines() == [
        "Interviewer: Why?",
        "You: Because.",
        "Interviewer: And how?",
        "You: Slowly.",
        "Interviewer: Thank you.",
        "",
        "Summary:",
        "You did well.",
    ]
    assert "unused answers: 1" in result.err.getvalue()


def test_open_question_is_answered_on_resuming() -> None:
    """A resumed interview continues with its open question."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        assert isinstance(await peer.accept(), UserMessage)
        await finish(peer, 2)

    assert converse(script, [TypedAnswer("x")]).error is None


def test_completed_interview_is_only_printed() -> None:
    """The transcript of a completed interview is printed, and nothing is sent."""

    async def script(fake: FakeRoom) -> None:
        snapshot = Snapshot(
            interview=make_interview(status=Status.COMPLETED),
            state=Phase.IDLE,
            messages=[make_message(0), make_message(1, ANSWER, "A.")],
        )
        await (await fake.next_peer()).greet(snapshot)

    assert converse(script).out.getvalue() == "Interviewer: Why?\nYou: A.\n"


def test_last_answer_ends_the_interview() -> None:
    """When no answers are left, the client ends the interview and prints the closing."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        message = await peer.accept()
        assert isinstance(message, UserMessage)
        await peer.send(InterviewMessage(message=make_message(1, ANSWER, message.text)))
        await ask(peer, 2, "And how?")
        assert isinstance(await peer.accept(), InterviewEnd)
        await finish(peer, 3)

    result = converse(script, [TypedAnswer("Because.")])
    assert result.error is None
    assert "Thank you." in result.out.getvalue()


def test_interview_without_answers_is_unchanged() -> None:
    """A conversation for which no answers are given leaves the interview active."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        with pytest.raises(ConnectionClosed):
            raise AssertionError(await peer.receive())

    result = converse(script)
    assert result.error is None
    assert "unchanged" in result.err.getvalue()


def test_recorded_answer_is_streamed_to_the_room() -> None:
    """All frames of a recording arrive in order, and its transcript is printed."""
    pcm = bytes(range(250)) * 20

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        start = await peer.receive()
        assert isinstance(start, AudioStart)
        await peer.send(AudioAck(id=start.id, frame=-1))
        received = b""
        while isinstance(frame := await peer.receive(), tuple):
            received += frame[1]
        assert received == pcm
        assert frame == AudioStop(id=start.id, frames=4)
        await peer.send(
            Accepted(id=start.id),
            StateChanged(state=Phase.TRANSCRIBING),
            InterviewMessage(message=make_message(1, ANSWER, "I led a team.")),
        )
        await finish(peer, 2)

    assert "You: I led a team." in converse(script, [RecordedAnswer(pcm)]).out.getvalue()


def test_recording_without_words_is_followed_by_the_next_answer() -> None:
    """After `nothing_heard`, the server's message is shown and the next answer is sent."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        first = await peer.accept()
        assert isinstance(first, UserMessage)
        assert first.text == "one"
        await peer.send(
            StateChanged(state=Phase.TRANSCRIBING),
            Failure(code=ErrorCode.NOTHING_HEARD, message="No words were heard."),
            IDLE,
        )
        second = await peer.accept()
        assert isinstance(second, UserMessage)
        assert second.text == "two"
        await finish(peer, 2)

    result = converse(script, [TypedAnswer("one"), TypedAnswer("two")])
    assert result.error is None
    assert "No words were heard." in result.err.getvalue()


def test_answer_is_repeated_after_a_retryable_error() -> None:
    """An answer that was rejected with a retryable error is sent again under a new id."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        first = await peer.receive()
        assert isinstance(first, UserMessage)
        await peer.send(Failure(code=ErrorCode.BUSY, message="Wait.", retryable=True, id=first.id))
        second = await peer.accept()
        assert isinstance(second, UserMessage)
        assert (second.text, second.id != first.id) == ("one", True)
        await finish(peer, 2)

    assert converse(script, [TypedAnswer("one")]).error is None


def test_answer_that_is_always_refused_is_skipped() -> None:
    """An answer that is rejected four times with a retryable error is skipped, and the next answer
    is sent."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        for _ in range(4):
            message = await peer.receive()
            assert isinstance(message, UserMessage)
            assert message.text == "one"
            await peer.send(
                Failure(code=ErrorCode.BUSY, message="Wait.", retryable=True, id=message.id)
            )
        message = await peer.accept()
        assert isinstance(message, UserMessage)
        assert message.text == "two"
        await finish(peer, 2)

    assert converse(script, [TypedAnswer("one"), TypedAnswer("two")]).error is None


def test_failed_turn_is_retried_once() -> None:
    """A turn that failed with a retryable error is retried, and the conversation continues."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room())
        await peer.send(BUSY, *failed_turn(ErrorCode.INFERENCE))
        retry = await peer.receive()
        assert isinstance(retry, TurnRetry)
        await peer.send(BUSY, Accepted(id=retry.id))
        await ask(peer, 0)
        assert isinstance(await peer.accept(), UserMessage)
        await finish(peer, 2)

    assert converse(script, [TypedAnswer("x")]).error is None


def test_second_failure_of_a_turn_is_final() -> None:
    """A turn that fails again after its retry ends the conversation with exit code 6."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room())
        await peer.send(BUSY, *failed_turn(ErrorCode.INFERENCE))
        retry = await peer.receive()
        assert isinstance(retry, TurnRetry)
        await peer.send(BUSY, Accepted(id=retry.id), *failed_turn(ErrorCode.INFERENCE))

    error = converse(script).error
    assert isinstance(error, InferenceFailed)
    assert (error.exit_code, str(error)) == (6, "It did not work.")


def test_failure_in_the_snapshot_is_retried() -> None:
    """A failed turn that the first snapshot reports is retried."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        failed = Error(code=ErrorCode.INFERENCE, message="No.", retryable=True)
        await peer.greet(open_room(failed=failed))
        retry = await peer.accept()
        assert isinstance(retry, TurnRetry)
        await finish(peer, 0)

    assert converse(script).error is None


@pytest.mark.parametrize("code", [ErrorCode.RATE_LIMITED, ErrorCode.BUDGET_SPENT])
@pytest.mark.parametrize("answers_a_message", [True, False])
def test_used_up_allowance_ends_the_conversation(answers_a_message: bool, code: ErrorCode) -> None:
    """A used-up rate limit or budget ends the conversation with exit code 5 and the reset time."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        message = await peer.receive()
        assert isinstance(message, UserMessage)
        id = message.id if answers_a_message else ""
        failure = fail(code, reset=1e9)
        await peer.send(
            Failure(
                code=failure.code,
                message=failure.message,
                retryable=True,
                details=failure.details,
                id=id,
            )
        )

    error = converse(script, [TypedAnswer("x")]).error
    assert isinstance(error, RateLimited)
    assert (error.exit_code, error.reset) == (5, 1e9)


def test_deleted_interview_ends_the_conversation() -> None:
    """Deleting the interview during the conversation ends the conversation with NotFound."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room())
        await peer.send(InterviewDeleted(interview_id="i1"))

    assert isinstance(converse(script).error, NotFound)


def test_unreachable_server_ends_the_conversation() -> None:
    """A conversation that is offline for longer than `offline_seconds` raises ServerUnreachable."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room())
        fake.statuses = [503] * 100_000
        await peer.drop()

    error = converse(script, offline_seconds=0.1).error
    assert isinstance(error, ServerUnreachable)


def test_lost_connection_does_not_repeat_an_answer() -> None:
    """After a reconnect, an unacknowledged answer is resent under the same id, and the next
    question receives the next answer."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        first = await peer.receive()
        await peer.drop()
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        assert await peer.accept() == first
        await peer.send(InterviewMessage(message=make_message(1, ANSWER, "one")))
        await ask(peer, 2)
        second = await peer.accept()
        assert isinstance(second, UserMessage)
        assert second.text == "two"
        await finish(peer, 4)

    assert converse(script, [TypedAnswer("one"), TypedAnswer("two")]).error is None


@pytest.mark.parametrize(
    "failed",
    [
        Error(
            code=ErrorCode.RATE_LIMITED, message="Used up.", retryable=True, details={"reset": 1.0}
        ),
        Error(code=ErrorCode.MODEL_NOT_LOADED, message="No such file.", retryable=False),
    ],
    ids=["allowance renewed", "model repaired"],
)
def test_turn_that_failed_before_resuming_is_retried(failed: Error) -> None:
    """A failed turn is retried on resuming the interview, even if the error is not retryable."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(
            open_room(make_message(0), make_message(1, ANSWER, "Because."), failed=failed)
        )
        assert isinstance(await peer.accept(), TurnRetry)
        await finish(peer, 2)

    assert converse(script).error is None


def test_permanent_model_failure_keeps_the_remaining_answers() -> None:
    """A permanent model error ends the conversation before the next answer is sent."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        assert isinstance(await peer.accept(), UserMessage)
        await peer.send(
            BUSY, Failure(code=ErrorCode.MODEL_NOT_LOADED, message="No such file.", retryable=False)
        )
        with pytest.raises(ConnectionClosed):
            raise AssertionError(await peer.receive())

    result = converse(script, [TypedAnswer("One."), TypedAnswer("Two.")])
    assert isinstance(result.error, InferenceFailed)


def test_unknown_error_codes_are_handled_by_their_retryable_flag() -> None:
    """With an unknown error code, an answer that was rejected as retryable is sent again, and a
    failed turn that is not retryable ends the conversation."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        first = await peer.receive()
        assert isinstance(first, UserMessage)
        await peer.send(Failure(code="from_the_future", message="A.", retryable=True, id=first.id))
        assert isinstance(await peer.accept(), UserMessage)
        await peer.send(BUSY, Failure(code="from_the_future", message="B.", retryable=False))

    result = converse(script, [TypedAnswer("One.")])
    assert isinstance(result.error, InferenceFailed)
    assert str(result.error) == "B."

import asyncio
import io
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from prepcli.client.room import Room
from prepcli.errors import InferenceFailed, NotFound, PrepError, RateLimited, ServerUnreachable
from prepcli.headless.answers import Answer, AnswerQueue, RecordedAnswer, TypedAnswer
from prepcli.headless.conversation import Conversation
from prepcli.headless.output import PlainOutput
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Accepted,
    AudioAck,
    AudioStart,
    AudioStop,
    Delta,
    Error,
    Failure,
    InterviewDeleted,
    InterviewEnd,
    InterviewMessage,
    InterviewUpdated,
    Message,
    MessageKind,
    Phase,
    Snapshot,
    StateChanged,
    Status,
    TurnRetry,
    UserMessage,
)
from tests.cli.client.things import interview, said
from tests.support.fake_room import PATIENCE, FakeRoom, Peer

QUESTION, ANSWER = MessageKind.QUESTION, MessageKind.ANSWER
BUSY, IDLE = StateChanged(state=Phase.GENERATING), StateChanged(state=Phase.IDLE)


class Played:
    """What came of a conversation."""

    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.error: PrepError | None = None


def converse(
    script: Callable[[FakeRoom], Coroutine[Any, Any, None]],
    answers: Sequence[Answer] = (),
    **options: Any,
) -> Played:
    """Run a conversation against a server that follows a script; the script runs to its end."""
    played = Played()

    async def run() -> None:
        async with FakeRoom() as fake, asyncio.TaskGroup() as tasks:
            playing = tasks.create_task(script(fake))
            output = PlainOutput(played.out, played.err, live=False)
            room = Room(fake.address, sleep=lambda _: asyncio.sleep(0.001))
            try:
                async with asyncio.timeout(PATIENCE):
                    await Conversation(room, AnswerQueue(answers), output, **options).run()
            except PrepError as error:
                played.error = error
            async with asyncio.timeout(PATIENCE):
                await playing

    asyncio.run(run())
    return played


def open_room(*messages: Message, **changes: Any) -> Snapshot:
    return Snapshot(interview=interview(), state=Phase.IDLE, messages=list(messages), **changes)


async def ask(peer: Peer, position: int, text: str = "Why?") -> None:
    """The next question, streamed."""
    id = f"m{position}"
    await peer.send(
        BUSY,
        Delta(message_id=id, kind=QUESTION, offset=0, text=text[:2]),
        Delta(message_id=id, kind=QUESTION, offset=2, text=text[2:]),
        InterviewMessage(message=said(position, text=text)),
        IDLE,
    )


async def finish(peer: Peer, position: int) -> None:
    """Closing, summary, completed."""
    await peer.send(
        BUSY,
        InterviewMessage(message=said(position, MessageKind.CLOSING, "Thank you.")),
        InterviewMessage(message=said(position + 1, MessageKind.SUMMARY, "You did well.")),
        InterviewUpdated(interview=interview(status=Status.COMPLETED)),
        IDLE,
    )


def test_an_interview_is_held_from_its_first_question_to_its_end() -> None:
    """Each question gets the next answer, and the completed interview ends the run."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room())
        await ask(peer, 0)
        for position in (1, 3):
            message = await peer.accept()
            assert isinstance(message, UserMessage)
            await peer.send(InterviewMessage(message=said(position, ANSWER, message.text)))
            if position == 1:
                await ask(peer, 2, "And how?")
        await finish(peer, 4)

    played = converse(
        script, [TypedAnswer("Because."), TypedAnswer("Slowly."), TypedAnswer("Unused.")]
    )
    assert played.error is None
    assert played.out.getvalue().splitlines() == [
        "Interviewer: Why?",
        "You: Because.",
        "Interviewer: And how?",
        "You: Slowly.",
        "Interviewer: Thank you.",
        "",
        "Summary:",
        "You did well.",
    ]
    assert "not needed any more: 1" in played.err.getvalue()


def test_a_question_that_is_open_already_is_answered() -> None:
    """Coming back to an interview goes on where it stood."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room(said(0)))
        assert isinstance(await peer.accept(), UserMessage)
        await finish(peer, 2)

    assert converse(script, [TypedAnswer("x")]).error is None


def test_a_completed_interview_is_printed_and_that_is_all() -> None:
    """Nothing is asked and nothing is sent."""

    async def script(fake: FakeRoom) -> None:
        snapshot = Snapshot(
            interview=interview(status=Status.COMPLETED),
            state=Phase.IDLE,
            messages=[said(0), said(1, ANSWER, "A.")],
        )
        await (await fake.peer()).greet(snapshot)

    assert converse(script).out.getvalue() == "Interviewer: Why?\nYou: A.\n"


def test_without_more_answers_the_interview_is_ended() -> None:
    """The closing and the summary still come."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room(said(0)))
        message = await peer.accept()
        assert isinstance(message, UserMessage)
        await peer.send(InterviewMessage(message=said(1, ANSWER, message.text)))
        await ask(peer, 2, "And how?")
        assert isinstance(await peer.accept(), InterviewEnd)
        await finish(peer, 3)

    played = converse(script, [TypedAnswer("Because.")])
    assert played.error is None
    assert "Thank you." in played.out.getvalue()


def test_without_any_answer_the_interview_is_left_as_it_is() -> None:
    """Looking in, as a script does with nothing on its standard input, ends nothing."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room(said(0)))
        with pytest.raises(ConnectionClosed):
            raise AssertionError(await peer.receive())

    played = converse(script)
    assert played.error is None
    assert "left as it is" in played.err.getvalue()


def test_a_recording_is_spoken_into_the_room() -> None:
    """Its frames arrive numbered and whole, and what was understood is printed."""
    pcm = bytes(range(250)) * 20

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room(said(0)))
        start = await peer.receive()
        assert isinstance(start, AudioStart)
        await peer.send(AudioAck(id=start.id, frame=-1))
        heard = b""
        while isinstance(frame := await peer.receive(), tuple):
            heard += frame[1]
        assert heard == pcm
        assert frame == AudioStop(id=start.id, frames=4)
        await peer.send(
            Accepted(id=start.id),
            StateChanged(state=Phase.TRANSCRIBING),
            InterviewMessage(message=said(1, ANSWER, "I led a team.")),
        )
        await finish(peer, 2)

    assert "You: I led a team." in converse(script, [RecordedAnswer("a.wav", pcm)]).out.getvalue()


def test_a_recording_without_words_makes_room_for_the_next_answer() -> None:
    """The server's sentence is shown, and the same question gets the next answer."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room(said(0)))
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

    played = converse(script, [TypedAnswer("one"), TypedAnswer("two")])
    assert played.error is None
    assert "No words were heard." in played.err.getvalue()


def test_an_answer_at_a_wrong_moment_is_given_again() -> None:
    """When the server is busy the same answer comes once more, with a new id."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room(said(0)))
        first = await peer.receive()
        assert isinstance(first, UserMessage)
        await peer.send(Failure(code=ErrorCode.BUSY, message="Wait.", retryable=True, id=first.id))
        second = await peer.accept()
        assert isinstance(second, UserMessage)
        assert (second.text, second.id != first.id) == ("one", True)
        await finish(peer, 2)

    assert converse(script, [TypedAnswer("one")]).error is None


def test_an_answer_that_is_never_taken_is_skipped() -> None:
    """After three repetitions the next answer has its turn."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room(said(0)))
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


def fail(code: str, *, retryable: bool = True, **details: Any) -> Failure:
    return Failure(code=code, message="It did not work.", retryable=retryable, details=details)


def failed_turn(code: str) -> tuple[Failure, StateChanged]:
    """What the room says when a turn fails."""
    failure = fail(code)
    error = msgspec.convert(failure, Error, from_attributes=True)
    return failure, StateChanged(state=Phase.IDLE, failed=error)


def test_a_failed_turn_is_tried_again_once() -> None:
    """A model that fails once does not end the interview."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room())
        await peer.send(BUSY, *failed_turn("inference"))
        retry = await peer.receive()
        assert isinstance(retry, TurnRetry)
        await peer.send(BUSY, Accepted(id=retry.id))
        await ask(peer, 0)
        assert isinstance(await peer.accept(), UserMessage)
        await finish(peer, 2)

    assert converse(script, [TypedAnswer("x")]).error is None


def test_a_turn_that_fails_again_ends_with_the_models_error() -> None:
    """The second failure of the same turn is the end, with exit code 6."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room())
        await peer.send(BUSY, *failed_turn("inference"))
        retry = await peer.receive()
        assert isinstance(retry, TurnRetry)
        await peer.send(BUSY, Accepted(id=retry.id), *failed_turn("inference"))

    error = converse(script).error
    assert isinstance(error, InferenceFailed)
    assert (error.exit_code, str(error)) == (6, "It did not work.")


def test_a_failure_that_stands_in_the_snapshot_is_tried_again() -> None:
    """An interview that stopped while nobody was there goes on."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        failed = Error(code=ErrorCode.INFERENCE, message="No.", retryable=True)
        await peer.greet(open_room(failed=failed))
        retry = await peer.accept()
        assert isinstance(retry, TurnRetry)
        await finish(peer, 0)

    assert converse(script).error is None


@pytest.mark.parametrize("answers_a_message", [True, False])
def test_the_rate_limit_ends_with_the_time_of_its_reset(answers_a_message: bool) -> None:
    """Exit code 5 and until when, whether a message was refused or a turn."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room(said(0)))
        message = await peer.receive()
        assert isinstance(message, UserMessage)
        id = message.id if answers_a_message else ""
        failure = fail("rate_limited", reset=1e9)
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


def test_a_deleted_interview_ends_the_conversation() -> None:
    """Somebody deleted it meanwhile."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room())
        await peer.send(InterviewDeleted(interview_id="i1"))

    assert isinstance(converse(script).error, NotFound)


def test_a_server_that_does_not_come_back_is_given_up() -> None:
    """A script that nobody watches does not wait for ever."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room())
        fake.statuses = [503] * 100_000
        await peer.drop()

    error = converse(script, offline_seconds=0.1).error
    assert isinstance(error, ServerUnreachable)


def test_a_lost_connection_does_not_answer_twice() -> None:
    """The answer that was on its way is repeated with its id, and not taken for a new one."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room(said(0)))
        first = await peer.receive()
        await peer.drop()
        peer = await fake.peer()
        await peer.greet(open_room(said(0)))
        assert await peer.accept() == first
        await peer.send(InterviewMessage(message=said(1, ANSWER, "one")))
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
    ids=["the period is over", "the model may be mended"],
)
def test_a_turn_that_failed_some_time_ago_is_tried_again(failed: Error) -> None:
    """Whoever comes back to an interview is not sent away for what was wrong then."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room(said(0), said(1, ANSWER, "Because."), failed=failed))
        assert isinstance(await peer.accept(), TurnRetry)
        await finish(peer, 2)

    assert converse(script).error is None


def test_broken_ears_do_not_eat_the_recordings() -> None:
    """A failure that trying again cannot mend ends the run; no further answer is given away."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.peer()
        await peer.greet(open_room(said(0)))
        assert isinstance(await peer.accept(), UserMessage)
        await peer.send(
            BUSY, Failure(code=ErrorCode.MODEL_NOT_LOADED, message="No such file.", retryable=False)
        )
        with pytest.raises(ConnectionClosed):
            raise AssertionError(await peer.receive())

    played = converse(script, [TypedAnswer("One."), TypedAnswer("Two.")])
    assert isinstance(played.error, InferenceFailed)

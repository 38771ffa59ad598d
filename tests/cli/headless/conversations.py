"""Conversations without a screen, held with a scripted server."""

import asyncio
import io
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from prepcli.client.room import Room
from prepcli.errors import (
    PrepError,
)
from prepcli.headless.answers import Answer, AnswerQueue, LineSource
from prepcli.headless.conversation import Conversation
from prepcli.headless.output import PlainOutput
from prepserver.wire.protocol import (
    Delta,
    Error,
    Failure,
    InterviewMessage,
    InterviewUpdated,
    Message,
    MessageKind,
    Phase,
    Snapshot,
    StateChanged,
    Status,
)
from tests.cli.client.builders import make_interview, make_message
from tests.support.fake_room import TIMEOUT_SECONDS, FakeRoom, Peer

QUESTION, ANSWER = MessageKind.QUESTION, MessageKind.ANSWER
BUSY, IDLE = StateChanged(state=Phase.GENERATING), StateChanged(state=Phase.IDLE)


class Result:
    """Output, progress notes and error of a conversation."""

    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.error: PrepError | None = None


class Person:
    """Person at a terminal who types the given lines."""

    interactive = True

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    async def next_line(self, draft: str = "", *, prompt: str = "") -> str | None:
        return self._lines.pop(0) if self._lines else None


def converse(
    script: Callable[[FakeRoom], Coroutine[Any, Any, None]],
    answers: Sequence[Answer] = (),
    lines: LineSource | None = None,
    **options: Any,
) -> Result:
    """Run a conversation and a scripted server until both have ended."""
    result = Result()

    async def run() -> None:
        async with FakeRoom() as fake, asyncio.TaskGroup() as tasks:
            playing = tasks.create_task(script(fake))
            output = PlainOutput(result.out, result.err, live=False)
            room = Room(fake.address, sleep=lambda _: asyncio.sleep(0.001))
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await Conversation(room, AnswerQueue(answers, lines), output, **options).run()
            except PrepError as error:
                result.error = error
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await playing

    asyncio.run(run())
    return result


def open_room(*messages: Message, **changes: Any) -> Snapshot:
    return Snapshot(
        interview=make_interview(), state=Phase.IDLE, messages=list(messages), **changes
    )


async def ask(peer: Peer, position: int, text: str = "Why?") -> None:
    """Stream a question for the given position in the transcript."""
    id = f"m{position}"
    await peer.send(
        BUSY,
        Delta(message_id=id, kind=QUESTION, offset=0, text=text[:2]),
        Delta(message_id=id, kind=QUESTION, offset=2, text=text[2:]),
        InterviewMessage(message=make_message(position, text=text)),
        IDLE,
    )


async def finish(peer: Peer, position: int) -> None:
    """Send the closing and the summary, and complete the interview."""
    await peer.send(
        BUSY,
        InterviewMessage(message=make_message(position, MessageKind.CLOSING, "Thank you.")),
        InterviewMessage(message=make_message(position + 1, MessageKind.SUMMARY, "You did well.")),
        InterviewUpdated(interview=make_interview(status=Status.COMPLETED)),
        IDLE,
    )


def fail(code: str, *, retryable: bool = True, **details: Any) -> Failure:
    return Failure(code=code, message="It did not work.", retryable=retryable, details=details)


def failed_turn(
    code: str, *, retryable: bool = True, **details: Any
) -> tuple[Failure, StateChanged]:
    """Return the messages with which a room reports a failed turn."""
    failure = fail(code, retryable=retryable, **details)
    error = msgspec.convert(failure, Error, from_attributes=True)
    return failure, StateChanged(state=Phase.IDLE, failed=error)

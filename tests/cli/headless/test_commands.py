"""Requests during an interview without a screen, in words and as commands."""

from collections.abc import Sequence

import pytest

from prepcli.headless.answers import TypedAnswer
from prepserver.wire.client_messages import (
    CandidatePause,
    CandidateRepeat,
    CandidateRephrase,
    CandidateSkip,
    HintRequest,
    InterviewEnd,
    UserMessage,
)
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Failure, InterviewMessage, MessageKind
from tests.cli.client.builders import make_agenda, make_message
from tests.cli.headless.conversations import (
    ANSWER,
    BUSY,
    IDLE,
    Person,
    Result,
    converse,
    finish,
    open_room,
)
from tests.support.fake_room import FakeRoom, Peer

REQUEST, REPLY = MessageKind.REQUEST, MessageKind.REPLY

COMMANDS = [
    ("/repeat", CandidateRepeat),
    ("/rephrase", CandidateRephrase),
    ("/skip", CandidateSkip),
    (" /PAUSE ", CandidatePause),
    ("/hint", HintRequest),
    ("/end", InterviewEnd),
]


async def reply(peer: Peer, position: int, request: str = "Could you repeat that?") -> None:
    """Store a request of the candidate, and reply to it."""
    await peer.send(
        InterviewMessage(message=make_message(position, REQUEST, request)),
        BUSY,
        InterviewMessage(message=make_message(position + 1, REPLY, "Again: why?")),
        IDLE,
    )


def type_lines(*lines: str, expected: Sequence[type]) -> Result:
    """Type lines at the open question, and expect messages of these types, each answered as the
    room would."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0), agenda=make_agenda(2)))
        position = 1
        for kind in expected:
            message = await peer.accept()
            assert type(message) is kind
            if kind is HintRequest:
                continue
            if isinstance(message, CandidateRepeat):
                await reply(peer, position)
                position += 2
        await finish(peer, position)

    return converse(script, (), Person(*lines))


@pytest.mark.parametrize(("line", "kind"), COMMANDS)
def test_a_command_sends_its_message(line: str, kind: type) -> None:
    """A command sends its message instead of an answer."""
    assert type_lines(line, expected=[kind]).error is None


@pytest.mark.parametrize("command", ["/repeat", "/hint"])
def test_the_question_stays_open_after_a_command(command: str) -> None:
    """After a reply or while a hint is written, the person answers the same question."""
    kind = dict(COMMANDS)[command]
    result = type_lines(command, "Because.", expected=[kind, UserMessage])
    assert result.error is None
    if command == "/repeat":
        assert result.out.getvalue().splitlines()[-7:-4] == [
            "Interviewer: Why?",
            "You: Could you repeat that?",
            "Interviewer: Again: why?",
        ]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("/usr/bin/env finds it.", "/usr/bin/env finds it."),
        ("/repeat the test first", "/repeat the test first"),
        ("//repeat", "/repeat"),
        ("//HELP ", "/HELP"),
        ("// a comment", "// a comment"),
        ("/", "/"),
    ],
)
def test_other_text_with_a_slash_is_an_answer(line: str, text: str) -> None:
    """Only the names of commands are commands, and a second slash escapes them."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        message = await peer.accept()
        assert isinstance(message, UserMessage)
        assert message.text.strip() == text
        await finish(peer, 1)

    assert converse(script, (), Person(line)).error is None


def test_help_and_agenda_are_printed() -> None:
    """`/help` lists the commands and `/agenda` the topics, and both ask for the answer again."""
    result = type_lines("/help", "/agenda", "Because.", expected=[UserMessage])
    assert all(name.strip().lower() in result.err.getvalue() for name, _ in COMMANDS)
    assert "2. Question 2? (3 min)" in result.out.getvalue()


def test_a_refused_command_leaves_the_question_open() -> None:
    """The reason for which a command was refused is printed, and the next line is the answer."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        for kind in (HintRequest, InterviewEnd):
            message = await peer.receive()
            assert isinstance(message, kind)
            await peer.send(Failure(code=ErrorCode.NO_HINTS, message="Not now.", id=message.id))
        assert isinstance(await peer.accept(), UserMessage)
        await finish(peer, 1)

    result = converse(script, (), Person("/hint", "/end", "Because."))
    assert result.error is None
    assert result.err.getvalue().count("Not now.") == 2


@pytest.mark.parametrize("line", ["/repeat", "/help", "//skip"])
def test_lines_of_a_file_are_answers(line: str) -> None:
    """A prepared answer that looks like a command is sent as it is."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        message = await peer.accept()
        assert isinstance(message, UserMessage)
        assert message.text == line
        await finish(peer, 1)

    assert converse(script, [TypedAnswer(line)]).error is None


@pytest.mark.parametrize("assessed_first", [True, False])
def test_an_answer_taken_for_a_request_uses_the_next_answer(assessed_first: bool) -> None:
    """The next answer of a file goes to the same question after the reply, also if the answer was
    stored first and found to be a request later."""
    words = "What do you mean?"

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        assert isinstance(await peer.accept(), UserMessage)
        if assessed_first:
            await peer.send(InterviewMessage(message=make_message(1, ANSWER, words)), BUSY)
        await reply(peer, 1, words)
        message = await peer.accept()
        assert isinstance(message, UserMessage)
        assert message.text == "Because."
        await finish(peer, 3)

    result = converse(script, [TypedAnswer(words), TypedAnswer("Because.")])
    assert result.error is None
    assert result.out.getvalue().count(words) == 1


def test_a_request_as_the_last_answer_ends_the_interview() -> None:
    """When the last answer of a file was taken for a request, the interview ends."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0)))
        assert isinstance(await peer.accept(), UserMessage)
        await reply(peer, 1)
        assert isinstance(await peer.accept(), InterviewEnd)
        await finish(peer, 3)

    assert converse(script, [TypedAnswer("Could you repeat that?")]).error is None


def test_nothing_is_sent_between_a_request_and_its_reply() -> None:
    """While a request has no reply, the next answer waits."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(open_room(make_message(0), make_message(1, REQUEST, "Again?")))
        await peer.send(InterviewMessage(message=make_message(2, REPLY, "Again: why?")), IDLE)
        assert isinstance(await peer.accept(), UserMessage)
        await finish(peer, 3)

    result = converse(script, [TypedAnswer("One."), TypedAnswer("Two.")])
    assert "unused answers: 1" in result.err.getvalue()

"""Agenda before the start of an interview without a screen."""

import pytest
from msgspec.structs import replace

from prepcli.errors import RequestRefused
from prepcli.headless.answers import LineSource, TypedAnswer
from prepserver.wire.agenda import Agenda, EditedTopic
from prepserver.wire.client_messages import AgendaEdit, InterviewStart, UserMessage
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    AgendaChanged,
    Failure,
    InterviewUpdated,
    Phase,
    Snapshot,
    Status,
)
from tests.cli.client.builders import make_agenda, make_interview
from tests.cli.headless.conversations import Person, Result, ask, converse, finish
from tests.support.fake_room import FakeRoom, Peer

PLANNED = make_interview(status=Status.PLANNED)


def planned(agenda: Agenda | None) -> Snapshot:
    return Snapshot(interview=PLANNED, state=Phase.IDLE, agenda=agenda)


async def hold(peer: Peer) -> None:
    """Accept the start, and hold an interview of one question."""
    assert isinstance(await peer.accept(), InterviewStart)
    await peer.send(InterviewUpdated(interview=replace(PLANNED, status=Status.ACTIVE)))
    await ask(peer, 0)
    assert isinstance(await peer.accept(), UserMessage)
    await finish(peer, 1)


def start(agenda: Agenda | None, lines: LineSource | None = None) -> Result:
    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(planned(agenda))
        await hold(peer)

    return converse(script, () if lines else [TypedAnswer("Because.")], lines)


def test_a_script_prints_the_agenda_and_starts() -> None:
    """Without a terminal the agenda is printed once, and the interview starts."""
    result = start(make_agenda(2))
    assert result.error is None
    assert result.out.getvalue().startswith(
        "Agenda:\n  1. Question 1? (3 min)\n  2. Question 2? (3 min)\nInterviewer: Why?\n"
    )
    assert result.out.getvalue().count("Agenda") == 1
    assert "Press Enter" not in result.err.getvalue()


@pytest.mark.parametrize("person", [True, False])
def test_a_hidden_agenda_is_not_asked_about(person: bool) -> None:
    """A planned interview without a visible agenda starts at once."""
    result = start(None, Person("Because.") if person else None)
    assert result.error is None
    assert "Agenda" not in result.out.getvalue()


def test_a_person_edits_the_agenda_and_starts() -> None:
    """A person sees the agenda again after each edit, and the reason for a wrong command; an empty
    line starts the interview."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(planned(make_agenda(2)))
        edit = await peer.receive()
        assert isinstance(edit, AgendaEdit)
        assert edit.topics == [EditedTopic(id="t2")]
        await peer.send(AgendaChanged(agenda=Agenda(topics=make_agenda(2).topics[1:])))
        await peer.send_raw(f'{{"type": "accepted", "id": "{edit.id}"}}')
        await hold(peer)

    result = converse(script, (), Person("remove 3", "remove 1", "  ", "Because."))
    assert result.error is None
    assert result.err.getvalue().count("Press Enter to start") == 1
    assert "topics 1 to 2" in result.err.getvalue()
    assert "Agenda:\n  1. Question 2? (3 min)\nInterviewer" in result.out.getvalue()


def test_a_refused_edit_is_explained() -> None:
    """The server's reason for refusing an edit is printed, and the person is asked again."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(planned(make_agenda(2)))
        edit = await peer.receive()
        assert isinstance(edit, AgendaEdit)
        await peer.send(Failure(code=ErrorCode.BAD_AGENDA, message="Too many.", id=edit.id))
        await hold(peer)

    result = converse(script, (), Person("add kafka", "", "Because."))
    assert result.error is None
    assert "Too many." in result.err.getvalue()


def test_an_unchanged_agenda_asks_again() -> None:
    """An edit that changes nothing does not stall."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(planned(make_agenda(2)))
        assert isinstance(await peer.accept(), AgendaEdit)
        await hold(peer)

    assert converse(script, (), Person("move 1 1", "", "Because.")).error is None


def test_ending_the_input_leaves_the_interview_planned() -> None:
    """A person who ends the input leaves the interview unchanged."""

    async def script(fake: FakeRoom) -> None:
        await (await fake.next_peer()).greet(planned(make_agenda(2)))

    result = converse(script, (), Person())
    assert result.error is None
    assert "unchanged" in result.err.getvalue()


@pytest.mark.parametrize("code", [ErrorCode.ALREADY_STARTED, ErrorCode.NOT_READY])
def test_a_refused_start(code: ErrorCode) -> None:
    """An interview that another client has started goes on; any other refusal is an error."""

    async def script(fake: FakeRoom) -> None:
        peer = await fake.next_peer()
        await peer.greet(planned(make_agenda(1)))
        message = await peer.receive()
        assert isinstance(message, InterviewStart)
        await peer.send(Failure(code=code, message="No.", id=message.id))
        if code is ErrorCode.ALREADY_STARTED:
            await peer.send(InterviewUpdated(interview=replace(PLANNED, status=Status.ACTIVE)))
            await ask(peer, 0)
            assert isinstance(await peer.accept(), UserMessage)
            await finish(peer, 1)

    error = converse(script, [TypedAnswer("Because.")]).error
    assert isinstance(error, RequestRefused) == (code is ErrorCode.NOT_READY)

"""Agenda of an interview: planned, edited, started and hidden."""

from pathlib import Path
from typing import Any

import pytest

from prepserver.errors import PrepServerError
from prepserver.interview.agenda import StoredAgenda, edit_agenda, plan_agenda
from prepserver.interview.questions.bank import load_bank
from prepserver.interview.stubs import InterviewStub
from prepserver.wire import client_messages
from prepserver.wire import protocol as wire
from prepserver.wire.agenda import EditedTopic, TopicKind, TopicStatus, Where
from prepserver.wire.error_codes import ErrorCode
from tests.server.interview.conversation import answer, open_room, request_snapshot, wait_until_idle
from tests.support.loop import asynchronous
from tests.support.rooms import Rooms

JOB = "Requirements:\n- 3 years of Python\n- PostgreSQL and Kafka\n"
RESUME = "I built billing services in Python."

SPEC = wire.InterviewSpec(
    role="Backend Engineer",
    type=wire.InterviewType.TECHNICAL,
    questions=7,
    job_description=JOB,
    resume=RESUME,
)


def plan(**changes: Any) -> StoredAgenda:
    return plan_agenda(load_bank(), wire.InterviewSpec(**{**vars_of(SPEC), **changes}), seed=1)


def vars_of(spec: wire.InterviewSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__struct_fields__}


def edit(agenda: StoredAgenda, *topics: EditedTopic) -> StoredAgenda:
    return edit_agenda(agenda, topics, load_bank(), SPEC)


def test_an_agenda_has_an_opening_topics_and_a_closing() -> None:
    """Each topic of the agenda names its skill and quotes the document that asks for it."""
    topics = plan().view.topics
    assert [each.kind for each in topics] == [
        TopicKind.OPENING, TopicKind.TOPIC, TopicKind.TOPIC, TopicKind.CLOSING
    ]  # fmt: skip
    python = next(each for each in topics if each.skill == "python")
    assert (python.reason, python.where) == ("3 years of Python", Where.BOTH)
    assert len({each.question for each in topics}) == len(topics)
    assert all(each.minutes >= 1 and each.status is TopicStatus.PLANNED for each in topics)


@pytest.mark.parametrize(
    ("questions", "kinds"),
    [
        (1, "topic"),
        (2, "opening topic"),
        (5, "opening topic topic"),
        (30, "opening topic topic topic topic topic topic closing"),
    ],
)
def test_the_number_of_topics_follows_the_number_of_questions(questions: int, kinds: str) -> None:
    """An agenda never has more topics than the interview has questions."""
    agenda = plan(questions=questions)
    assert " ".join(each.topic.kind for each in agenda.topics) == kinds


def test_a_planned_agenda_is_the_same_again() -> None:
    """Equal arguments give equal agendas, as a restart after a crash needs."""
    assert plan() == plan()


def test_topics_can_be_reordered_removed_changed_and_added() -> None:
    """An edit replaces the planned topics; a topic without a question gets one of the bank."""
    agenda = plan()
    first, second, *_ = agenda.view.topics
    edited = edit(
        agenda,
        EditedTopic(id=second.id, minutes=9),
        EditedTopic(id=first.id, question=" How do you\nreview code? "),
        EditedTopic(skill="kafka"),
        EditedTopic(question="Which of our products would you improve?"),
    )
    one, two, three, four = edited.view.topics
    assert (one.id, one.question, one.minutes) == (second.id, second.question, 9)
    assert (two.id, two.question) == (first.id, "How do you review code?")
    assert edited.topics[1].question is None
    assert three.skill == "kafka"
    assert three.question.endswith("?")
    assert four.question == "Which of our products would you improve?"
    assert len({each.id for each in edited.view.topics}) == 4


@pytest.mark.parametrize(
    ("topics", "code"),
    [
        ([], ErrorCode.BAD_AGENDA),
        ([EditedTopic()], ErrorCode.BAD_AGENDA),
        ([EditedTopic(id="nowhere")], ErrorCode.BAD_AGENDA),
        ([EditedTopic(id="topic-1"), EditedTopic(id="topic-1")], ErrorCode.BAD_AGENDA),
        ([EditedTopic(question="Tell me more.")], ErrorCode.BAD_AGENDA),
        ([EditedTopic(question="   ?   ")], ErrorCode.BAD_AGENDA),
        ([EditedTopic(skill="sql")] * 8, ErrorCode.BAD_AGENDA),
    ],
)
def test_an_invalid_edit_is_rejected(topics: list[EditedTopic], code: ErrorCode) -> None:
    """An edit without topics, with unknown or repeated ids, or with too many topics is an error."""
    with pytest.raises(PrepServerError) as error:
        edit(plan(), *topics)
    assert error.value.code == code


def test_a_topic_that_was_asked_is_fixed() -> None:
    """An edit leaves the current topic in its place and cannot contain it."""
    agenda = plan().advance()
    edited = edit(agenda, EditedTopic(id="topic-3"))
    assert [each.topic.id for each in edited.topics] == ["topic-1", "topic-3"]
    with pytest.raises(PrepServerError) as error:
        edit(agenda, EditedTopic(id="topic-1"))
    assert error.value.code == ErrorCode.TOPIC_ASKED


@asynchronous
async def test_an_interview_can_wait_for_its_start(tmp_path: Path) -> None:
    """With `review_agenda` the candidate edits the agenda, and the first question follows the
    edit."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create(role="Backend Engineer", questions=3, review_agenda=True)
        client = await rooms.join(view.id)
        truth = await client.until(lambda m: isinstance(m, wire.StateChanged | wire.Snapshot))
        snapshot = await request_snapshot(client)
        while snapshot.agenda is None or snapshot.state is not wire.Phase.IDLE:
            snapshot = await request_snapshot(client)
        assert snapshot.interview is not None
        assert (snapshot.interview.status, snapshot.messages) == (wire.Status.PLANNED, [])
        await client.send(answer("I am early.", id="early"))
        assert (await client.next(wire.Failure)).code == ErrorCode.NOT_STARTED
        mine = EditedTopic(question="Which bug are you proud of?")
        await client.send(client_messages.AgendaEdit(id="edit", topics=[mine]))
        assert (await client.next(wire.AgendaChanged)).agenda.topics[0].question == mine.question
        await client.send(client_messages.InterviewStart(id="start"))
        question = await client.next_message(wire.MessageKind.QUESTION)
        assert question.text.endswith(mine.question)
        assert question.topic
        await client.send(client_messages.InterviewStart(id="again"))
        assert (await client.next(wire.Failure)).code == ErrorCode.ALREADY_STARTED
        assert truth


@asynchronous
async def test_a_real_interview_hides_its_agenda_and_gives_no_hints(tmp_path: Path) -> None:
    """In a real interview the agenda appears at the end, and hints are refused."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms, mode="real", questions=1)
        snapshot = await request_snapshot(client)
        assert snapshot.agenda is None
        assert snapshot.interview is not None
        stub = InterviewStub(snapshot.interview.id)
        with pytest.raises(PrepServerError) as error:
            await rooms.registry.call(stub.agenda())
        assert error.value.code == ErrorCode.AGENDA_HIDDEN
        await client.send(client_messages.HintRequest(id="hint"))
        assert (await client.next(wire.Failure)).code == ErrorCode.NO_HINTS
        await client.send(answer("I would measure first and then change the slowest part of it."))
        await client.next_message(wire.MessageKind.SUMMARY)
        await wait_until_idle(client)
        agenda = (await request_snapshot(client)).agenda
        assert agenda is not None
        assert [each.status for each in agenda.topics] == [TopicStatus.DONE]


@asynchronous
async def test_an_interview_ends_when_its_time_is_used_up(tmp_path: Path) -> None:
    """No further question is asked after the minutes of the interview."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms, minutes=5, questions=30)
        await client.send(answer("I planned the release with the team and wrote the checklist."))
        await wait_until_idle(client)
        assert len((await request_snapshot(client)).messages) == 3
        await rooms.clock.advance(301.0)
        await client.send(answer("We then tried it once on a copy of the production data."))
        await client.next_message(wire.MessageKind.CLOSING)

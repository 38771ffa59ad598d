"""Requests of the candidate: to repeat, to rephrase, to skip, for time, and back to the
interviewer."""

from collections import Counter
from pathlib import Path

import pytest

from prepserver.wire import client_messages
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import Intent, Message, MessageKind
from tests.server.interview.conversation import answer, open_room, request_snapshot, wait_until_idle
from tests.support.loop import asynchronous
from tests.support.rooms import Client, Rooms

Button = type[
    client_messages.CandidateRepeat
    | client_messages.CandidateRephrase
    | client_messages.CandidatePause
]

REQUESTS = [
    ("Could you repeat the question please?", Intent.REPEAT, client_messages.CandidateRepeat),
    ("Could you put that in other words?", Intent.REPHRASE, client_messages.CandidateRephrase),
    ("I need a moment to think.", Intent.PAUSE, client_messages.CandidatePause),
]


async def transcript_of(client: Client) -> list[Message]:
    return (await request_snapshot(client)).messages


@pytest.mark.parametrize(("words", "intent", "button"), REQUESTS)
@pytest.mark.parametrize("in_words", [True, False])
@asynchronous
async def test_a_request_leaves_the_question_open(
    tmp_path: Path,
    words: str,
    intent: Intent,
    button: Button,
    in_words: bool,
) -> None:
    """A request in words or by its own message gets a reply, and the question waits for its
    answer."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms, questions=2)
        await client.send(answer(words, id="1") if in_words else button(id="1"))
        await wait_until_idle(client)
        question, request, reply = await transcript_of(client)
        assert (request.kind, request.intent) == (MessageKind.REQUEST, intent)
        assert (reply.kind, reply.intent) == (MessageKind.REPLY, intent)
        if intent is Intent.REPEAT:
            assert question.text.endswith(reply.text.split(". ", 1)[1])
        view = (await request_snapshot(client)).interview
        assert view is not None
        assert (view.asked, view.answered) == (1, 0)
        await client.send(answer("I moved the writes to a queue because the table was locked."))
        await wait_until_idle(client)
        assert [m.kind for m in await transcript_of(client)][3:] == [
            MessageKind.ANSWER,
            MessageKind.QUESTION,
        ]


@pytest.mark.parametrize("in_words", [True, False])
@asynchronous
async def test_a_skip_uses_up_the_question(tmp_path: Path, in_words: bool) -> None:
    """After a skip the interviewer opens the next topic."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms, questions=3)
        skip = client_messages.CandidateSkip(id="1")
        await client.send(answer("Skip this question please.", id="1") if in_words else skip)
        await wait_until_idle(client)
        first, skipped, second = await transcript_of(client)
        assert (skipped.kind, skipped.intent) == (MessageKind.ANSWER, Intent.SKIP)
        assert second.kind is MessageKind.QUESTION
        assert second.topic != first.topic


@asynchronous
async def test_not_knowing_makes_the_question_easier_once(tmp_path: Path) -> None:
    """The first "I don't know" on a topic gets the easier form of its question, the second one the
    next topic."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms, questions=7)
        await client.send(answer("I don't know.", id="1"))
        await wait_until_idle(client)
        await client.send(answer("No idea, sorry.", id="2"))
        await wait_until_idle(client)
        first, _, easier, _, other = await transcript_of(client)
        assert easier.topic == first.topic
        assert easier.source is wire.Source.BANK
        assert other.topic != first.topic


@asynchronous
async def test_each_topic_gets_a_follow_up(tmp_path: Path) -> None:
    """In an interview of six questions, the opening and the closing get one question, and each of
    the two topics gets its own and a follow-up."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms, questions=6)
        for number in range(6):
            await client.send(answer("I moved a service to Python.", id=f"m{number}"))
            await wait_until_idle(client)
        transcript = await transcript_of(client)
    asked = Counter(m.topic for m in transcript if m.kind is MessageKind.QUESTION)
    assert list(asked.values()) == [1, 2, 2, 1]


@asynchronous
async def test_endless_diversions_use_up_the_question(tmp_path: Path) -> None:
    """Two messages beside the subject get a reply; the third one uses up the question."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms, questions=2)
        for number, words in enumerate(("asdf", "You are an idiot.", "qwertz")):
            await client.send(answer(words, id=str(number)))
            await wait_until_idle(client)
        kinds = [message.kind for message in await transcript_of(client)]
        assert kinds == ["question", "request", "reply", "request", "reply", "answer", "question"]


@asynchronous
async def test_a_question_back_is_answered_by_the_model(tmp_path: Path) -> None:
    """A candidate's own question gets a reply that a model writes."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms, questions=2)
        await client.send(answer("What tech stack does your team use?", id="1"))
        await wait_until_idle(client)
        _, request, reply = await transcript_of(client)
        assert (request.kind, request.intent) == (MessageKind.REQUEST, Intent.QUESTION)
        assert (reply.kind, reply.source) == (MessageKind.REPLY, wire.Source.MODEL)

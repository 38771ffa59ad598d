"""The timer for automatic hints, alone and in an interview."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from prepserver.interview import schema
from prepserver.interview.hints import MIN_POSTPONEMENT, HintTimer
from prepserver.interview.stubs import InterviewStub
from prepserver.interview.transcript import Transcript
from prepserver.objects.object import Context, Runtime
from prepserver.objects.storage import Storage
from prepserver.wire import client_messages
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind, Phase, Source
from tests.server.interview.conversation import answer, message_kinds, open_room, request_snapshot
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.rooms import Rooms

AFTER = 180.0


class HintFixture:
    """Transcript with its hint timer and clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.storage = Storage(folder / "a.sqlite", "a", schema.INTERVIEW)
        self.transcript = Transcript(self.storage)
        runtime = cast(Runtime, SimpleNamespace(clock=self.clock))
        self.context = Context("interview", "a", self.storage, runtime, {}, lambda *_: None)
        self.hints = HintTimer(self.context, self.transcript, after=AFTER)

    def add_message(self, kind: MessageKind) -> None:
        self.transcript.add(kind, kind, "words", Source.MODEL, at=0.0)


@pytest.fixture
def fixture(tmp_path: Path) -> Iterator[HintFixture]:
    fixture = HintFixture(tmp_path)
    yield fixture
    fixture.storage.close()


def test_a_hint_is_due_after_the_delay(fixture: HintFixture) -> None:
    """A scheduled hint is due after the delay, and its time is stored for the next instance."""
    fixture.add_message(MessageKind.QUESTION)
    fixture.hints.schedule()
    assert fixture.hints.due == fixture.clock.now() + AFTER
    assert HintTimer(fixture.context, fixture.transcript, after=AFTER).due == fixture.hints.due
    fixture.hints.clear()
    assert fixture.hints.due is None


def test_activity_restarts_the_timer(fixture: HintFixture) -> None:
    """Activity postpones the hint only if the hint's time changes by at least `MIN_POSTPONEMENT`
    seconds."""
    fixture.add_message(MessageKind.QUESTION)
    fixture.hints.schedule()
    due = fixture.hints.due
    fixture.clock.jump(MIN_POSTPONEMENT - 1)
    assert not fixture.hints.postpone()
    assert fixture.hints.due == due
    fixture.clock.jump(2)
    assert fixture.hints.postpone()
    assert fixture.hints.due == fixture.clock.now() + AFTER


@pytest.mark.parametrize(
    "transcript",
    [(), (MessageKind.QUESTION, MessageKind.ANSWER), (MessageKind.QUESTION, MessageKind.HINT)],
    ids=["no question", "answered", "has its hint"],
)
def test_no_hint_is_scheduled_without_a_question_that_lacks_one(
    fixture: HintFixture, transcript: tuple[MessageKind, ...]
) -> None:
    """Activity schedules a hint only for an open question that has no hint yet."""
    for kind in transcript:
        fixture.add_message(kind)
    assert not fixture.hints.postpone()
    assert fixture.hints.due is None


def test_a_requested_hint_cancels_the_timer(fixture: HintFixture) -> None:
    """A requested hint cancels the automatic hint for the question."""
    fixture.add_message(MessageKind.QUESTION)
    fixture.hints.schedule()
    fixture.add_message(MessageKind.HINT)
    assert fixture.hints.due is None


@asynchronous
async def test_inactivity_after_a_question_gives_one_hint(tmp_path: Path) -> None:
    """After three minutes without activity, the room receives one hint for the open question, and
    no second hint follows."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create()
        client = await rooms.join(view.id)
        await client.next_message(MessageKind.QUESTION)
        await client.wait_for_phase(Phase.IDLE)
        before = len(client.messages)
        await rooms.clock.advance(AFTER - 1)
        assert client.messages[before:] == []
        await rooms.clock.advance(2)
        await client.wait_for_phase(Phase.HINTING)
        hint = await client.next_message(MessageKind.HINT)
        await client.wait_for_phase(Phase.IDLE)
        before = len(client.messages)
        await rooms.clock.advance(1_000.0)
        assert client.messages[before:] == []
        truth = await request_snapshot(client)
    assert truth.hint is not None
    assert truth.hint.text == hint.text
    assert message_kinds(truth.messages).count("hint") == 1


@pytest.mark.parametrize("sign", [client_messages.UserTyping(), client_messages.UserRecording()])
@asynchronous
async def test_an_active_candidate_gets_no_hint(
    tmp_path: Path, sign: client_messages.ClientMessage
) -> None:
    """Typing or recording restarts the full delay before the hint."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create()
        client = await rooms.join(view.id)
        await client.next_message(MessageKind.QUESTION)
        await client.wait_for_phase(Phase.IDLE)
        for _ in range(4):
            await rooms.clock.advance(AFTER - 10)
            await client.send(sign)
        assert not any(
            isinstance(m, wire.StateChanged) and m.state is Phase.HINTING for m in client.messages
        )
        await rooms.clock.advance(AFTER + 1)
        await client.next_message(MessageKind.HINT)


@asynchronous
async def test_the_timer_survives_a_restart(tmp_path: Path) -> None:
    """After a restart, the automatic hint is given at the time that was set before the restart,
    even without a connected client."""
    async with Rooms(tmp_path) as rooms:
        view = await rooms.create()
        client = await rooms.join(view.id)
        await client.next_message(MessageKind.QUESTION)
        await client.wait_for_phase(Phase.IDLE)
        asked_at = rooms.clock.now()
    async with Rooms(tmp_path, clock=ManualClock(asked_at + 100)) as rooms:
        await rooms.clock.advance(70)
        assert [m.kind for m in await rooms.registry.call(InterviewStub(view.id).messages())] == [
            MessageKind.QUESTION
        ]
        await rooms.clock.advance(15)
        client = await rooms.join(view.id)
        snapshot = await client.next(wire.Snapshot)
        if snapshot.hint is None:
            await client.next_message(MessageKind.HINT)


@asynchronous
async def test_an_answer_replaces_a_hint(tmp_path: Path) -> None:
    """An answer that arrives before the requested hint is ready cancels the hint."""
    async with Rooms(tmp_path) as rooms:
        client = await open_room(rooms)
        await asyncio.gather(
            client.send(client_messages.HintRequest()), client.send(answer("I have it."))
        )
        message = await client.next_message(MessageKind.ANSWER)
        await client.next_message(MessageKind.QUESTION)
        truth = await request_snapshot(client)
    assert message_kinds(truth.messages) == ["question", "answer", "question"]
    assert message.text == "I have it."

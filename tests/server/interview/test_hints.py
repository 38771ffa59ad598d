"""When a hint is due."""

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
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind, Phase, Source
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.rooms import Rooms

AFTER = 180.0


class Desk:
    """A question on the table, and the hint's clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.storage = Storage(folder / "a.sqlite", "a", schema.INTERVIEW)
        self.transcript = Transcript(self.storage)
        runtime = cast(Runtime, SimpleNamespace(clock=self.clock))
        self.context = Context("interview", "a", self.storage, runtime, {}, lambda *_: None)
        self.hints = HintTimer(self.context, self.transcript, after=AFTER)

    def say(self, kind: MessageKind) -> None:
        self.transcript.add(kind, kind, "words", Source.MODEL, at=0.0)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.storage.close()


def test_a_hint_is_due_a_while_after_the_question(desk: Desk) -> None:
    """The time is stored, so another instance knows it."""
    desk.say(MessageKind.QUESTION)
    desk.hints.schedule()
    assert desk.hints.due == desk.clock.now() + AFTER
    assert HintTimer(desk.context, desk.transcript, after=AFTER).due == desk.hints.due
    desk.hints.clear()
    assert desk.hints.due is None


def test_being_busy_counts_the_time_anew(desk: Desk) -> None:
    """Typing moves it, but not with every keystroke."""
    desk.say(MessageKind.QUESTION)
    desk.hints.schedule()
    due = desk.hints.due
    desk.clock.jump(MIN_POSTPONEMENT - 1)
    assert not desk.hints.postpone()
    assert desk.hints.due == due
    desk.clock.jump(2)
    assert desk.hints.postpone()
    assert desk.hints.due == desk.clock.now() + AFTER


@pytest.mark.parametrize(
    "said",
    [(), (MessageKind.QUESTION, MessageKind.ANSWER), (MessageKind.QUESTION, MessageKind.HINT)],
    ids=["no question", "answered", "has its hint"],
)
def test_without_a_question_that_needs_one_nothing_is_scheduled(
    desk: Desk, said: tuple[MessageKind, ...]
) -> None:
    """Typing alone does not make a hint due."""
    for kind in said:
        desk.say(kind)
    assert not desk.hints.postpone()
    assert desk.hints.due is None


def test_a_hint_that_came_while_its_clock_ran_is_the_only_one(desk: Desk) -> None:
    """Whoever typed while the hint was being written does not get a second one."""
    desk.say(MessageKind.QUESTION)
    desk.hints.schedule()
    desk.say(MessageKind.HINT)
    assert desk.hints.due is None


@asynchronous
async def test_silence_after_a_question_brings_one_hint(tmp_path: Path) -> None:
    """After three minutes the room sees the state, then the hint, and no second one."""
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
        await client.next_message(MessageKind.HINT)
        await client.wait_for_phase(Phase.IDLE)
        before = len(client.messages)
        await rooms.clock.advance(3 * AFTER)
        assert client.messages[before:] == []


@pytest.mark.parametrize("sign", [wire.UserTyping(), wire.UserRecording()])
@asynchronous
async def test_whoever_is_at_it_is_left_alone(tmp_path: Path, sign: wire.ClientMessage) -> None:
    """Typing or recording puts the hint off by the whole time."""
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
async def test_the_hints_clock_survives_a_restart(tmp_path: Path) -> None:
    """What was set before comes after, at the same time, with nobody connected."""
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

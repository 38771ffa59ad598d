"""Mistakes that somebody could make, each put in on purpose: the simulation must find them."""

from collections.abc import Callable
from typing import Any

import pytest

from prepcli.client.outbox import Outbox
from prepcli.client.recording import Recording
from prepserver.interview.interview import InterviewObject
from prepserver.interview.room import Room
from prepserver.interview.rules import Rules
from prepserver.interview.speech.recordings import RecordingStore
from prepserver.objects.alarms import AlarmIndex
from prepserver.objects.connection import Connection
from prepserver.objects.instance import Instance
from prepserver.objects.mailbox import Mailbox
from prepserver.objects.transaction import Transaction
from tests.simulation import simulation

ENOUGH = 120
"""Seeds within which every mistake is found; most are among the first ten."""

Patch = pytest.MonkeyPatch
MISTAKES: dict[str, Callable[[Patch], None]] = {}


def mistake(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    MISTAKES[plant.__name__] = plant
    return plant


@mistake
def ids_are_not_remembered(patch: Patch) -> None:
    patch.setattr(Rules, "previous_reply", lambda rules, message: None)


@mistake
def messages_leave_before_the_commit(patch: Patch) -> None:
    complete = Mailbox._complete

    async def ungated(mailbox: Mailbox, transaction: Transaction) -> None:
        transaction.flush(mailbox._owner)
        transaction.handled.clear()
        await complete(mailbox, transaction)

    patch.setattr(Mailbox, "_complete", ungated)


@mistake
def no_alarm_guards_a_turn(patch: Patch) -> None:
    patch.setattr(InterviewObject, "_update_alarm", lambda interview: None)


@mistake
def the_index_misses_an_alarm(patch: Patch) -> None:
    patch.setattr(AlarmIndex, "write", lambda index, kind, name, due: None)


@mistake
def the_snapshot_leaves_out_what_is_being_said(patch: Patch) -> None:
    snapshot = Room.send_snapshot

    def shorter(room: Room, connection: Connection) -> None:
        streamed, room._streamed = room._streamed, None
        snapshot(room, connection)
        room._streamed = streamed

    patch.setattr(Room, "send_snapshot", shorter)


@mistake
def a_delta_repeats_what_was_said(patch: Patch) -> None:
    stream_text = Room.stream_text

    def twice(room: Room, *arguments: Any) -> None:
        stream_text(room, *arguments)
        stream_text(room, *arguments)

    patch.setattr(Room, "stream_text", twice)


@mistake
def one_message_in_a_hundred_is_lost(patch: Patch) -> None:
    push, count = Connection.push, [0]

    def lossy(connection: Connection, message: bytes) -> None:
        count[0] += 1
        if count[0] % 100:
            push(connection, message)

    patch.setattr(Connection, "push", lossy)


@mistake
def slow_readers_are_waited_for(patch: Patch) -> None:
    patch.setattr(Connection, "close", lambda connection, code, reason="": None)


@mistake
def frames_that_come_again_are_stored_again(patch: Patch) -> None:
    add_frame = RecordingStore.add_frame

    def careless(recordings: RecordingStore, id: str, number: int, pcm: bytes) -> Any:
        stored, _ = recordings._stored_size(id)
        pending = recordings._pending.get(id, [])
        return add_frame(recordings, id, stored + len(pending), pcm)

    patch.setattr(RecordingStore, "add_frame", careless)


@mistake
def the_client_does_not_repeat_itself(patch: Patch) -> None:
    patch.setattr(Outbox, "start_connection", lambda outbox: None)


@mistake
def the_client_forgets_what_it_sent(patch: Patch) -> None:
    following = Outbox.next_to_send

    def careless(outbox: Outbox) -> str | bytes | None:
        data = following(outbox)
        outbox._entries = [
            entry for entry in outbox._entries if isinstance(entry, Recording) or not entry.sent
        ]
        return data

    patch.setattr(Outbox, "next_to_send", careless)


@mistake
def the_client_skips_a_frame_after_a_reconnect(patch: Patch) -> None:
    acknowledge_frames = Recording.acknowledge_frames

    def hasty(recording: Recording, frame: int) -> None:
        opening = not recording._open
        acknowledge_frames(recording, frame)
        if opening and frame > 0 and recording._frames:
            recording._frames.popleft()
            recording._frames.append(b"\x00\x00" * 640)

    patch.setattr(Recording, "acknowledge_frames", hasty)


@mistake
def a_deletion_leaves_the_file(patch: Patch) -> None:
    def destroy(instance: Instance, on_removed: Callable[[], None]) -> None:
        instance._on_removed(instance)
        on_removed()

    patch.setattr(Instance, "destroy", destroy)


def search() -> None:
    for seed in range(ENOUGH):
        simulation.run(seed)


@pytest.mark.parametrize("name", MISTAKES)
def test_the_simulation_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of the server or the client breaks what must hold within some schedules, and the
    report names the seed."""
    MISTAKES[name](monkeypatch)
    with pytest.raises(simulation.Violation, match=r"again: python -m tests\.simulation \d+"):
        search()


def test_a_failing_schedule_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a failing schedule still fails, and is much shorter."""
    MISTAKES["no_alarm_guards_a_turn"](monkeypatch)
    fewest = simulation.shrink(0, runs=20)
    assert len(fewest) <= 3
    with pytest.raises(simulation.Violation):
        simulation.run(0, fewest)

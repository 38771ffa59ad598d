"""Deliberate mistakes in the server and the client, which the simulation must detect."""

from collections.abc import Callable
from typing import Any

import pytest

from prepcli.client.outbox import Outbox
from prepcli.client.recording import Recording
from prepserver.interview.room import Room
from prepserver.interview.rules import Rules
from prepserver.interview.speech.recordings import RecordingStore
from prepserver.interview.turns.lifecycle import TurnLifecycle
from prepserver.objects.alarms import AlarmIndex
from prepserver.objects.connection import Connection
from prepserver.objects.instance import Instance
from prepserver.objects.mailbox import Mailbox
from prepserver.objects.transaction import Transaction
from tests.simulation import simulation

MAX_SEEDS = 120
"""Number of seeds within which every mistake is detected; the first ten detect most of them."""

Patch = pytest.MonkeyPatch
MUTATIONS: dict[str, Callable[[Patch], None]] = {}


def mutation(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
    MUTATIONS[apply.__name__] = apply
    return apply


@mutation
def message_ids_are_forgotten(patch: Patch) -> None:
    patch.setattr(Rules, "previous_reply", lambda rules, message: None)


@mutation
def messages_leave_before_the_commit(patch: Patch) -> None:
    complete = Mailbox._complete

    async def ungated(mailbox: Mailbox, transaction: Transaction) -> None:
        transaction.flush(mailbox._owner)
        transaction.handled.clear()
        await complete(mailbox, transaction)

    patch.setattr(Mailbox, "_complete", ungated)


@mutation
def no_alarm_guards_a_turn(patch: Patch) -> None:
    patch.setattr(TurnLifecycle, "update_alarm", lambda lifecycle: None)


@mutation
def the_index_misses_an_alarm(patch: Patch) -> None:
    patch.setattr(AlarmIndex, "write", lambda index, kind, name, due: None)


@mutation
def the_snapshot_omits_the_streamed_reply(patch: Patch) -> None:
    snapshot = Room.send_snapshot

    def without_reply(room: Room, connection: Connection) -> None:
        streamed, room._streamed = room._streamed, None
        snapshot(room, connection)
        room._streamed = streamed

    patch.setattr(Room, "send_snapshot", without_reply)


@mutation
def every_delta_is_sent_twice(patch: Patch) -> None:
    stream_text = Room.stream_text

    def twice(room: Room, *arguments: Any) -> None:
        stream_text(room, *arguments)
        stream_text(room, *arguments)

    patch.setattr(Room, "stream_text", twice)


@mutation
def one_message_in_a_hundred_is_lost(patch: Patch) -> None:
    push, count = Connection.push, [0]

    def lossy(connection: Connection, message: bytes) -> None:
        count[0] += 1
        if count[0] % 100:
            push(connection, message)

    patch.setattr(Connection, "push", lossy)


@mutation
def slow_readers_are_never_closed(patch: Patch) -> None:
    patch.setattr(Connection, "close", lambda connection, code, reason="": None)


@mutation
def repeated_frames_are_stored_again(patch: Patch) -> None:
    add_frame = RecordingStore.add_frame

    def careless(recordings: RecordingStore, id: str, number: int, pcm: bytes) -> Any:
        stored, _ = recordings._stored_size(id)
        pending = recordings._pending.get(id, [])
        return add_frame(recordings, id, stored + len(pending), pcm)

    patch.setattr(RecordingStore, "add_frame", careless)


@mutation
def the_client_resends_nothing(patch: Patch) -> None:
    patch.setattr(Outbox, "start_connection", lambda outbox: None)


@mutation
def the_client_forgets_unacknowledged_messages(patch: Patch) -> None:
    following = Outbox.next_to_send

    def careless(outbox: Outbox) -> str | bytes | None:
        data = following(outbox)
        outbox._entries = [
            entry for entry in outbox._entries if isinstance(entry, Recording) or not entry.sent
        ]
        return data

    patch.setattr(Outbox, "next_to_send", careless)


@mutation
def the_client_skips_a_frame_after_a_reconnect(patch: Patch) -> None:
    acknowledge_frames = Recording.acknowledge_frames

    def hasty(recording: Recording, frame: int) -> None:
        opening = not recording._open
        acknowledge_frames(recording, frame)
        if opening and frame > 0 and recording._frames:
            recording._frames.popleft()
            recording._frames.append(b"\x00\x00" * 640)

    patch.setattr(Recording, "acknowledge_frames", hasty)


@mutation
def a_deletion_keeps_the_file(patch: Patch) -> None:
    def destroy(instance: Instance, on_removed: Callable[[], None]) -> None:
        instance._on_removed(instance)
        on_removed()

    patch.setattr(Instance, "destroy", destroy)


def run_all_seeds() -> None:
    for seed in range(MAX_SEEDS):
        simulation.run(seed)


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_simulation_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mistake breaks an invariant within 120 schedules, and the error names the seed."""
    MUTATIONS[name](monkeypatch)
    with pytest.raises(simulation.Violation, match=r"python -m tests\.simulation \d+"):
        run_all_seeds()


def test_a_failing_schedule_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing schedule is shrunk to at most three steps that still fail."""
    MUTATIONS["no_alarm_guards_a_turn"](monkeypatch)
    fewest = simulation.shrink(0, runs=20)
    assert len(fewest) <= 3
    with pytest.raises(simulation.Violation):
        simulation.run(0, fewest)

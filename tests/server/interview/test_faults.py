"""Interviews on a full or failing disk: errors reach the client, and work resumes afterwards."""

import hashlib
from pathlib import Path

import pytest

from prepserver.errors import StorageError
from prepserver.interview.stubs import UserInterviewsStub
from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import MessageKind, Phase
from tests.server.interview.conversation import (
    LOUD,
    answer,
    message_kinds,
    open_room,
    request_snapshot,
    wait_until_idle,
)
from tests.support.clock import ManualClock
from tests.support.databases import find_corruption
from tests.support.faults import Fault, Faults, Operation, disk_full, io_error
from tests.support.loop import asynchronous
from tests.support.objects import advance_until, eventually
from tests.support.rooms import USER, Rooms

FAULTS = [
    pytest.param("write", disk_full, id="write-ENOSPC"),
    pytest.param("write", io_error, id="write-EIO"),
    pytest.param("sync", io_error, id="sync-EIO"),
]


def file_name(name: str) -> str:
    """Return the stem of an object's database file."""
    return hashlib.sha256(name.encode()).hexdigest()


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.mark.parametrize(("operation", "fault"), FAULTS)
@asynchronous
async def test_an_answer_that_cannot_be_stored_is_rejected_and_can_be_resent(
    tmp_path: Path, faults: Faults, operation: Operation, fault: Fault
) -> None:
    """If an answer cannot be stored, an error gives the id of its message; once the disk works,
    resending the message stores the answer once."""
    async with Rooms(tmp_path, vfs=faults.name) as rooms:
        client = await open_room(rooms)
        before = await request_snapshot(client)
        faults.fail(operation, file_name(client.room), fault)
        for _ in range(2):
            await client.send(answer("I measured it.", "mine"))
            rejection = await client.until(lambda m: isinstance(m, wire.Failure) and m.id == "mine")
            assert isinstance(rejection, wire.Failure)
            assert (rejection.code, rejection.retryable) == (ErrorCode.STORAGE, True)
        assert not [m for m in client.messages if isinstance(m, wire.Accepted)]
        faults.repair()
        assert (await request_snapshot(client)).messages == before.messages
        for _ in range(2):
            await client.send(answer("I measured it.", "mine"))
            await client.until(lambda m: m == wire.Accepted(id="mine"))
        await client.wait_for_phase(Phase.IDLE)
        assert message_kinds((await request_snapshot(client)).messages) == [
            "question",
            "answer",
            "question",
        ]
    assert find_corruption(tmp_path) == []


@pytest.mark.parametrize(("operation", "fault"), FAULTS)
@asynchronous
async def test_frames_that_cannot_be_stored_are_not_acknowledged(
    tmp_path: Path, faults: Faults, operation: Operation, fault: Fault
) -> None:
    """Frames that cannot be stored are not acknowledged, and the client can resend them on another
    connection."""
    frames = [LOUD[at : at + 1_280] for at in range(0, len(LOUD), 1_280)]
    async with Rooms(tmp_path, vfs=faults.name) as rooms:
        client = await open_room(rooms)
        await client.send(client_messages.AudioStart(id="r"))
        assert (await client.next(wire.AudioAck)).frame == -1
        faults.fail(operation, file_name(client.room), fault)
        for number, frame in enumerate(frames):
            await client.send(codec.pack_frame(number, frame))
        await client.next(wire.Failure)
        acknowledged = [m.frame for m in client.messages if isinstance(m, wire.AudioAck)]
        assert acknowledged == [-1]
        faults.repair()
        await client.leave()
        again = await rooms.join(client.room)
        await again.send(client_messages.AudioStart(id="r"))
        stored = (await again.next(wire.AudioAck)).frame
        for number, frame in enumerate(frames):
            if number > stored:
                await again.send(codec.pack_frame(number, frame))
        await again.send(client_messages.AudioStop(id="r", frames=len(frames)))
        message = await again.next_message(MessageKind.ANSWER)
    assert message.text.startswith("I spoke for 1.0 seconds")


@pytest.mark.parametrize(("operation", "fault"), FAULTS)
@asynchronous
async def test_a_turn_whose_result_cannot_be_stored_is_finished_later(
    tmp_path: Path, faults: Faults, operation: Operation, fault: Fault
) -> None:
    """If the result of a turn cannot be stored, the room receives an error, and an alarm resumes
    the turn once the disk works."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, delay=1.0, vfs=faults.name) as rooms:
        view = await rooms.create()
        client = await rooms.join(view.id)
        await client.next(wire.Snapshot)
        faults.fail(operation, file_name(client.room), fault)
        await advance_until(
            clock, lambda: any(isinstance(m, wire.Failure) for m in client.messages)
        )
        assert faults.injected > 0
        faults.repair()
        await advance_until(
            clock, lambda: any(isinstance(m, wire.InterviewMessage) for m in client.messages)
        )
        truth = await request_snapshot(client)
        assert message_kinds(truth.messages) == ["question"]


@pytest.mark.parametrize(("operation", "fault"), FAULTS)
@asynchronous
async def test_an_interview_that_cannot_be_begun_is_begun_later(
    tmp_path: Path, faults: Faults, operation: Operation, fault: Fault
) -> None:
    """If the file of a listed interview cannot be created, an alarm of the list begins the
    interview once the disk works."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, vfs=faults.name) as rooms:
        faults.fail(operation, file_name(USER), fault)
        with pytest.raises(StorageError):
            await rooms.create(id="wanted")
        faults.repair()
        assert await rooms.registry.call(UserInterviewsStub(USER).list()) == []
        # The list stores the interview, whose own file then cannot be created.
        request = wire.CreateInterview(id="wanted")
        id = hashlib.sha256(f"{USER}/wanted".encode()).hexdigest()[:32]
        faults.fail(operation, file_name(id), fault)
        await rooms.registry.call(UserInterviewsStub(USER).create(request))
        await advance_until(clock, lambda: faults.injected > 3)
        faults.repair()
        for _ in range(12):
            await rooms.advance(1)
        client = await rooms.join(id)
        await wait_until_idle(client)
        assert message_kinds((await request_snapshot(client)).messages) == ["question"]


@asynchronous
async def test_an_interview_that_cannot_be_deleted_is_deleted_later(
    tmp_path: Path, faults: Faults
) -> None:
    """If a failing disk delays a deletion, the interview still leaves the list at once, and its
    file is removed once the disk works."""
    clock = ManualClock()
    async with Rooms(tmp_path, clock=clock, vfs=faults.name) as rooms:
        client = await open_room(rooms)
        files = tmp_path / "objects/interview"
        await rooms.registry.call(UserInterviewsStub(USER).delete(client.room))
        faults.fail("write", "alarms.sqlite")
        for _ in range(12):
            await rooms.advance(1)
        assert await rooms.registry.call(UserInterviewsStub(USER).list()) == []
        assert list(files.glob("*/*.sqlite"))
        faults.repair()
        for _ in range(20):
            await rooms.advance(1)
        await eventually(lambda: not list(files.glob("*/*.sqlite")))

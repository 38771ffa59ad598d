"""Interviews of every earlier version of the schema go on where they were."""

import sqlite3
from pathlib import Path

import pytest

from prepserver.interview.interview import InterviewObject
from prepserver.interview.stubs import UserInterviewsStub
from prepserver.interview.user_interviews import UserInterviews
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind, Phase
from tests.server.interview.stored import FIXTURES, FOLDER, HALF, file, restore, stored
from tests.server.interview.talk import answer, snapshot
from tests.support.databases import damage
from tests.support.loop import asynchronous
from tests.support.rooms import USER, Rooms

INTERVIEWS = sorted(FOLDER.glob("interview-*.sql"))
LISTS = sorted(FOLDER.glob("user-interviews-*.sql"))
LIST = "user-interviews"
FRAME = bytes(range(256)) * 5

FIRST_INDEX = """
PRAGMA journal_mode = wal;
CREATE TABLE alarms (
    kind TEXT, name TEXT, due REAL NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
"""An index of alarms, complete by its own account, as the first version wrote it."""


def version(root: Path, party: str = "interview") -> int:
    return int(stored(root, "PRAGMA user_version", party)[0][0])


@pytest.mark.parametrize("party", FIXTURES)
def test_every_version_has_a_stored_fixture(party: str) -> None:
    """Whoever adds a version keeps an interview of it: python -m tests.server.interview.stored"""
    kept = sorted(int(path.stem.rpartition("-")[2]) for path in FOLDER.glob(f"{party}-*.sql"))
    assert kept == list(range(1, FIXTURES[party] + 1))


@pytest.mark.parametrize("fixture", INTERVIEWS, ids=lambda path: path.stem)
def test_a_fixture_is_of_the_version_that_it_says(tmp_path: Path, fixture: Path) -> None:
    """The migrations that follow it are those that run."""
    restore(fixture, tmp_path)
    number = int(fixture.stem.rpartition("-")[2])
    audio = "audio" if number < 4 else "audio_chunks"
    assert version(tmp_path) == number
    assert stored(tmp_path, "SELECT state FROM turns WHERE state = 'active'")
    assert stored(tmp_path, f"SELECT 1 FROM {audio}")


@pytest.mark.parametrize("fixture", INTERVIEWS, ids=lambda path: path.stem)
@asynchronous
async def test_an_interview_of_an_earlier_version_goes_on(tmp_path: Path, fixture: Path) -> None:
    """What was said is as it was; the turn that was under way is finished, the half recording is
    continued, what was applied is not applied again, and the interview comes to its end."""
    name = restore(fixture, tmp_path)
    before = stored(
        tmp_path, "SELECT id, kind, text, source, edited FROM messages ORDER BY position"
    )
    assert len(before) == 7
    async with Rooms(tmp_path) as rooms:
        client = await rooms.join(name)
        await client.state(Phase.IDLE)
        truth = await snapshot(client)
        said = [(m.id, m.kind.value, m.text, m.source.value, m.edited) for m in truth.messages]
        assert said[: len(before)] == [(*row[:4], bool(row[4])) for row in before]
        assert truth.messages[len(before)].kind is MessageKind.QUESTION
        assert truth.interview is not None
        assert truth.interview.company == "Röhren & Söhne"
        assert truth.interview.skills

        await client.send(answer("Again.", "typed"))
        await client.next(wire.Accepted)
        assert len((await snapshot(client)).messages) == len(truth.messages)

        await client.send(wire.AudioStart(id=HALF))
        ack = await client.next(wire.AudioAck)
        assert ack.frame == 12
        await client.send(codec.pack_frame(13, FRAME))
        await client.send(wire.AudioStop(id=HALF, frames=14))
        heard = await client.said(MessageKind.ANSWER)
        assert heard.text.startswith("I spoke for 0.6 seconds")
        await client.said(MessageKind.QUESTION)
        await client.send(wire.InterviewEnd(id="end"))
        await client.said(MessageKind.SUMMARY)
        await client.state(Phase.IDLE)
    assert version(tmp_path) == len(InterviewObject.migrations)
    assert damage(tmp_path) == []


@pytest.mark.parametrize("index", ["lost", "old"])
@pytest.mark.parametrize("fixture", INTERVIEWS, ids=lambda path: path.stem)
@asynchronous
async def test_a_turn_of_an_earlier_version_is_finished_unasked(
    tmp_path: Path, fixture: Path, index: str
) -> None:
    """Its alarm is found in the object, whatever the index says: nobody has to connect."""
    restore(fixture, tmp_path)
    if index == "old":
        first = sqlite3.connect(tmp_path / "alarms.sqlite")
        first.executescript(FIRST_INDEX)
        first.close()
    count = "SELECT count(*) FROM messages"
    before = stored(tmp_path, count)
    async with Rooms(tmp_path) as rooms:
        for _ in range(40):
            await rooms.advance(1)
    assert stored(tmp_path, count) > before


@pytest.mark.parametrize("fixture", LISTS, ids=lambda path: path.stem)
@asynchronous
async def test_a_list_of_an_earlier_version_is_whole(tmp_path: Path, fixture: Path) -> None:
    """Every interview is listed with what was known of it, and another can be added."""
    assert restore(fixture, tmp_path) == USER
    before = stored(tmp_path, "SELECT id FROM interviews ORDER BY created_at DESC, id", LIST)
    assert len(before) >= 2
    async with Rooms(tmp_path) as rooms:
        views = await rooms.registry.call(UserInterviewsStub(USER).list())
        assert [view.id for view in views] == [id for (id,) in before]
        assert {view.role for view in views} == {"Gardener", "Backend Engineer"}
        assert {view.status for view in views} == {wire.Status.COMPLETED, wire.Status.ACTIVE}
        await rooms.create(role="Pilot")
        views = await rooms.registry.call(UserInterviewsStub(USER).list())
        assert len(views) == len(before) + 1
    assert version(tmp_path, LIST) == len(UserInterviews.migrations)


@pytest.mark.parametrize("fixture", [INTERVIEWS[-1], LISTS[-1]], ids=lambda path: path.stem)
@asynchronous
async def test_an_interview_of_a_newer_version_is_refused_and_left_as_it_is(
    tmp_path: Path, fixture: Path
) -> None:
    """A server that was put back to an earlier version does not touch what it does not know."""
    name = restore(fixture, tmp_path)
    party = fixture.stem.rpartition("-")[0]
    path = file(tmp_path, party)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    content = path.read_bytes()
    async with Rooms(tmp_path) as rooms:
        client = await rooms.join(name, party=party)
        failure = await client.next(wire.Failure)
        assert (failure.code, failure.retryable) == ("schema_too_new", False)
        assert "Upgrade" in failure.message
        assert (await client.end()).code == 1011
    assert path.read_bytes() == content

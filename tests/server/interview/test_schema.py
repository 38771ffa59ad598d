"""Migration of stored interviews from every earlier version of the schema."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from prepserver.interview import schema
from prepserver.interview.interview import InterviewObject
from prepserver.interview.prompts.context import HistorySummary
from prepserver.interview.stubs import UserInterviewsStub
from prepserver.interview.transcript import Transcript
from prepserver.interview.user_interviews import UserInterviews
from prepserver.objects.storage import Storage
from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import MessageKind, Phase
from tests.server.interview.conversation import answer, request_snapshot
from tests.server.interview.stored import (
    FIXTURES_FOLDER,
    PARTIAL_RECORDING,
    SCHEMA_VERSIONS,
    database_path,
    query_database,
    restore_fixture,
)
from tests.support.databases import find_corruption
from tests.support.loop import asynchronous
from tests.support.rooms import USER, Rooms

INTERVIEWS = sorted(FIXTURES_FOLDER.glob("interview-*.sql"))
LISTS = sorted(FIXTURES_FOLDER.glob("user-interviews-*.sql"))
LIST = "user-interviews"
FRAME = bytes(range(256)) * 5

FIRST_INDEX = """
PRAGMA journal_mode = wal;
CREATE TABLE alarms (
    kind TEXT, name TEXT, due REAL NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
"""SQL script that creates the first version of the alarm index, empty but marked as complete."""


def version(root: Path, party: str = "interview") -> int:
    return int(query_database(root, "PRAGMA user_version", party)[0][0])


@pytest.mark.parametrize("party", SCHEMA_VERSIONS)
def test_every_version_has_a_stored_fixture(party: str) -> None:
    """Each version of the schema has a fixture, which `python -m tests.server.interview.stored`
    writes."""
    kept = sorted(
        int(path.stem.rpartition("-")[2]) for path in FIXTURES_FOLDER.glob(f"{party}-*.sql")
    )
    assert kept == list(range(1, SCHEMA_VERSIONS[party] + 1))


@pytest.mark.parametrize("fixture", INTERVIEWS, ids=lambda path: path.stem)
def test_a_fixture_has_the_version_in_its_name(tmp_path: Path, fixture: Path) -> None:
    """A fixture's name gives the version of its schema, so that opening the fixture runs exactly
    the later migrations."""
    restore_fixture(fixture, tmp_path)
    number = int(fixture.stem.rpartition("-")[2])
    audio = "audio" if number < 4 else "audio_chunks"
    assert version(tmp_path) == number
    assert query_database(tmp_path, "SELECT state FROM turns WHERE state = 'active'")
    assert query_database(tmp_path, f"SELECT 1 FROM {audio}")


@pytest.mark.parametrize("fixture", INTERVIEWS, ids=lambda path: path.stem)
@asynchronous
async def test_an_interview_of_an_earlier_version_continues(tmp_path: Path, fixture: Path) -> None:
    """After the migration of an interview, the transcript is unchanged, the active turn is
    finished, the partial recording is resumed, applied messages are not applied again, and the
    interview runs to its end."""
    name = restore_fixture(fixture, tmp_path)
    before = query_database(
        tmp_path, "SELECT id, kind, text, source, edited FROM messages ORDER BY position"
    )
    assert len(before) == 7
    async with Rooms(tmp_path) as rooms:
        client = await rooms.join(name)
        await client.wait_for_phase(Phase.IDLE)
        truth = await request_snapshot(client)
        after = [(m.id, m.kind.value, m.text, m.source.value, m.edited) for m in truth.messages]
        assert after[: len(before)] == [(*row[:4], bool(row[4])) for row in before]
        assert truth.messages[len(before)].kind is MessageKind.QUESTION
        assert truth.interview is not None
        assert truth.interview.company == "Röhren & Söhne"
        assert truth.interview.skills

        await client.send(answer("Again.", "typed"))
        await client.next(wire.Accepted)
        assert len((await request_snapshot(client)).messages) == len(truth.messages)

        await client.send(client_messages.AudioStart(id=PARTIAL_RECORDING))
        ack = await client.next(wire.AudioAck)
        assert ack.frame == 12
        await client.send(codec.pack_frame(13, FRAME))
        await client.send(client_messages.AudioStop(id=PARTIAL_RECORDING, frames=14))
        answered = await client.next_message(MessageKind.ANSWER)
        assert answered.text.startswith("I spoke for 0.6 seconds")
        await client.next_message(MessageKind.QUESTION)
        await client.send(client_messages.InterviewEnd(id="end"))
        await client.next_message(MessageKind.SUMMARY)
        await client.wait_for_phase(Phase.IDLE)
    assert version(tmp_path) == len(InterviewObject.migrations)
    assert find_corruption(tmp_path) == []


def test_version_4_renames_stored_keys_and_fields(tmp_path: Path) -> None:
    """Migration to version 4 keeps flags, the history summary, accepted and rejected messages, and
    transcriptions under their new names."""
    name = restore_fixture(FIXTURES_FOLDER / "interview-3.sql", tmp_path)
    path = database_path(tmp_path, "interview")
    text = 'the "why_dropped": of a quotation'
    segment = {"start": 0.0, "end": 1.0, "text": text, "why_dropped": "silence"}
    speech = msgspec.json.encode({"type": "speech", "text": "Yes.", "dropped": [segment]})
    old = sqlite3.connect(path)
    old.executemany(
        "INSERT OR REPLACE INTO _kv VALUES (?, ?)",
        [
            ("unlisted", b"true"),
            ("ending", b"true"),
            ("condensed", b'{"upto":4,"text":"They spoke of \\"upto\\": nothing."}'),
        ],
    )
    old.execute("INSERT INTO speeches VALUES ('m1', ?)", (speech,))
    old.execute("INSERT INTO refused (id, error) VALUES ('too-soon', '{}')")
    old.commit()
    old.close()
    storage = Storage(path, name, schema.INTERVIEW)
    try:
        assert storage.get("list_update_pending", bool) is True
        assert storage.get("end_requested", bool) is True
        assert storage.get("history_summary", HistorySummary) == HistorySummary(
            covered=4, text='They spoke of "upto": nothing.'
        )
        (dropped,) = Transcript(storage).transcription("m1").dropped
        assert dropped.drop_reason == "silence"
        assert dropped.text == text
        rejected = storage.sql("SELECT id FROM rejected_messages ORDER BY number DESC")
        assert rejected[0] == ("too-soon",)
        assert storage.sql("SELECT id FROM applied_messages WHERE id = 'typed'")
    finally:
        storage.close()


@pytest.mark.parametrize("index", ["lost", "old"])
@pytest.mark.parametrize("fixture", INTERVIEWS, ids=lambda path: path.stem)
@asynchronous
async def test_an_active_turn_of_an_earlier_version_is_finished(
    tmp_path: Path, fixture: Path, index: str
) -> None:
    """The active turn of a migrated interview is finished without a client, even if the alarm index
    is missing or old."""
    restore_fixture(fixture, tmp_path)
    if index == "old":
        first = sqlite3.connect(tmp_path / "alarms.sqlite")
        first.executescript(FIRST_INDEX)
        first.close()
    count = "SELECT count(*) FROM messages"
    before = query_database(tmp_path, count)
    async with Rooms(tmp_path) as rooms:
        for _ in range(40):
            await rooms.advance(1)
    assert query_database(tmp_path, count) > before


@pytest.mark.parametrize("fixture", LISTS, ids=lambda path: path.stem)
@asynchronous
async def test_a_list_of_an_earlier_version_is_complete(tmp_path: Path, fixture: Path) -> None:
    """A migrated list contains every interview, and another interview can be created."""
    assert restore_fixture(fixture, tmp_path) == USER
    before = query_database(
        tmp_path, "SELECT id FROM interviews ORDER BY created_at DESC, id", LIST
    )
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
async def test_an_interview_of_a_newer_version_is_rejected_unchanged(
    tmp_path: Path, fixture: Path
) -> None:
    """A database whose schema is newer than the server's is rejected as `schema_too_new`, and its
    file is unchanged."""
    name = restore_fixture(fixture, tmp_path)
    party = fixture.stem.rpartition("-")[0]
    path = database_path(tmp_path, party)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    content = path.read_bytes()
    async with Rooms(tmp_path) as rooms:
        client = await rooms.join(name, party=party)
        failure = await client.next(wire.Failure)
        assert (failure.code, failure.retryable) == (ErrorCode.SCHEMA_TOO_NEW, False)
        assert "Upgrade" in failure.message
        assert (await client.wait_closed()).code == 1011
    assert path.read_bytes() == content

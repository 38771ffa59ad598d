"""The call log: writing, queries, pruning, erasing text, and upgrades."""

import stat
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from prepserver.errors import NotFound, StorageError
from prepserver.storage.sqlite import open_database
from prepserver.telemetry import call_log
from prepserver.telemetry.call_log import MAX_QUERY_ROWS, CallLog, CallQuery, find_calls
from prepserver.telemetry.calls import CallRecord
from prepserver.telemetry.stats import call_statistics
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.faults import Faults, disk_full
from tests.support.loop import asynchronous

DAY = 86_400.0
VERSION_0 = Path(__file__).parents[1] / "fixtures" / "data-directory-1.tar.gz"
"""Archive of a data directory whose call log has no schema version and holds 15 calls from two
interviews."""


def record(at: float = 0.0, **fields: Any) -> CallRecord:
    values = {
        "kind": "generate",
        "purpose": "question",
        "user": "u",
        "interview": "i",
        "request": "r",
        **fields,
    }
    return CallRecord(at=at, **values)


def open_log(tmp_path: Path, clock: ManualClock | None = None, **options: Any) -> CallLog:
    return CallLog(tmp_path / "calls.sqlite", clock or ManualClock(), **options)


def log_files(folder: Path) -> list[Path]:
    """Return the files of the call log: the database and its journals."""
    return list(folder.glob("calls.sqlite*"))


async def purposes(log: CallLog, **query: Any) -> list[str]:
    """Return the purposes of the calls that match the query, newest first."""
    return [found.purpose for found in await log.find(CallQuery(**query))]


@asynchronous
async def test_a_record_is_read_back_unchanged(tmp_path: Path) -> None:
    """A record is read back with every field unchanged, including metadata and non-English text."""
    log = open_log(tmp_path)
    written = record(
        metadata={"question": "3", "größe": "ß"},
        model="m",
        fallback_index=1,
        prompt_tokens=3,
        cached_tokens=2,
        completion_tokens=1,
        audio=1.5,
        queued=0.5,
        first_token=0.25,
        transcript_lag=0.125,
        caption_lag=0.75,
        duration=2.0,
        compute=1.0,
        retries=2,
        shared="in_flight",
        outcome=ErrorCode.WORKER_DIED,
        prompt="Warum?",
        reply="Darüm ✓",
    )
    assert [
        name
        for name, value in msgspec.structs.asdict(written).items()
        if value == msgspec.structs.asdict(record())[name]
    ] == ["at", "kind", "purpose", "user", "interview", "request"]
    log.add(written)
    await log.flush()
    assert await log.find(CallQuery()) == [written]
    await log.close()


@asynchronous
async def test_records_are_written_every_second_and_on_close(tmp_path: Path) -> None:
    """Records in memory are written to the log every second and when the log is closed."""
    clock = ManualClock()
    log = open_log(tmp_path, clock)
    log.start()
    await clock.advance(0)
    log.add(record(clock.now(), purpose="first"))
    await clock.advance(0.5)
    assert await purposes(log) == []
    await clock.advance(0.5)
    while await purposes(log) != ["first"]:  # a thread is writing it
        pass
    log.add(record(clock.now(), purpose="last"))
    await log.close()
    reopened = open_log(tmp_path, clock)
    assert set(await purposes(reopened)) == {"first", "last"}
    await reopened.close()


@asynchronous
async def test_queries_filter_by_user_interview_purpose_and_time(tmp_path: Path) -> None:
    """A query combines its filters, returns the newest call first, and limits the number of
    rows."""
    log = open_log(tmp_path)
    log.add(record(1.0, purpose="a", user="u1", interview="i1"))
    log.add(record(2.0, purpose="b", user="u1", interview="i2"))
    log.add(record(3.0, purpose="c", user="u2", interview="i3"))
    await log.flush()
    assert await purposes(log) == ["c", "b", "a"]
    assert await purposes(log, user="u1") == ["b", "a"]
    assert await purposes(log, interview="i3") == ["c"]
    assert await purposes(log, purpose="a") == ["a"]
    assert await purposes(log, since=2.0) == ["c", "b"]
    assert await purposes(log, until=2.0) == ["a"]
    assert await purposes(log, user="u1", since=1.5, until=9.0) == ["b"]
    assert await purposes(log, user="' OR 1 --") == []
    assert await purposes(log, limit=1) == ["c"]
    assert await purposes(log, limit=-1) == []
    for number in range(MAX_QUERY_ROWS + 1):
        log.add(record(10.0 + number))
    await log.flush()
    assert len(await purposes(log, limit=10**9)) == MAX_QUERY_ROWS
    await log.close()


@asynchronous
async def test_old_records_are_pruned_in_the_background(tmp_path: Path) -> None:
    """Records older than the maximum age are deleted in the background."""
    clock = ManualClock()
    log = open_log(tmp_path, clock, max_age=DAY)
    log.add(record(clock.now() - DAY - 60, purpose="old"))
    log.add(record(clock.now() - DAY + 60, purpose="young"))
    log.start()
    await clock.advance(1)
    while await purposes(log) != ["young"]:
        await clock.advance(1)
    assert clock.monotonic() < 50
    await log.close()


@asynchronous
async def test_a_log_over_its_size_limit_loses_its_oldest_records(tmp_path: Path) -> None:
    """Pruning shrinks an oversized log to at most its size limit and keeps the newest records."""
    clock = ManualClock()
    log = open_log(tmp_path, clock, keep_text=True, max_bytes=2_000_000)
    for number in range(5_000):
        log.add(record(clock.now() + number, purpose=str(number), prompt="x" * 1_000))
    await log.flush()
    assert file_size(log) > 5_000_000
    await log.prune()
    assert 1_000_000 < file_size(log) <= 2_000_000
    assert (await purposes(log, limit=2)) == ["4999", "4998"]
    assert await purposes(log, until=clock.now() + 3_000) == []
    await log.close()


def file_size(log: CallLog) -> int:
    """Return the size of the log's file in bytes, after a checkpoint of the journal."""
    connection = apsw.Connection(str(log.path))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return log.path.stat().st_size


@asynchronous
async def test_the_text_of_a_deleted_interview_is_erased_everywhere(tmp_path: Path) -> None:
    """Erasing the text of an interview removes all text from the interview's written, pending and
    later records and from the file; the records stay."""
    log = open_log(tmp_path, keep_text=True)
    secret = "my former employer cheated"
    for interview in ("gone", "stays"):
        log.add(record(interview=interview, prompt=f"{interview}: {secret}", reply="Oh."))
    await log.flush()
    log.add(record(interview="gone", prompt=secret, reply=secret))
    await log.erase_text("gone")
    log.add(record(interview="gone", prompt=secret, reply=secret))
    await log.flush()
    gone = await log.find(CallQuery(interview="gone"))
    assert [(found.prompt, found.reply) for found in gone] == [(None, None)] * 3
    assert [found.prompt for found in await log.find(CallQuery(interview="stays"))] == [
        f"stays: {secret}"
    ]
    await log.erase_text("stays")
    await log.close()
    assert [p.name for p in log_files(tmp_path) if secret.encode() in p.read_bytes()] == []


@asynchronous
async def test_failed_writes_are_retried_and_raise_nothing(tmp_path: Path) -> None:
    """While the database is locked, records stay buffered; they are written once the lock is
    released."""
    log = open_log(tmp_path)
    blocker = apsw.Connection(str(log.path))
    log._connection.set_busy_timeout(10)
    blocker.execute("BEGIN IMMEDIATE")
    log.add(record(1.0, purpose="a"))
    await log.flush()
    log.add(record(2.0, purpose="b"))
    await log.flush()
    assert await purposes(log) == []
    await log.erase_text("i")
    await log.prune()
    blocker.execute("ROLLBACK")
    blocker.close()
    await log.flush()
    assert await purposes(log) == ["b", "a"]
    await log.close()


@asynchronous
async def test_a_damaged_log_is_set_aside(tmp_path: Path) -> None:
    """A damaged call log is kept under another name, and a new log takes its place."""
    path = tmp_path / "calls.sqlite"
    path.write_bytes(b"this is no database" * 500)
    log = open_log(tmp_path)
    log.add(record(1.0))
    await log.flush()
    assert len(await log.find(CallQuery())) == 1
    assert (tmp_path / "calls.sqlite.damaged").read_bytes().startswith(b"this is no")
    await log.close()


@pytest.mark.parametrize("after", [0, 8, 9, 12, 20])
def test_a_log_on_a_full_disk_states_the_reason(
    tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk becomes full while a new call log is created, the error names the log and the
    full disk."""
    faults = Faults()
    faults.fail("write", error=disk_full, after=after)
    with monkeypatch.context() as faulty:
        faulty.setattr(call_log, "open_database", partial(open_database, vfs=faults.name))
        with pytest.raises(StorageError, match=r"calls\.sqlite cannot be opened: .* full. Free"):
            open_log(tmp_path)
    open_log(tmp_path)


@asynchronous
async def test_only_the_owner_can_read_the_log(tmp_path: Path) -> None:
    """The call log and its journals have mode 0600, since they may hold what candidates said."""
    log = open_log(tmp_path)
    log.add(record())
    await log.flush()
    files = log_files(tmp_path)
    assert len(files) > 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    await log.close()


@asynchronous
async def test_a_query_without_a_log_raises_not_found(tmp_path: Path) -> None:
    """If the file of the call log is missing, a query raises `no_call_log` and creates no file."""
    log = open_log(tmp_path)
    await log.close()
    for path in log_files(tmp_path):
        path.unlink()
    with pytest.raises(NotFound) as error:
        await log.find(CallQuery())
    assert error.value.code == ErrorCode.NO_CALL_LOG
    assert log_files(tmp_path) == []


@pytest.fixture
def version_0(tmp_path: Path) -> Path:
    """Extract the archive, and return the path of its call log, which has version 0."""
    with tarfile.open(VERSION_0) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "server-data" / "calls.sqlite"


@asynchronous
async def test_a_log_of_version_0_is_upgraded_when_a_server_opens_it(version_0: Path) -> None:
    """After a server has opened a log of version 0, old rows are readable and new rows can be
    added."""
    log = CallLog(version_0, ManualClock())
    old = await log.find(CallQuery())
    assert len(old) == 15
    assert {call.model for call in old} == {"scripted"}
    assert {call.fallback_index for call in old} == {0}
    assert [call.purpose for call in old if call.kind == "transcribe_live"] == ["transcribe"]
    assert all((call.first_token is not None) == (call.kind == "generate") for call in old)
    (spoken,) = (call for call in old if call.transcript_lag is not None)
    assert (spoken.kind, spoken.audio, round(spoken.transcript_lag or 0, 6)) == (
        "transcribe_live",
        2.0,
        0.001566,
    )
    new = record(2e9, fallback_index=1, first_token=0.5, transcript_lag=0.25, shared="in_flight")
    log.add(new)
    await log.close()
    reopened = CallLog(version_0, ManualClock())
    assert await reopened.find(CallQuery()) == [new, *old]
    await reopened.close()


def test_a_log_of_version_0_is_upgraded_by_its_first_reader(version_0: Path) -> None:
    """Statistics and calls can be read from a log of version 0 before a server has opened the
    log."""
    assert sum(line.calls for line in call_statistics(version_0, 0.0)) == 15
    assert len(find_calls(version_0, CallQuery())) == 15


def test_a_shared_reply_of_version_0_is_upgraded(version_0: Path) -> None:
    """The value `flight` of `shared` in a log of version 0 is read as `in_flight`."""
    connection = apsw.Connection(str(version_0))
    connection.execute("UPDATE calls SET shared = 'flight' WHERE purpose = 'hint'")
    connection.close()
    (hint,) = find_calls(version_0, CallQuery(purpose="hint"))
    assert hint.shared == "in_flight"

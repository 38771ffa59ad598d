"""The log of calls: what is written, found, pruned and forgotten."""

import stat
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from prepserver.errors import NotFound
from prepserver.telemetry.call_log import LONGEST_ANSWER, CallLog, CallQuery
from prepserver.telemetry.calls import CallRecord
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

DAY = 86_400.0


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


def log_at(tmp_path: Path, clock: ManualClock | None = None, **options: Any) -> CallLog:
    return CallLog(tmp_path / "calls.sqlite", clock or ManualClock(), **options)


def files_of(folder: Path) -> list[Path]:
    """The log's database and its journals."""
    return list(folder.glob("calls.sqlite*"))


async def purposes(log: CallLog, **query: Any) -> list[str]:
    """Of the calls that a query finds, the newest first."""
    return [found.purpose for found in await log.find(CallQuery(**query))]


@asynchronous
async def test_what_was_written_is_found_as_it_was(tmp_path: Path) -> None:
    """Every field, also the pairs of metadata and a text that is not English."""
    log = log_at(tmp_path)
    written = record(
        metadata={"question": "3", "größe": "ß"},
        model="m",
        step=1,
        prompt_tokens=3,
        cached_tokens=2,
        completion_tokens=1,
        audio=1.5,
        queued=0.5,
        first=0.25,
        lag=0.125,
        caption_lag=0.75,
        duration=2.0,
        compute=1.0,
        retries=2,
        shared="flight",
        outcome="worker_died",
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
async def test_records_are_written_once_a_second_and_at_the_end(tmp_path: Path) -> None:
    """Until then they wait; nothing is lost when the server is stopped."""
    clock = ManualClock()
    log = log_at(tmp_path, clock)
    log.start()
    await clock.advance(0)
    log.add(record(clock.now(), purpose="first"))
    await clock.advance(0.5)
    assert await purposes(log) == []
    await clock.advance(0.5)
    while await purposes(log) != ["first"]:  # it is being written, in a thread
        pass
    log.add(record(clock.now(), purpose="last"))
    await log.close()
    again = log_at(tmp_path, clock)
    assert set(await purposes(again)) == {"first", "last"}
    await again.close()


@asynchronous
async def test_queries_by_user_interview_purpose_and_time(tmp_path: Path) -> None:
    """Alone and together, the newest first, and never without end."""
    log = log_at(tmp_path)
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
    for number in range(LONGEST_ANSWER + 1):
        log.add(record(10.0 + number))
    await log.flush()
    assert len(await purposes(log, limit=10**9)) == LONGEST_ANSWER
    await log.close()


@asynchronous
async def test_old_records_are_pruned(tmp_path: Path) -> None:
    """By themselves, while the server runs."""
    clock = ManualClock()
    log = log_at(tmp_path, clock, max_age=DAY)
    log.add(record(clock.now() - DAY - 60, purpose="old"))
    log.add(record(clock.now() - DAY + 60, purpose="young"))
    log.start()
    await clock.advance(1)
    while await purposes(log) != ["young"]:
        await clock.advance(1)
    assert clock.monotonic() < 50
    await log.close()


@asynchronous
async def test_a_log_that_is_too_large_loses_its_oldest_records(tmp_path: Path) -> None:
    """The file itself becomes smaller; the newest records stay."""
    clock = ManualClock()
    log = log_at(tmp_path, clock, keep_text=True, max_bytes=2_000_000)
    for number in range(5_000):
        log.add(record(clock.now() + number, purpose=str(number), prompt="x" * 1_000))
    await log.flush()
    assert size_of(log) > 5_000_000
    await log.prune()
    assert 1_000_000 < size_of(log) <= 2_000_000
    assert (await purposes(log, limit=2)) == ["4999", "4998"]
    assert await purposes(log, until=clock.now() + 3_000) == []
    await log.close()


def size_of(log: CallLog) -> int:
    """Bytes of the file, once the journal is in it."""
    connection = apsw.Connection(str(log.path))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return log.path.stat().st_size


@asynchronous
async def test_text_of_an_interview_that_is_no_more_is_removed_everywhere(tmp_path: Path) -> None:
    """From the records that are written, from those that wait, and from those still to come; not
    even the file's free space holds it, and the figures stay."""
    log = log_at(tmp_path, keep_text=True)
    secret = "my former employer cheated"
    for interview in ("gone", "stays"):
        log.add(record(interview=interview, prompt=f"{interview}: {secret}", reply="Oh."))
    await log.flush()
    log.add(record(interview="gone", prompt=secret, reply=secret))
    await log.forget("gone")
    log.add(record(interview="gone", prompt=secret, reply=secret))
    await log.flush()
    gone = await log.find(CallQuery(interview="gone"))
    assert [(found.prompt, found.reply) for found in gone] == [(None, None)] * 3
    assert [found.prompt for found in await log.find(CallQuery(interview="stays"))] == [
        f"stays: {secret}"
    ]
    await log.forget("stays")
    await log.close()
    assert [p.name for p in files_of(tmp_path) if secret.encode() in p.read_bytes()] == []


@asynchronous
async def test_a_disk_that_takes_nothing_fails_no_call(tmp_path: Path) -> None:
    """Records wait, the oldest go when there are too many, and are written when it takes them."""
    log = log_at(tmp_path)
    blocker = apsw.Connection(str(log.path))
    log._connection.set_busy_timeout(10)
    blocker.execute("BEGIN IMMEDIATE")
    log.add(record(1.0, purpose="a"))
    await log.flush()
    log.add(record(2.0, purpose="b"))
    await log.flush()
    assert await purposes(log) == []
    await log.forget("i")
    await log.prune()
    blocker.execute("ROLLBACK")
    blocker.close()
    await log.flush()
    assert await purposes(log) == ["b", "a"]
    await log.close()


@asynchronous
async def test_a_damaged_log_is_set_aside(tmp_path: Path) -> None:
    """The server starts with a new one, and the old one is still there to be looked at."""
    path = tmp_path / "calls.sqlite"
    path.write_bytes(b"this is no database" * 500)
    log = log_at(tmp_path)
    log.add(record(1.0))
    await log.flush()
    assert len(await log.find(CallQuery())) == 1
    assert (tmp_path / "calls.sqlite.damaged").read_bytes().startswith(b"this is no")
    await log.close()


@asynchronous
async def test_the_log_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It may hold what candidates said."""
    log = log_at(tmp_path)
    log.add(record())
    await log.flush()
    files = files_of(tmp_path)
    assert len(files) > 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    await log.close()


@asynchronous
async def test_a_query_without_a_log_says_so(tmp_path: Path) -> None:
    """Instead of making an empty one."""
    log = log_at(tmp_path)
    await log.close()
    for path in files_of(tmp_path):
        path.unlink()
    with pytest.raises(NotFound) as told:
        await log.find(CallQuery())
    assert told.value.code == ErrorCode.NO_CALL_LOG
    assert files_of(tmp_path) == []

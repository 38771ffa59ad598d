"""Comparison of a server's data after crashes with the acknowledgements that candidates
received."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from pathlib import Path

import apsw

from prepcli.client.rest import RestClient
from prepserver.wire.protocol import Interview, Message, MessageKind, Status
from tests.support.candidates import Acknowledged, Candidate
from tests.support.server import Server

__all__ = ["check_acknowledged", "check_all_ended"]

REPAIR = 15.0
"""Seconds to wait for an alarm that completes an operation between two objects; the alarm is due
after 5 s."""

_UNCONFIRMED = "SELECT * FROM interviews WHERE deleting OR spec IS NOT NULL"
"""Query for creations and deletions in a user's list that the interviews have not confirmed."""


async def check_acknowledged(server: Server, candidates: dict[str, Candidate]) -> None:
    """Assert that the server has exactly the acknowledged messages, each once and in order.

    `candidates` maps access keys to candidates. The candidates' clients must show the same
    messages, and deleted interviews must have no file.
    """
    listed = [await _check_candidate(server, key, one) for key, one in candidates.items()]
    deadline = time.monotonic() + REPAIR
    while len(_files(server, "interview")) != sum(listed):
        assert time.monotonic() < deadline, "an unlisted interview is still on the disk"
        await asyncio.sleep(0.2)
    # A list confirms a deletion after the file is gone, which no request can observe.
    while any(_has_unconfirmed(path) for path in _files(server, "user-interviews")):
        assert time.monotonic() < deadline, "a creation or deletion is still unconfirmed"
        await asyncio.sleep(0.2)


async def _check_candidate(server: Server, key: str, candidate: Candidate) -> int:
    """Check the interviews of one candidate; return the number of interviews."""
    acknowledged = candidate.acknowledged
    async with RestClient(server.url, key) as rest:
        deadline = time.monotonic() + REPAIR
        while True:
            listed = await rest.list_interviews()
            messages = {one.id: await rest.get_messages(one.id) for one in listed}
            # An alarm completes the creation of an interview, or the update of the list, that the
            # crash interrupted.
            if (
                all(_is_listed(one, messages[one.id]) for one in listed)
                or time.monotonic() > deadline
            ):
                break
            await asyncio.sleep(0.2)
    assert acknowledged.keys() <= messages.keys()
    assert not candidate.deleted & messages.keys()
    for interview in listed:
        _check_interview(interview, messages[interview.id], acknowledged.get(interview.id))
    return len(listed)


def _is_listed(interview: Interview, messages: list[Message]) -> bool:
    """Return True if the interview has messages and its entry in the list agrees with them."""
    kinds = [one.kind for one in messages]
    completed = interview.status is Status.COMPLETED
    return (
        bool(messages)
        and interview.answered == kinds.count(MessageKind.ANSWER)
        and completed == (MessageKind.SUMMARY in kinds)
    )


def _check_interview(
    interview: Interview, messages: list[Message], acknowledged: Acknowledged | None
) -> None:
    """Check one interview. `acknowledged` is None if the interview's id never reached the
    candidate."""
    answers = [one.text for one in messages if one.kind is MessageKind.ANSWER]
    if acknowledged is None:
        assert answers == []
    else:
        assert answers == acknowledged.answers
        assert tuple(messages) == acknowledged.seen, "the client showed different messages"
    assert [one.position for one in messages] == list(range(len(messages)))
    assert _is_listed(interview, messages), "the list is out of date"
    kinds = [one.kind for one in messages if one.kind is not MessageKind.HINT]
    dialogue = [MessageKind.QUESTION, MessageKind.ANSWER] * len(answers)
    if interview.status is Status.COMPLETED:
        assert kinds == [*dialogue, MessageKind.CLOSING, MessageKind.SUMMARY]
    else:
        assert kinds == [*dialogue, MessageKind.QUESTION]


def check_all_ended(server: Server) -> None:
    """Assert that the files of a stopped server are intact and hold no unfinished work."""
    for path in _files(server, "interview"):
        assert _rows(path, "SELECT DISTINCT state FROM turns") == [("done",)], path
        assert _rows(path, "SELECT * FROM recordings") == [], path
    for path in _files(server, "user-interviews"):
        assert _rows(path, _UNCONFIRMED) == [], path


def _files(server: Server, kind: str) -> list[Path]:
    return list((server.data_dir / "objects" / kind).rglob("*.sqlite"))


def _rows(path: Path, query: str) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        assert connection.pragma("integrity_check") == "ok", path
        return list(connection.execute(query))
    finally:
        connection.close()


def _has_unconfirmed(path: Path) -> bool:
    """Return True if a list has unconfirmed operations, or if the copy of its database is
    unreadable.

    A copy is read, because a running server has locked the original.
    """
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", "-wal"):
            file = path.with_name(path.name + suffix)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(file, Path(folder) / file.name)
        try:
            return bool(_rows(Path(folder) / path.name, _UNCONFIRMED))
        except (apsw.Error, AssertionError):
            return True  # copied during a checkpoint: look again

"""What a server promised its candidates, compared with what it has after crashes and restarts."""

import asyncio
import time
from pathlib import Path

import apsw

from prepcli.client.rest import RestClient
from prepserver.wire.protocol import Interview, Message, MessageKind, Status
from tests.support.candidates import Candidate, Promised
from tests.support.server import Server

__all__ = ["all_ended", "kept"]

REPAIR = 15.0
"""Seconds until an alarm has mended what a crash cut off between two objects; it is due after 5."""


async def kept(server: Server, people: dict[str, Candidate]) -> None:
    """Everything that the candidates, by their keys, were promised is on the server, once and in
    order, and nothing else; their own clients have seen the same; what they deleted is gone."""
    listed = [await _kept(server, key, one) for key, one in people.items()]
    until = time.monotonic() + REPAIR
    while len(_files(server, "interview")) != sum(listed):
        assert time.monotonic() < until, "what is in no list is still on the disk"
        await asyncio.sleep(0.2)


async def _kept(server: Server, key: str, candidate: Candidate) -> int:
    """How many interviews there are."""
    promised = candidate.promised
    async with RestClient(server.url, key) as rest:
        until = time.monotonic() + REPAIR
        while True:
            listed = await rest.list_interviews()
            said = {one.id: await rest.get_messages(one.id) for one in listed}
            # An interview that was created while the server died, and one whose news for the list
            # were cut off, are taken up again by an alarm.
            if all(_settled(one, said[one.id]) for one in listed) or time.monotonic() > until:
                break
            await asyncio.sleep(0.2)
    assert promised.keys() <= said.keys()
    assert not candidate.deleted & said.keys()
    for interview in listed:
        _whole(interview, said[interview.id], promised.get(interview.id))
    return len(listed)


def _settled(interview: Interview, said: list[Message]) -> bool:
    """Whether the list knows how far the interview has come."""
    kinds = [one.kind for one in said]
    completed = interview.status is Status.COMPLETED
    return (
        bool(said)
        and interview.answered == kinds.count(MessageKind.ANSWER)
        and completed == (MessageKind.SUMMARY in kinds)
    )


def _whole(interview: Interview, said: list[Message], promised: Promised | None) -> None:
    """What was promised of one interview, and nothing else. None is promised of one whose id
    never reached its candidate."""
    answers = [one.text for one in said if one.kind is MessageKind.ANSWER]
    if promised is None:
        assert answers == []
    else:
        assert answers == promised.answers
        assert tuple(said) == promised.seen, "the client saw something else"
    assert [one.position for one in said] == list(range(len(said)))
    assert _settled(interview, said), "the list is behind"
    kinds = [one.kind for one in said if one.kind is not MessageKind.HINT]
    talk = [MessageKind.QUESTION, MessageKind.ANSWER] * len(answers)
    if interview.status is Status.COMPLETED:
        assert kinds == [*talk, MessageKind.CLOSING, MessageKind.SUMMARY]
    else:
        assert kinds == [*talk, MessageKind.QUESTION]


def all_ended(server: Server) -> None:
    """Seen in the files of a server that has stopped: they are whole, and nothing waits in them."""
    for path in _files(server, "interview"):
        assert _rows(path, "SELECT DISTINCT state FROM turns") == [("done",)], path
        assert _rows(path, "SELECT * FROM recordings") == [], path
    for path in _files(server, "user-interviews"):
        assert _rows(path, "SELECT * FROM interviews WHERE deleting OR spec IS NOT NULL") == [], (
            path
        )


def _files(server: Server, kind: str) -> list[Path]:
    return list((server.data_dir / "objects" / kind).rglob("*.sqlite"))


def _rows(path: Path, query: str) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        assert connection.pragma("integrity_check") == "ok", path
        return list(connection.execute(query))
    finally:
        connection.close()

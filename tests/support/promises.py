"""What a server promised its candidates, compared with what it has after crashes and restarts."""

import asyncio
import time

import apsw

from prepcli.client.rest import Rest
from prepserver.protocol import Interview, Message, MessageKind, Status
from tests.support.candidates import Promised
from tests.support.server import Server

__all__ = ["all_ended", "kept"]

REPAIR = 15.0
"""Seconds until an alarm has mended what a crash cut off between two objects; it is due after 5."""


async def kept(server: Server, key: str, promised: dict[str, Promised]) -> None:
    """Everything one candidate was promised is on the server, once and in order, and nothing
    else; and their own client has seen the same."""
    async with Rest(server.url, key) as rest:
        until = time.monotonic() + REPAIR
        while True:
            listed = await rest.list()
            said = {one.id: await rest.messages(one.id) for one in listed}
            # An interview that was created while the server died, and one whose news for the list
            # were cut off, are taken up again by an alarm.
            if all(_settled(one, said[one.id]) for one in listed) or time.monotonic() > until:
                break
            await asyncio.sleep(0.2)
    assert promised.keys() <= said.keys()
    for interview in listed:
        _whole(interview, said[interview.id], promised.get(interview.id))


def _settled(interview: Interview, said: list[Message]) -> bool:
    answers = sum(one.kind is MessageKind.ANSWER for one in said)
    return bool(said) and interview.answered == answers


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
    assert interview.answered == len(answers), "the list knows of every answer"
    kinds = [one.kind for one in said if one.kind is not MessageKind.HINT]
    talk = [MessageKind.QUESTION, MessageKind.ANSWER] * len(answers)
    if interview.status is Status.COMPLETED:
        assert kinds == [*talk, MessageKind.CLOSING, MessageKind.SUMMARY]
    else:
        assert kinds == [*talk, MessageKind.QUESTION]


def all_ended(server: Server) -> None:
    """Seen in the files of a server that has stopped: they are whole, and nothing waits in them."""
    for path in (server.data_dir / "objects").rglob("*.sqlite"):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            assert connection.pragma("integrity_check") == "ok", path
            if path.parent.parent.name == "interview":
                states = connection.execute("SELECT DISTINCT state FROM turns").fetchall()
                assert states == [("done",)], path
                assert connection.execute("SELECT count(*) FROM recordings").get == 0, path
        finally:
            connection.close()

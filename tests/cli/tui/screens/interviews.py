"""Helpers for tests of the interview screen."""

from prepcli.tui.app import PrepApp
from prepcli.tui.widgets.answer import AnswerBox
from prepcli.tui.widgets.status import StatusLine
from prepserver.wire.client_messages import UserMessage
from prepserver.wire.protocol import BYTES_PER_SECOND, Snapshot
from tests.cli.tui.screens.support import FakeRoom, FakeSession, asked_once, interview, joined

SECOND = b"\x00\x10" * (BYTES_PER_SECOND // 2)
"""One second of audio."""


def ready(snapshot: Snapshot | None = None) -> tuple[FakeSession, FakeRoom]:
    """Return a session and the room of its interview, which by default has one open question."""
    session = FakeSession([interview()])
    room = session.interview()
    room.emit(*joined(snapshot or asked_once()))
    return session, room


def box(app: PrepApp) -> AnswerBox:
    return app.screen.query_one(AnswerBox)


def status(app: PrepApp) -> str:
    return app.screen.query_one(StatusLine).activity.words


def texts(room: FakeRoom) -> list[str]:
    """Return the texts of the typed answers that the app has sent to the room."""
    return [message.text for message in room.sent if isinstance(message, UserMessage)]

"""What the tests of an interview on the screen have in common."""

from prepcli.tui.app import PrepApp
from prepcli.tui.widgets.answer import AnswerBox
from prepcli.tui.widgets.status import StatusLine
from prepserver.wire.protocol import BYTES_PER_SECOND, Snapshot, UserMessage
from tests.cli.tui.screens.support import FakeRoom, FakeSession, asked_once, interview, joined

SECOND = b"\x00\x10" * (BYTES_PER_SECOND // 2)
"""A second of sound."""


def ready(snapshot: Snapshot | None = None) -> tuple[FakeSession, FakeRoom]:
    """A session with one interview in which a question is open."""
    session = FakeSession([interview()])
    room = session.interview()
    room.say(*joined(snapshot or asked_once()))
    return session, room


def box(app: PrepApp) -> AnswerBox:
    return app.screen.query_one(AnswerBox)


def status(app: PrepApp) -> str:
    return app.screen.query_one(StatusLine).activity.words


def texts(room: FakeRoom) -> list[str]:
    """The answers that the room was given."""
    return [message.text for message in room.sent if isinstance(message, UserMessage)]

"""Storage of the transcript."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prepserver.errors import NotFound
from prepserver.interview import schema
from prepserver.interview.transcript import Transcript
from prepserver.objects.storage import Storage
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import MessageKind, Role, Source

QUESTION, ANSWER, HINT, CLOSING = (
    MessageKind.QUESTION,
    MessageKind.ANSWER,
    MessageKind.HINT,
    MessageKind.CLOSING,
)


@pytest.fixture
def transcript(tmp_path: Path) -> Iterator[Transcript]:
    storage = Storage(tmp_path / "a.sqlite", "a", schema.INTERVIEW)
    yield Transcript(storage)
    storage.close()


def add_messages(transcript: Transcript, *kinds: MessageKind) -> None:
    for kind in kinds:
        number = len(transcript.messages())
        transcript.add(f"m{number}", kind, f"{kind} {number}", Source.MODEL, at=float(number))


def test_messages_are_numbered_in_order(transcript: Transcript) -> None:
    """Messages are numbered from 0, and the kind of a message determines its role."""
    add_messages(transcript, QUESTION, ANSWER, HINT)
    messages = transcript.messages()
    assert [message.position for message in messages] == [0, 1, 2]
    assert [message.role for message in messages] == [
        Role.INTERVIEWER,
        Role.CANDIDATE,
        Role.INTERVIEWER,
    ]
    assert [message.created_at for message in messages] == [0.0, 1.0, 2.0]


def test_a_message_with_a_known_id_replaces_the_text_in_place(transcript: Transcript) -> None:
    """Adding a message under the id of a stored message replaces the stored text and keeps the
    position."""
    add_messages(transcript, QUESTION, ANSWER)
    again = transcript.add("m0", QUESTION, "final?", Source.BANK, at=9.0)
    assert (again.position, again.text, again.source, again.created_at) == (
        0,
        "final?",
        Source.BANK,
        0.0,
    )
    assert [message.id for message in transcript.messages()] == ["m0", "m1"]


def test_an_answer_can_be_edited(transcript: Transcript) -> None:
    """Editing an answer changes its text, marks it as edited, and keeps its position."""
    add_messages(transcript, QUESTION, ANSWER)
    edited = transcript.edit("m1", "what I meant")
    assert (edited.text, edited.edited, edited.position) == ("what I meant", True, 1)
    assert transcript.messages()[1] == edited


@pytest.mark.parametrize("id", ["m0", "m2", "nothing", ""])
def test_only_answers_can_be_edited(transcript: Transcript, id: str) -> None:
    """Editing anything but an answer raises NotFound and leaves the transcript unchanged."""
    add_messages(transcript, QUESTION, ANSWER, HINT)
    before = transcript.messages()
    with pytest.raises(NotFound) as caught:
        transcript.edit(id, "hacked")
    assert caught.value.code == ErrorCode.NO_SUCH_MESSAGE
    assert transcript.messages() == before


@pytest.mark.parametrize(
    ("kinds", "open"),
    [
        ((), None),
        ((QUESTION,), "m0"),
        ((QUESTION, HINT), "m0"),
        ((QUESTION, ANSWER), None),
        ((QUESTION, ANSWER, QUESTION), "m2"),
        ((QUESTION, ANSWER, QUESTION, CLOSING), None),
    ],
)
def test_the_open_question_has_no_answer_yet(
    transcript: Transcript, kinds: tuple[MessageKind, ...], open: str | None
) -> None:
    """An answer or a closing message ends the open question; a hint does not."""
    add_messages(transcript, *kinds)
    question = transcript.open_question()
    assert (question and question.id) == open


@pytest.mark.parametrize(
    ("kinds", "hint"),
    [
        ((QUESTION,), None),
        ((QUESTION, HINT), "m1"),
        ((QUESTION, HINT, HINT), "m2"),
        ((QUESTION, HINT, ANSWER), None),
        ((QUESTION, HINT, ANSWER, QUESTION), None),
    ],
)
def test_the_hint_belongs_to_the_open_question(
    transcript: Transcript, kinds: tuple[MessageKind, ...], hint: str | None
) -> None:
    """`Transcript.hint` returns the latest hint for the open question, and None once the question
    is answered."""
    add_messages(transcript, *kinds)
    found = transcript.hint()
    assert (found and found.id) == hint


def test_messages_are_counted_by_kind(transcript: Transcript) -> None:
    """`Transcript.count` returns the number of stored messages of a kind."""
    add_messages(transcript, QUESTION, ANSWER, QUESTION, HINT)
    assert [transcript.count(kind) for kind in (QUESTION, ANSWER, HINT, CLOSING)] == [2, 1, 1, 0]

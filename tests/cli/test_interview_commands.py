"""The command `prep agenda`."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from prepcli import interview_commands
from prepcli.cli import main
from prepcli.errors import RequestRefused
from prepserver.wire.agenda import Agenda, EditAgenda, EditedTopic
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.limits import MAX_QUESTIONS
from tests.cli.client.builders import make_agenda


class FakeServer:
    """Reader and session of a server whose interviews have the same agenda."""

    def __init__(self, agenda: Agenda) -> None:
        self.agenda = agenda
        self.hidden = False
        self.edits: list[EditAgenda] = []
        self.rest = self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    async def get_agenda(self, interview_id: str) -> Agenda:
        if self.hidden:
            raise RequestRefused("The agenda is hidden.", code=ErrorCode.AGENDA_HIDDEN)
        return self.agenda

    async def edit_agenda(self, interview_id: str, edit: EditAgenda) -> Agenda:
        self.edits.append(edit)
        return self.agenda


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """Server that the command reaches."""
    fake = FakeServer(make_agenda(2))

    @asynccontextmanager
    async def open_reader(_: object) -> AsyncIterator[FakeServer]:
        yield fake

    async def open_session(*_: object) -> FakeServer:
        return fake

    monkeypatch.setattr(interview_commands, "open_reader", open_reader)
    monkeypatch.setattr("prepcli.local_server.sessions.open_session", open_session)
    return fake


def agenda(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `prep agenda i1` and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["prep", "agenda", "i1", *arguments])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code is None or isinstance(raised.value.code, int)
    return raised.value.code or 0


@pytest.mark.usefixtures("server")
def test_agenda_as_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`prep agenda ID` prints the numbered topics."""
    assert agenda(monkeypatch) == 0
    assert capsys.readouterr().out == (
        "Agenda:\n  1. Question 1? (3 min)\n  2. Question 2? (3 min)\n"
    )


@pytest.mark.usefixtures("server")
def test_agenda_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` prints the agenda of the protocol."""
    assert agenda(monkeypatch, "--json") == 0
    assert [each["id"] for each in json.loads(capsys.readouterr().out)["topics"]] == ["t1", "t2"]


def test_an_agenda_that_is_not_planned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    """Without topics the command prints a sentence on standard error."""
    server.agenda = make_agenda(0)
    assert agenda(monkeypatch) == 0
    assert capsys.readouterr() == ("", "The agenda is not planned yet.\n")


def test_a_hidden_agenda(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: FakeServer
) -> None:
    """The agenda of a real interview is refused with the server's sentence."""
    server.hidden = True
    assert agenda(monkeypatch) == 2
    assert capsys.readouterr().err == "Error: The agenda is hidden.\n"


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_set_file_replaces_the_planned_topics(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: FakeServer, start: bytes
) -> None:
    """`--set-file` sends the topics of the file. The output of `--json` is such a file."""
    file = tmp_path / "agenda.json"
    file.write_bytes(start + b'{"topics": [{"skill": "kafka"}, {"id": "t1", "minutes": 9}]}')
    assert agenda(monkeypatch, "--set-file", str(file)) == 0
    assert server.edits[0].topics == [EditedTopic(skill="kafka"), EditedTopic(id="t1", minutes=9)]


@pytest.mark.parametrize(
    ("content", "keyword"),
    [
        (b"", "is not an agenda"),
        (b"{}", "topics"),
        (b'{"topics": {}}', "array"),
        (b'{"topics": [{"minutes": "9"}]}', "minutes"),
        (b'{"topics": [{"minutes": 900}]}', "minutes"),
        (b'{"topics": [' + b"{}," * MAX_QUESTIONS + b"{}]}", "length"),
        (b"\xff\xfe", "is not an agenda"),
        (b" " * (interview_commands.MAX_AGENDA_FILE + 1), "larger"),
        (None, "missing.json"),
    ],
)
def test_an_unusable_file_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    server: FakeServer,
    content: bytes | None,
    keyword: str,
) -> None:
    """A file that is no agenda ends in a sentence, and nothing is sent."""
    file = tmp_path / "missing.json"
    if content is not None:
        file.write_bytes(content)
    assert agenda(monkeypatch, "--set-file", str(file)) == 2
    error = capsys.readouterr().err
    assert keyword in error
    assert "missing.json" in error
    assert not server.edits

"""Limits of time and memory for documents, and failures of the process that parses them."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest

from prepcli.client import document_parser, document_process
from prepcli.client.document_process import parse_document
from prepcli.client.documents import extract_document, read_document
from prepcli.client.encodings import DecodedText
from prepcli.client.file_formats import UnreadableDocument
from prepcli.errors import DocumentError
from tests.support.documents import pdf_document, slow_word_document, word_document
from tests.support.loop import asynchronous

PARAGRAPH = "<w:p><w:r><w:t>Python</w:t></w:r></w:p>"


class Processes(list[Process]):
    """The processes that were started during a test."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    """Record the processes that are started during the test."""
    started = Processes()
    start = asyncio.create_subprocess_exec

    async def record(*arguments: Any, **options: Any) -> Process:
        started.append(await start(*arguments, **options))
        started.changed.set()
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", record)
    return started


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("cv.pdf", pdf_document("Python"), "Python"),
        ("cv.docx", word_document(PARAGRAPH), "Python"),
        ("job.html", b"<p>Python</p>", "Python"),
        ("job.txt", "<?xml version='1.0' encoding='cp1251'?>Го".encode("cp1251"), "Го"),
        ("job", b"Content-Type: text/plain; charset=utf-8\n\nPython", "Python"),
        ("page.html", b"<p>Python</p>" + b"<!-- x -->" * 500_000, "Python"),
    ],
)
def test_formats_are_parsed_in_one_process(
    processes: Processes, tmp_path: Path, name: str, data: bytes, text: str
) -> None:
    """PDF and Word documents, web pages and e-mails are parsed in a process that ends."""
    file = tmp_path / name
    file.write_bytes(data)
    assert text in read_document(file).text
    assert [process.returncode for process in processes] == [0]


def test_plain_text_needs_no_process(processes: Processes, tmp_path: Path) -> None:
    """Plain text and Markdown are read without another process."""
    for name, text in (("cv.txt", "Python"), ("cv.md", "# Python <b>3</b>")):
        file = tmp_path / name
        file.write_text(text)
        assert read_document(file).text == text
    assert not processes


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_slow_document_is_named(
    monkeypatch: pytest.MonkeyPatch, processes: Processes, tmp_path: Path, seconds: float
) -> None:
    """A document that takes too long raises DocumentError with its name, and its process ends."""
    monkeypatch.setattr(document_process, "MAX_SECONDS", seconds)
    file = tmp_path / "cv.docx"
    file.write_bytes(slow_word_document())
    with pytest.raises(DocumentError, match=r"cv\.docx takes too long"):
        read_document(file)
    assert [process.returncode for process in processes] == [-signal.SIGKILL]


@pytest.mark.parametrize("data", [pdf_document("Python"), word_document(PARAGRAPH), b"<p>Python"])
@asynchronous
async def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """A document that needs more memory than the limit raises UnreadableDocument."""
    monkeypatch.setattr(document_process, "MAX_MEMORY", 8 * 1024**2)
    with pytest.raises(UnreadableDocument, match=r"memory|parser failed"):
        await parse_document(data, "")


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not limit the address space")
@asynchronous
async def test_memory_bomb_is_named() -> None:
    """A page whose tree exceeds the limit raises UnreadableDocument."""
    with pytest.raises(UnreadableDocument, match=r"memory|parser failed"):
        await parse_document(b"<p>x" + b"<a b>" * 4_000_000, ".html")


@pytest.mark.parametrize(
    ("error", "problem"),
    [(MemoryError(), "memory"), (UnreadableDocument("is odd."), "is odd"), (RuntimeError(), "")],
)
def test_each_failure_of_a_parser_has_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str
) -> None:
    """Expected failures exit with EXIT_UNREADABLE and a sentence; others keep their exception."""

    def fail(data: bytes, suffix: str) -> DecodedText:
        raise error

    monkeypatch.setattr(document_parser, "parse", fail)
    if problem:
        code, output = document_parser.answer(b"", "")
        assert code == document_parser.EXIT_UNREADABLE
        assert problem in output.decode()
    else:
        with pytest.raises(RuntimeError):
            document_parser.answer(b"", "")


def test_lone_surrogates_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lone surrogates, which PDF documents may contain, do not fail the process."""
    monkeypatch.setattr(document_parser, "parse", lambda data, suffix: DecodedText("a\ud800b"))
    code, output = document_parser.answer(b"", "")
    assert (code, "a\ufffdb" in output.decode()) == (0, True)


@asynchronous
async def test_killed_process_is_reported(processes: Processes, tmp_path: Path) -> None:
    """If another program kills the process, DocumentError names the file."""
    task = asyncio.create_task(extract_document(tmp_path / "cv.docx", slow_word_document()))
    await processes.changed.wait()
    processes[0].kill()
    with pytest.raises(DocumentError, match=r"cv\.docx cannot be read.*Save it as text"):
        await task


def test_crashed_process_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If the process fails before it reads the document, or cannot start, DocumentError names the
    file."""
    file = tmp_path / "cv.pdf"
    file.write_bytes(pdf_document("Python") + b" " * 2_000_000)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONHOME", str(tmp_path))
        with pytest.raises(DocumentError, match=r"cv\.pdf cannot be read"):
            read_document(file)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(DocumentError, match=r"cv\.pdf cannot be read.*No such file"):
        read_document(file)


@asynchronous
async def test_cancelled_reading_ends_the_process(processes: Processes) -> None:
    """The process ends when the reading is cancelled, and the event loop runs meanwhile."""
    task = asyncio.create_task(parse_document(slow_word_document(), ".docx"))
    await processes.changed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert processes[0].returncode == -signal.SIGKILL


_READER = """
import asyncio, sys
from pathlib import Path
from prepcli.client.documents import read_document
start = asyncio.create_subprocess_exec
async def report(*arguments, **options):
    process = await start(*arguments, **options)
    print(process.pid, flush=True)
    return process
asyncio.create_subprocess_exec = report
read_document(Path(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_process_does_not_outlive_prep(tmp_path: Path, number: signal.Signals) -> None:
    """However prep ends, the process that parses a document ends, too."""
    file = tmp_path / "cv.docx"
    file.write_bytes(slow_word_document())
    command = [sys.executable, "-c", _READER, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as reader:
        assert reader.stdout is not None
        parser = os.pidfd_open(int(reader.stdout.readline()))
        reader.send_signal(number)
        reader.wait(10)
    ended, _, _ = select.select([parser], [], [], 10)
    os.close(parser)
    assert ended

from pathlib import Path

import pytest

from prepcli.client.documents import read_answers, read_document
from prepcli.errors import DocumentError
from prepserver.wire.limits import MAX_ANSWER, MAX_DOCUMENT


def test_a_document_is_its_text(tmp_path: Path) -> None:
    """UTF-8 with and without the mark that some editors write first."""
    file = tmp_path / "jd.txt"
    for data in ("Ingénieur ☕", "\ufeffIngénieur ☕"):
        file.write_text(data, "utf-8")
        assert read_document(file) == "Ingénieur ☕"


def test_a_document_may_be_as_long_as_the_server_takes(tmp_path: Path) -> None:
    """The limit counts characters, however many bytes they have."""
    file = tmp_path / "jd.txt"
    file.write_text("𝒳" * MAX_DOCUMENT, "utf-8")
    assert len(read_document(file)) == MAX_DOCUMENT
    file.write_text("x" * (MAX_DOCUMENT + 1))
    with pytest.raises(DocumentError, match="shorten"):
        read_document(file)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        (b"%PDF-1.7\xff\xfe", "not text"),
        (b"a\x00b", "not text"),
        (b"x" * (MAX_DOCUMENT * 4 + 1), "shorten"),
    ],
)
def test_a_document_that_is_none_is_named(tmp_path: Path, data: bytes, problem: str) -> None:
    """The sentence names the file and what is wrong with it."""
    file = tmp_path / "jd.txt"
    file.write_bytes(data)
    with pytest.raises(DocumentError, match=rf"jd\.txt.*{problem}"):
        read_document(file)


def test_a_document_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A mistyped path and a folder have their own sentences."""
    with pytest.raises(DocumentError, match="No such file"):
        read_document(tmp_path / "missing")
    with pytest.raises(DocumentError, match="folder"):
        read_document(tmp_path)


def test_answers_are_the_lines_that_are_not_blank(tmp_path: Path) -> None:
    """One answer a line, whatever ends the lines."""
    file = tmp_path / "answers.txt"
    file.write_bytes(b"one\r\n\n  two  \n\t\nthree")
    assert read_answers(file) == ("one", "two", "three")


def test_answers_that_the_server_would_not_take_are_named(tmp_path: Path) -> None:
    """The sentence says which answer is too long, before anything is started."""
    file = tmp_path / "answers.txt"
    file.write_text("short\n" + "x" * (MAX_ANSWER + 1))
    with pytest.raises(DocumentError, match="Answer 2"):
        read_answers(file)
    file.write_text("\n\n")
    with pytest.raises(DocumentError, match="no answers"):
        read_answers(file)

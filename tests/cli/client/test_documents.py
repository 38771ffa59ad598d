from pathlib import Path

import pytest

from prepcli.client.documents import MAX_FILE_BYTES, read_answers, read_document
from prepcli.errors import DocumentError
from prepserver.wire.limits import MAX_ANSWER, MAX_DOCUMENT


def test_document_is_utf8_text(tmp_path: Path) -> None:
    """A document is read as UTF-8, with or without a byte order mark."""
    file = tmp_path / "jd.txt"
    for data in ("Ingénieur ☕", "\ufeffIngénieur ☕"):
        file.write_text(data, "utf-8")
        assert read_document(file).text == "Ingénieur ☕"


def test_document_length_is_limited(tmp_path: Path) -> None:
    """A document with more code points than the wire allows raises DocumentError."""
    file = tmp_path / "jd.txt"
    file.write_text("𝒳" * MAX_DOCUMENT, "utf-8")
    assert len(read_document(file).text) == MAX_DOCUMENT
    file.write_text("x" * (MAX_DOCUMENT + 1))
    with pytest.raises(DocumentError, match=f"{MAX_DOCUMENT:,}"):
        read_document(file)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        ("\ufeff\u200b\n\u00ad".encode(), "empty"),
        (b"a\x00b", "not text"),
        (b" " * (MAX_FILE_BYTES + 1), "bytes"),
    ],
)
def test_invalid_document_is_named(tmp_path: Path, data: bytes, problem: str) -> None:
    """An invalid document raises DocumentError with the file name and the problem."""
    file = tmp_path / "jd.txt"
    file.write_bytes(data)
    with pytest.raises(DocumentError, match=rf"jd\.txt.*{problem}"):
        read_document(file)


def test_guessed_encoding_is_noted(tmp_path: Path) -> None:
    """A document that is not UTF-8 has a note with the file's name and the guessed encoding."""
    file = tmp_path / "cv.txt"
    file.write_bytes("Ingénieur – Python".encode("cp1252"))
    document = read_document(file)
    assert document.text == "Ingénieur – Python"
    assert "cv.txt" in document.note
    assert "Windows-1252" in document.note
    file.write_bytes("<html><body><p>Résumé – Python".encode("cp1252"))
    assert "Windows-1252" in read_document(file).note
    file.write_bytes("Ingénieur – ".encode() + b"\xff")
    assert "cv.txt" in read_document(file).note


def test_missing_document_is_reported(tmp_path: Path) -> None:
    """A missing document and a folder raise DocumentError with different messages."""
    with pytest.raises(DocumentError, match="No such file"):
        read_document(tmp_path / "missing")
    with pytest.raises(DocumentError, match="folder"):
        read_document(tmp_path)


def test_answers_are_the_non_blank_lines(tmp_path: Path) -> None:
    """Each non-blank line in an answers file is an answer, whatever the line ending."""
    file = tmp_path / "answers.txt"
    file.write_bytes(b"one\r\n\n  two  \n\t\nthree")
    assert read_answers(file) == ("one", "two", "three")


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\rtwo", ["one", "two"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n\x1a", ["one", "two"]),
        (b"one\x0cmore\n\x0c\ntwo\x1a", ["one\x0cmore", "two"]),
        ("one\u2028more\ntwo\x85more\x1emore".encode(), ["one\u2028more", "two\x85more\x1emore"]),
    ],
)
def test_answers_of_other_systems(tmp_path: Path, data: bytes, lines: list[str]) -> None:
    """Answers end with LF, CRLF or CR and with nothing else; byte order marks and end-of-file
    characters are no answers."""
    file = tmp_path / "answers.txt"
    file.write_bytes(data)
    assert list(read_answers(file)) == lines


def test_invalid_answers_are_reported(tmp_path: Path) -> None:
    """DocumentError gives the number of an overlong answer, or says that a file has no answers."""
    file = tmp_path / "answers.txt"
    file.write_text("short\n" + "x" * (MAX_ANSWER + 1))
    with pytest.raises(DocumentError, match="Answer 2"):
        read_answers(file)
    file.write_text("\n\n")
    with pytest.raises(DocumentError, match="no answers"):
        read_answers(file)

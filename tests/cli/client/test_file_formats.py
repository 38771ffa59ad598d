from pathlib import Path

import pytest

from prepcli.client import file_formats
from prepcli.client.documents import read_document
from prepcli.errors import DocumentError
from prepserver.wire.limits import MAX_DOCUMENT
from tests.support.documents import pdf_document, word_document, zip_file

PARAGRAPH = "<w:p><w:r><w:t>{}</w:t></w:r></w:p>"


def read(tmp_path: Path, data: bytes, name: str = "cv") -> str:
    file = tmp_path / name
    file.write_bytes(data)
    return read_document(file).text


def test_pdf_is_read(tmp_path: Path) -> None:
    """The text of all pages of a PDF document is read, whatever the file's name, whatever stands
    before and behind it, and if only changes are protected."""
    data = pdf_document("Résumé of Ada", "Python and SQL")
    for variant in (data, b"\r\n" + data, data + b"\r\n<!-- appended -->"):
        text = read(tmp_path, variant, "cv.txt")
        assert "Résumé of Ada" in text
        assert "Python and SQL" in text
    protected = pdf_document("Python", password="", owner="owner")
    assert "Python" in read(tmp_path, protected)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (pdf_document("Python", password="secret"), "password"),
        (pdf_document("", ""), "without text"),
        (pdf_document(*[""] * (file_formats.MAX_PDF_PAGES + 1)), "pages"),
        (pdf_document("Python")[:200], "damaged|without text"),
        (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj<<>>endobj\n", "damaged"),
        (b"%PDF-1.7", "damaged"),
    ],
)
def test_unreadable_pdf_is_named(tmp_path: Path, data: bytes, problem: str) -> None:
    """A protected, scanned, overlong or damaged PDF document raises DocumentError."""
    with pytest.raises(DocumentError, match=rf"cv.*({problem})"):
        read(tmp_path, data)


def test_text_of_a_long_pdf_is_bounded(tmp_path: Path) -> None:
    """A PDF document with more text than an interview takes raises DocumentError."""
    page = "x" * (MAX_DOCUMENT // 2)
    with pytest.raises(DocumentError, match=f"{MAX_DOCUMENT:,}"):
        read(tmp_path, pdf_document(page, page, page))


def test_word_document_is_read(tmp_path: Path) -> None:
    """Paragraphs and tables of a Word document are read, and split words are joined."""
    table = "<w:tbl><w:tr>{}{}</w:tr></w:tbl>"
    cell = f"<w:tc>{PARAGRAPH}</w:tc>"
    split = "<w:p><w:r><w:t>Kuber</w:t></w:r><w:r><w:t>netes</w:t></w:r></w:p>"
    body = PARAGRAPH.format("Résumé") + split + table.format(cell.format("SQL"), cell.format("Go"))
    lines = read(tmp_path, word_document(body), "cv.bin").split()
    assert lines == ["Résumé", "Kubernetes", "SQL", "Go"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (zip_file({"word/document.xml": "<w:document/>"}), "damaged"),
        (word_document("<w:p>")[:-30], "damaged"),
        (word_document("<unclosed>"), "damaged"),
        (zip_file({"word/document.xml": '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'}), "damaged"),
        (word_document(""), "empty"),
        (word_document("", padding="x" * (file_formats.MAX_XML_BYTES + 1)), "too large"),
        (word_document(PARAGRAPH.format("x" * (MAX_DOCUMENT + 1))), f"{MAX_DOCUMENT:,}"),
    ],
)
def test_unreadable_word_document_is_named(tmp_path: Path, data: bytes, problem: str) -> None:
    """A damaged, empty or overlong Word document, or one that unpacks to a large size, raises
    DocumentError."""
    with pytest.raises(DocumentError, match=rf"cv.*{problem}"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"{\\rtf1\\ansi Python}", "RTF"),
        (b"%!PS-Adobe-3.0\n", "PostScript"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old version of Office"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "password",
        ),
        (zip_file({"mimetype": "application/vnd.oasis.opendocument.text"}), "OpenDocument"),
        (zip_file({"mimetype": "application/epub+zip"}), "book"),
        (zip_file({"xl/workbook.xml": ""}), "spreadsheet"),
        (zip_file({"Index/Document.iwa": ""}), "Pages"),
        (zip_file({"cv.txt": "Python"}), "archive"),
        (b"PK\x03\x04damaged", "damaged"),
        (b"\x1f\x8b\x08\x00", "archive"),
        (b"7z\xbc\xaf'\x1c", "archive"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image"),
        (b"\x00\x00\x00\x18ftypheic", "image"),
        (b"RIFF\x00\x00\x00\x00WEBP", "image"),
        (b"\x00\x00\x00\x20ftypM4A ", "recording"),
        (b"RIFF\x00\x00\x00\x00WAVE", "recording"),
        (b"ID3\x04\x00", "recording"),
        (b"\x1aE\xdf\xa3", "recording"),
        (b"bplist00\xd1", "web archive"),
        (b"\x7fELF\x02", "program"),
        (b"SQLite format 3\x00", "database"),
        (b"a\x00b\x01", "not text"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, data: bytes, kind: str) -> None:
    """A file in a format that is not read raises DocumentError with the format, whatever the
    file's name."""
    with pytest.raises(DocumentError, match=rf"cv\.txt.*{kind}"):
        read(tmp_path, data, "cv.txt")


@pytest.mark.parametrize("text", ["BM is my favourite shop", "MZ", "MM", "PKI and TLS", "ID3 tags"])
def test_text_that_looks_like_a_format_is_text(tmp_path: Path, text: str) -> None:
    """Text that starts with the letters of a format is text."""
    assert read(tmp_path, text.encode()) == text

"""Formats of files that are not text: their names, and the text of PDF and Word documents."""

import io
import re
import zipfile
from collections.abc import Sequence

from prepcli.client.encodings import DecodedText, decode_text, find_declared_encoding

__all__ = [
    "COPY_TEXT",
    "PASS_TEXT",
    "UnreadableDocument",
    "is_docx",
    "is_pdf",
    "is_zip",
    "read_docx",
    "read_pdf",
    "read_text",
]

MAX_XML_BYTES = 3 * 1024 * 1024
"""Maximum size in bytes of the XML in a Word document after unpacking."""

_XML_PART = re.compile(r"(?!word/theme/).*\.(?:xml|rels)$", re.DOTALL)
"""Names of the parts of a Word document that are read."""

MAX_PDF_PAGES = 100
"""Maximum number of pages of a PDF document."""


class UnreadableDocument(Exception):
    """The text of a document cannot be read; the message ends a sentence that names the file."""


COPY_TEXT = "Copy its text into a .txt file."
PASS_TEXT = "Save it as text and pass that."
_EXPORT = "Save it as PDF, as a Word document (.docx) or as plain text."
_IMAGE = ("is an image", COPY_TEXT)
_RECORDING = ("is a recording or a video", "Choose a document.")
_PROGRAM = ("is a program", "Choose a document.")
_ARCHIVE = ("is an archive", "Unpack it, and choose one of its files.")

_FORMATS: Sequence[tuple[bytes, tuple[str, str]]] = [
    (rb"\{\\rtf", ("is an RTF document", _EXPORT)),
    (rb"%!PS", ("is a PostScript document", _EXPORT)),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ("is a document of an old version of Office", _EXPORT)),
    (rb"bplist00", ("is a web archive or a property list", COPY_TEXT)),
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|BM.{4}\0\0\0\0|II\*\0|MM\0\*", _IMAGE),
    (rb"RIFF.{4}WEBP|\0\0\x01\0", _IMAGE),
    (rb".{4}ftyp(?:hei|hev|mif1|msf1|avif)", _IMAGE),
    (rb"ID3[\x02-\x04]|\xff[\xf2\xf3\xfa\xfb]|OggS|fLaC|RIFF.{4}WAVE|.{4}ftyp|\x1aE\xdf\xa3|FORM.{4}AIF",
     _RECORDING),
    (rb"\x1f\x8b|7z\xbc\xaf'\x1c|Rar!\x1a|BZh[1-9]1AY", _ARCHIVE),
    (rb"\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar", _ARCHIVE),
    (rb"\x7fELF|MZ[^ -~]|\xca\xfe\xba\xbe|\xcf\xfa\xed\xfe", _PROGRAM),
    (rb"SQLite format 3\0", ("is a database", "Choose a document.")),
    (rb".{60}BOOKMOBI", ("is an electronic book", COPY_TEXT)),
]  # fmt: skip
"""Patterns of the first bytes of formats that are not read, each with the sentences about them."""

_ENCRYPTED = b"E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e\0"


def is_pdf(data: bytes) -> bool:
    """Return True if a file is a PDF document; a few bytes may precede it."""
    return b"%PDF-" in data[:1024]


def is_zip(data: bytes) -> bool:
    """Return True if a file is a ZIP file, as Word documents are."""
    return data.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_docx(data: bytes) -> bool:
    """Return True if a file is a Word document."""
    return is_zip(data) and _describe_zip(data) is None


def read_text(data: bytes) -> DecodedText:
    """Return the content of a text file. Raises UnreadableDocument if the file is not text."""
    if description := _describe_format(data):
        problem, advice = description
        raise UnreadableDocument(f"{problem}. {advice}")
    decoded = decode_text(data, find_declared_encoding(data))
    if decoded is None:
        raise UnreadableDocument(f"is not text, PDF or DOCX. {COPY_TEXT}")
    return decoded


def _describe_format(data: bytes) -> tuple[str, str] | None:
    """Return what a file is, as the end of a sentence, and a sentence that says what to do; or None
    if the file may be text or a Word document."""
    if is_zip(data):
        return _describe_zip(data)
    if data.startswith(b"\xd0\xcf\x11\xe0") and _ENCRYPTED in data:
        return "is protected with a password", "Save a copy without the password."
    for pattern, description in _FORMATS:
        if re.match(pattern, data[:512], re.DOTALL):
            return description
    return None


def _describe_zip(data: bytes) -> tuple[str, str] | None:
    """Return the description of a ZIP file, or None if it is a Word document."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            kind = archive.open("mimetype").read(100) if "mimetype" in names else b""
    except Exception:  # a damaged archive raises more than zipfile documents
        return "is a damaged document or archive", "Save it again."
    if "word/document.xml" in names or any(re.match(r"word/document\w*\.xml$", n) for n in names):
        return None
    if b"opendocument" in kind:
        return "is an OpenDocument file", _EXPORT
    if b"epub" in kind:
        return "is an electronic book", COPY_TEXT
    if any(name.startswith(("xl/", "ppt/")) for name in names):
        return "is a spreadsheet or a presentation", _EXPORT
    if any(name.endswith(".iwa") or name == "index.xml" for name in names):
        return "is a document of Pages, Numbers or Keynote", _EXPORT
    return _ARCHIVE


def read_pdf(data: bytes, max_length: int) -> str:
    """Return the text of a PDF document; reading stops after `max_length` characters. Raises
    UnreadableDocument."""
    import pypdf

    pages: list[str] = []
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableDocument(
                "is protected with a password. Save a copy without the password."
            )
        if len(reader.pages) > MAX_PDF_PAGES:
            raise UnreadableDocument(
                f"has {len(reader.pages)} pages. Choose a document of at most {MAX_PDF_PAGES}."
            )
        for page in reader.pages:
            pages.append(page.extract_text())
            if sum(map(len, pages)) > max_length:
                break
    except (UnreadableDocument, MemoryError):
        raise
    except pypdf.errors.DependencyError:
        raise UnreadableDocument(f"is encrypted. {COPY_TEXT}") from None
    except Exception:  # damaged documents raise more than pypdf's own errors
        raise UnreadableDocument(
            "is a damaged PDF document. Save it again, or copy its text into a .txt file."
        ) from None
    text = "\n".join(pages)
    if not text.strip():
        raise UnreadableDocument(
            "is a PDF document without text, probably a scan. Copy what it says into a .txt file."
        )
    return text


def read_docx(data: bytes) -> str:
    """Return a Word document as HTML. Raises UnreadableDocument."""
    import mammoth

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = [each for each in archive.infolist() if _XML_PART.match(each.filename)]
            if sum(each.file_size for each in parts) > MAX_XML_BYTES:
                raise UnreadableDocument(f"is too large after unpacking. {COPY_TEXT}")
            if any(b"<!DOCTYPE" in archive.read(each) for each in parts):
                raise ValueError  # entities that expand to a huge text
        result = mammoth.convert_to_html(
            io.BytesIO(data), convert_image=mammoth.images.img_element(lambda image: {})
        )
    except (UnreadableDocument, MemoryError):
        raise
    except Exception:  # damaged documents raise more than mammoth documents
        raise UnreadableDocument(
            "is a damaged Word document. Save it again, or copy its text into a .txt file."
        ) from None
    return str(result.value)

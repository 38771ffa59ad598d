"""Job descriptions and resumes, read from the files that a person names."""

from pathlib import Path

from prepcli.errors import DocumentError
from prepserver.protocol import MAX_DOCUMENT


def read_document(path: str) -> str:
    """The text of a file: UTF-8, at most MAX_DOCUMENT code points; empty for an empty path.

    Raises DocumentError.
    """
    if not path.strip():
        return ""
    file = Path(path.strip()).expanduser()
    try:
        if not file.is_file():
            raise DocumentError("There is no such file.")
        # Four bytes is the longest a code point can be, so one more tells that it is too long.
        with file.open("rb") as stream:
            data = stream.read(MAX_DOCUMENT * 4 + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise DocumentError(f"This file cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        if len(data) <= MAX_DOCUMENT * 4:
            raise DocumentError("This is not text: save it as .txt or .md first.") from None
        raise DocumentError(_TOO_LONG) from None
    if "\0" in text:
        raise DocumentError("This is not text: save it as .txt or .md first.")
    if len(text) > MAX_DOCUMENT:
        raise DocumentError(_TOO_LONG)
    if not text.strip():
        raise DocumentError("This file is empty.")
    return text


_TOO_LONG = f"This is longer than {MAX_DOCUMENT:,} characters: shorten it."

"""Decoding of text files, which do not state their encoding."""

import re
import unicodedata

from msgspec import Struct

__all__ = ["DecodedText", "decode_text", "find_declared_encoding", "replace_surrogates"]

MAX_ODD_SHARE = 0.02
"""Maximum share of odd characters in a text; binary data has more."""

MAX_ODD = 2
"""Number of odd characters that a short text may contain whatever their share."""

WESTERN_SHARE = 0.55
"""Confidence in Windows-1252, as a share of that in the most likely encoding, at which it is
preferred."""

MAX_EXAMINED = 100_000
"""Number of characters that are examined."""

_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")

_ODD_CATEGORIES = frozenset({"Cc", "Cn", "Co", "Cs"})
_USUAL_CONTROLS = frozenset("\t\n\v\f\r\x1a\x1b\x85")
"""White space, DOS's end of file and escape."""

_DECLARATION = re.compile(
    rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE
)
_NOT_DECLARED = ("utf-16", "utf-32", "punycode", "idna")
"""Beginnings of names that are not believed: text in UTF-16 contains no ASCII, and the time to
decode Punycode grows with the square of its length."""
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DECLARATION_BYTES = 4096
"""Number of bytes at the beginning of a page that may declare its encoding."""


class DecodedText(Struct, frozen=True):
    """Text of a file."""

    text: str
    guess: str = ""
    """Name of the encoding if it was guessed; empty if the encoding is certain."""
    damaged: int = 0
    """Number of places that could not be decoded and contain U+FFFD."""


def decode_text(data: bytes, declared: str = "") -> DecodedText | None:
    """Return the text in `data`, or None if `data` is not text.

    UTF-8 and a byte order mark are certain. Then comes the encoding that the file declares, if it
    does, and at last the most likely one.
    """
    decoded = _decode(data, declared)
    if decoded is None or "\0" in decoded.text:
        return None
    examined = decoded.text[:MAX_EXAMINED]
    odd = sum(_is_odd(character) for character in examined)
    return None if odd > max(MAX_ODD, MAX_ODD_SHARE * len(examined)) else decoded


def _is_odd(character: str) -> bool:
    """Return True if text hardly ever contains `character`."""
    if character in _USUAL_CONTROLS:
        return False
    return character == "\ufffd" or unicodedata.category(character) in _ODD_CATEGORIES


def _decode(data: bytes, declared: str) -> DecodedText | None:
    escaped = b"\x1b$" in data or b"\x1b(" in data  # ISO-2022, which is valid UTF-8
    if not escaped and (text := _try(data, "utf-8-sig")) is not None and "\0" not in text:
        return DecodedText(text)
    if declared and (text := _try(data, declared)) is not None:
        return DecodedText(text)
    if not data.startswith(_BYTE_ORDER_MARKS[1:]):
        text = data.decode("utf-8-sig", "replace")
        damaged = text.count("\ufffd")
        # Bytes of another encoding hardly ever form characters of UTF-8.
        if b"\0" not in data and sum(c > "\x7f" for c in text) > 2 * damaged:
            return DecodedText(text, damaged=damaged)
    encoding = _detect(data)
    if encoding is None:
        return None
    text = data.decode(encoding, "replace")
    if data.startswith(_BYTE_ORDER_MARKS):
        return DecodedText(text, damaged=text.count("\ufffd"))
    name = encoding.upper() if encoding.startswith("utf") else encoding
    return DecodedText(text, guess=name, damaged=text.count("\ufffd"))


def _detect(data: bytes) -> str | None:
    """Return the name of the most likely encoding, or None if `data` is binary."""
    import chardet

    era = chardet.EncodingEra.MODERN_WEB | chardet.EncodingEra.LEGACY_ISO
    results = chardet.detect_all(data, encoding_era=era, ignore_threshold=True)
    if not (encoding := results[0]["encoding"]):
        return None
    confidences = {result["encoding"]: result["confidence"] for result in results}
    western = confidences.get("Windows-1252", 0.0)
    # A few accented letters exist in several encodings; then the most widespread one is meant.
    likely = western > WESTERN_SHARE * results[0]["confidence"]
    if likely or _try(data, "cp1252") == _try(data, encoding):
        return "Windows-1252"
    return encoding


def find_declared_encoding(data: bytes) -> str:
    """Return the name of the encoding that HTML or XML declares in ASCII, or an empty string."""
    match = _DECLARATION.search(data[:_DECLARATION_BYTES])
    name = match[1].decode("ascii", "replace").lower() if match else ""
    return "" if name.startswith(_NOT_DECLARED) else name


def replace_surrogates(text: str) -> str:
    """Return `text` with U+FFFD in place of each lone surrogate, which no message can contain."""
    return _LONE_SURROGATE.sub("\ufffd", text)


_BROADER = {"gb2312": "gb18030", "gbk": "gb18030", "iso-8859-1": "cp1252", "latin1": "cp1252",
            "us-ascii": "cp1252", "shift_jis": "cp932", "x-sjis": "cp932", "euc-kr": "cp949",
            "ks_c_5601-1987": "cp949", "big5": "big5hkscs", "windows-874": "cp874"}  # fmt: skip
"""Python's names of the encodings that web browsers use in place of declared ones."""


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(_BROADER.get(encoding.lower(), encoding))
    except (UnicodeError, LookupError):
        return None

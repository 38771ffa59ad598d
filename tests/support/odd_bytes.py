"""Odd JSON: valid documents that are damaged, and documents that parsers disagree about."""

import json
from collections.abc import Sequence
from random import Random
from typing import Any

__all__ = ["odd_json"]

_FRAGMENTS = (
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",  # an encoded surrogate
    b"\xf4\x90\x80\x80",  # beyond U+10FFFF
    b"\xc0\x80",  # an overlong NUL
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b'"',
    b"\\",
    b"{",
    b"]",
    b",",
    b"\\ud800",
    b"\\udfff\\ud800",
    b"\\u0000",
    b"\\x41",
    b"1e999",
    b"NaN",
    b"-Infinity",
    b"/*",
    b"\r\n\r\n",
)

_VALUES: tuple[bytes, ...] = (
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"-1e-999",
    b"NaN",
    b"123456789012345678901234567890",
    b"-9223372036854775809",
    b"9223372036854775808",
    b"1.5",
    b"[]",
    b"{}",
    b'""',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\u0000"',
    b'"\xff\xfe"',
    b'"\xe2\x80\xae\xe2\x80\xa8"',
    b'"' + b"x" * 20_000 + b'"',
    b'"' + "\U0001f600".encode() * 300 + b'"',
    b"[" * 3_000,
    b"[" * 500 + b"]" * 500,
    b'{"a":' * 600 + b"1" + b"}" * 600,
)


def odd_json(random: Random, documents: Sequence[dict[str, Any]]) -> bytes:
    """Return bytes that were made from one of `documents` by one or two changes."""
    document = random.choice(documents)
    encoded = json.dumps(document, ensure_ascii=random.random() < 0.5).encode()
    for _ in range(random.choice((1, 1, 2))):
        encoded = _change(random, document, encoded)
    return encoded


def _change(random: Random, document: dict[str, Any], encoded: bytes) -> bytes:
    at = random.randrange(len(encoded) + 1)
    match random.randrange(10):
        case 0:
            return encoded[:at]
        case 1:
            return encoded[:at] + random.choice(_FRAGMENTS) + encoded[at:]
        case 2:
            return encoded[:at] + random.randbytes(random.randrange(1, 9)) + encoded[at + 4 :]
        case 3:
            return random.randbytes(random.randrange(200))
        case 4:
            return random.choice(_VALUES)
        case 5:
            return encoded.decode("utf-8", "replace").encode(random.choice(("utf-16", "utf-32")))
        case 6:
            return encoded * random.randrange(2, 4)
        case 7:
            return b"\xef\xbb\xbf" + encoded
        case _:
            # One field, at times a second time or under another name, gets an odd value.
            field = random.choice((*document, *document, "unknown", "\ud800", "id", "type"))
            name = json.dumps(field).encode()
            value = random.choice(_VALUES)
            rest = json.dumps({k: v for k, v in document.items() if k != field}).encode()
            twice = name + b":" + value + b"," if random.random() < 0.1 else b""
            return b"{" + twice + name + b":" + value + (b"," + rest[1:] if len(rest) > 2 else b"}")

"""Values of settings: parsing, conversion to the setting's type, and a description of that type."""

import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as kinds

from prepserver.folders import parse_path

__all__ = ["Secret", "convert_value", "parse_variable"]

_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
"""Spellings of booleans in the environment that the settings file does not have."""

_MAX_NUMBER = 2**53
"""Largest number of a setting; every smaller integer is exact in JSON."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and bytes that are not UTF-8 (Python decodes them to surrogates)."""


class Secret(str):
    """String whose `repr` is masked, so that printing the settings does not reveal secrets."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('…')" if self else "Secret('')"


def parse_variable(text: str, type: Any) -> str | list[str]:
    """Return the value of an environment variable in the form that `convert_value` accepts.

    The value of a list is split at its commas, and empty parts are dropped.
    """
    match kinds.type_info(type):
        case kinds.VarTupleType():
            return [part.strip() for part in text.split(",") if part.strip()]
        case kinds.BoolType():
            return _BOOLEANS.get(text.lower(), text)
        case kinds.LiteralType():
            return text.lower()
    return text


def convert_value(value: Any, type: Any) -> Any:
    """Convert a value to a setting's type.

    Raises ValueError with a description of the values that the setting accepts, followed by the
    given value unless the setting is a secret.
    """
    kind = kinds.type_info(type)
    try:
        converted = msgspec.convert(value, type, strict=False, dec_hook=_decode)
        _require_usable(converted)
    except (msgspec.ValidationError, ValueError) as error:
        reason = error.__cause__ if isinstance(error, msgspec.ValidationError) else error
        if isinstance(reason, UnicodeError):  # raised by msgspec for text that is not UTF-8
            reason = None
        expected = str(reason or _describe(kind))
        if isinstance(kind, kinds.CustomType) and kind.cls is Secret:
            raise ValueError(expected) from None
        raise ValueError(f"{expected}, not {_shorten(value)}") from None
    return converted


def _require_usable(value: Any) -> None:
    """Raise ValueError for a number that is infinite or too large and for unprintable text."""
    if isinstance(value, int | float) and not abs(value) <= _MAX_NUMBER:
        raise ValueError(f"a number of at most {_MAX_NUMBER:,}")
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and _UNPRINTABLE.search(text):
            raise ValueError("UTF-8 text without control characters")


def _decode(type: type, value: Any) -> Any:
    if type is Path and isinstance(value, str | Path):
        return parse_path(str(value))
    if type is Secret and isinstance(value, str):
        return Secret(value.strip())
    raise ValueError("a path" if type is Path else "text")


def _describe(kind: kinds.Type) -> str:
    """Describe the values of a type in words."""
    match kind:
        case kinds.IntType() | kinds.FloatType():
            word = "an integer" if isinstance(kind, kinds.IntType) else "a number"
            least = f"above {kind.gt:,}" if kind.gt is not None else f"from {kind.ge:,}"
            return f"{word} {least}" + (f" to {kind.le:,}" if kind.le is not None else " up")
        case kinds.BoolType():
            return "true or false"
        case kinds.LiteralType():
            return f"one of {', '.join(map(str, kind.values))}"
        case kinds.VarTupleType():
            return "a list of texts"
        case kinds.UnionType():
            return _describe(kind.types[0])
        case _:
            return "text"


def _shorten(value: Any) -> str:
    text = repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= 80 else f"{text[:79]}…"

"""Reader for the header of a GGUF file: the size that the file needs, and its place in a model that
is split into several files.

The package `gguf` would read the whole vocabulary into Python objects, which takes up to a minute.
"""

import math
import struct
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from prepserver.errors import ModelError
from prepserver.models.catalogue import GGUF_MAGIC
from prepserver.models.files import disk_errors
from prepserver.models.tensor_types import BLOCKS
from prepserver.wire.error_codes import ErrorCode

__all__ = ["GgufHeader", "read_header"]

_VERSIONS = (2, 3)
_FORMATS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
"""Formats of the scalar value types, as in the module `struct`."""
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32


class GgufHeader(Struct, frozen=True, kw_only=True):
    """Facts from the header of one GGUF file."""

    number: int = 0
    """Number of the file within the model, from 0."""
    count: int = 1
    """Number of files that make up the model."""
    tensors: int = 0
    """Number of tensors in all files of the model; 0 if the model is not split."""
    size: int = 0
    """Minimum size of the file in bytes, up to the end of its last tensor."""


def read_header(path: Path) -> GgufHeader:
    """Return the facts from the header of a GGUF file.

    Raises ModelError if the file cannot be read, is no GGUF file (`model_format`), or is truncated
    (`model_damaged`).
    """
    try:
        with disk_errors(path.parent), path.open("rb") as file:
            header = _read_header(file)
    except (struct.error, EOFError) as error:
        raise _truncated(path) from error
    except ValueError as error:
        raise ModelError(
            f"{path} is not a GGUF file that llama.cpp can read: {error}. Download it again.",
            code=ErrorCode.MODEL_FORMAT,
        ) from error
    if path.stat().st_size < header.size:
        raise _truncated(path)
    return header


def _truncated(path: Path) -> ModelError:
    return ModelError(
        f"{path} is truncated. Download it again. If it was published in pieces that are not GGUF "
        "files of their own, join the pieces first.",
        code=ErrorCode.MODEL_DAMAGED,
    )


def _read_header(file: BinaryIO) -> GgufHeader:
    """Read a header. Raises struct.error or EOFError if it is incomplete, and ValueError if it is
    malformed."""
    if file.read(len(GGUF_MAGIC)) != GGUF_MAGIC:
        raise ValueError("it does not begin with GGUF")
    version, tensors, pairs = _read(file, "IQQ")
    if version not in _VERSIONS:
        raise ValueError(f"its version is {version}")
    values: dict[bytes, int] = {}
    for _ in range(pairs):
        key = _read_string(file)
        (value_type,) = _read(file, "I")
        if key.startswith(b"split.") or key == b"general.alignment":
            if value_type not in _FORMATS:
                raise ValueError(f"{key.decode(errors='replace')} is not a number")
            values[key] = int(_read(file, _FORMATS[value_type])[0])
        else:
            _skip_value(file, value_type)
    ends = [_read_tensor_end(file) for _ in range(tensors)]
    alignment = values.get(b"general.alignment", _DEFAULT_ALIGNMENT)
    number, count = values.get(b"split.no", 0), max(1, values.get(b"split.count", 1))
    if alignment <= 0 or not 0 <= number < count < 1 << 16:
        raise ValueError(f"it claims to be file {number + 1} of {count}")
    data = math.ceil(file.tell() / alignment) * alignment
    return GgufHeader(
        number=number,
        count=count,
        tensors=values.get(b"split.tensors.count", 0) if count > 1 else 0,
        size=data + max(ends) if ends else file.tell(),
    )


def _read_tensor_end(file: BinaryIO) -> int:
    """Read the description of a tensor. Return the end of its data, relative to the first tensor.

    The size of a tensor of a type that is not in `BLOCKS` counts as 0.
    """
    _read_string(file)
    (dimensions,) = _read(file, "I")
    if dimensions > 4:
        raise ValueError(f"a tensor has {dimensions} dimensions")
    shape = _read(file, f"{dimensions}Q")
    ggml_type, offset = _read(file, "IQ")
    block_weights, block_bytes = BLOCKS.get(ggml_type, (1, 0))
    return int(offset + math.prod(shape) // block_weights * block_bytes)


def _skip_value(file: BinaryIO, value_type: int) -> None:
    if value_type == _STRING:
        _skip(file, _read(file, "Q")[0])
    elif value_type == _ARRAY:
        item_type, length = _read(file, "IQ")
        if item_type in _FORMATS:
            _skip(file, length * struct.calcsize(f"<{_FORMATS[item_type]}"))
        elif item_type == _STRING:
            for _ in range(length):
                _skip(file, _read(file, "Q")[0])
        else:
            raise ValueError(f"a list has items of the unknown type {item_type}")
    elif value_type in _FORMATS:
        _skip(file, struct.calcsize(f"<{_FORMATS[value_type]}"))
    else:
        raise ValueError(f"a value has the unknown type {value_type}")


def _read_string(file: BinaryIO) -> bytes:
    (length,) = _read(file, "Q")
    if length > 1 << 16:
        raise ValueError(f"a name has {length} bytes")
    data = file.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _read(file: BinaryIO, layout: str) -> tuple[int, ...]:
    layout = f"<{layout}"
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _skip(file: BinaryIO, count: int) -> None:
    """Skip `count` bytes. A later read fails if that is beyond the end of the file."""
    if count >= 1 << 48:
        raise ValueError(f"a value has {count} bytes")
    file.seek(count, SEEK_CUR)

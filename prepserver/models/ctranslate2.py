"""Reads the `model.bin` of CTranslate2: an index of its tensors, whose data stay on the disk.

The layout, all little-endian (CTranslate2's `src/models/model.cc`):

    u32 binary version, string specification, u32 revision,
    u32 count, then per variable: string name, u8 rank, u32 dims[rank], u8 type, u32 bytes, data
    u32 count, then per alias: string alias, string name

A string is u16 length and its bytes, of which the last is NUL.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from prepserver.models.errors import ModelError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["BINARY_VERSION", "DTYPES", "Variable", "VariableFile"]

BINARY_VERSION = 6

DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("i1"),
    2: np.dtype("<i2"),
    3: np.dtype("<i4"),
    4: np.dtype("<f2"),
}
"""CTranslate2's types that numpy has too; the only one missing is 5, bfloat16."""

_MOST_VARIABLES = 100_000
_HIGHEST_RANK = 8
_CHUNK_BYTES = 1 << 20


class Variable(Struct, frozen=True, kw_only=True):
    """Where one tensor lies in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: int
    """A key of `DTYPES`, or 5."""
    offset: int
    """Bytes from the start of the file."""
    nbytes: int


class VariableFile:
    """An open `model.bin`; also a context manager.

    Raises ModelError when the file is not one, ends early, or contradicts itself.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._file: BinaryIO = path.open("rb")
        try:
            version = self._u32()
            if version != BINARY_VERSION:
                raise self._broken(f"binary version is {version}, not {BINARY_VERSION}")
            self.specification = self._string()
            self.revision = self._u32()
            self.variables = self._index()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "VariableFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def variable(self, name: str) -> Variable:
        """The variable of this name. Raises ModelError if there is none."""
        try:
            return self.variables[name]
        except KeyError:
            raise self._broken(f"there is no {name}") from None

    def scalar(self, name: str) -> int:
        """The value of a variable without dimensions."""
        variable = self.variable(name)
        if variable.shape or variable.dtype not in {1, 2, 3}:
            raise self._broken(f"{name} is not a whole number")
        (chunk,) = self.values(variable)
        return int(chunk[0])

    def values(
        self, variable: Variable, start: int = 0, stop: int | None = None
    ) -> Iterator[NDArray[np.generic]]:
        """The elements of rows `start` to `stop`, flat, in pieces of at most 1 MiB."""
        dtype = DTYPES[variable.dtype]
        row = math.prod(variable.shape[1:]) * dtype.itemsize
        rows = variable.shape[0] if variable.shape else 1
        left = ((rows if stop is None else stop) - start) * row
        self._file.seek(variable.offset + start * row)
        while left > 0:
            chunk = self._read(min(left, _CHUNK_BYTES))
            left -= len(chunk)
            yield np.frombuffer(chunk, dtype=dtype)

    def _index(self) -> dict[str, Variable]:
        count = self._u32()
        if count > _MOST_VARIABLES:
            raise self._broken(f"it claims to hold {count} variables")
        variables: dict[str, Variable] = {}
        for _ in range(count):
            variable = self._variable()
            if variable.name in variables:
                raise self._broken(f"{variable.name} is there twice")
            variables[variable.name] = variable
        for _ in range(self._u32()):
            alias, name = self._string(), self._string()
            if name in variables:
                variables.setdefault(alias, variables[name])
        if self._file.tell() != self._size:
            raise self._broken("there are bytes after its end")
        return variables

    def _variable(self) -> Variable:
        name = self._string()
        rank = self._read(1)[0]
        if rank > _HIGHEST_RANK:
            raise self._broken(f"{name} has {rank} dimensions")
        shape = struct.unpack(f"<{rank}I", self._read(4 * rank))
        dtype = self._read(1)[0]
        nbytes = self._u32()
        itemsize = DTYPES[dtype].itemsize if dtype in DTYPES else 2
        if dtype > 5 or math.prod(shape) * itemsize != nbytes:
            raise self._broken(f"{name} has {nbytes} bytes, which is not its shape {shape}")
        offset = self._file.tell()
        if offset + nbytes > self._size:
            raise self._broken(f"it ends in the middle of {name}")
        self._file.seek(nbytes, 1)
        return Variable(name=name, shape=shape, dtype=dtype, offset=offset, nbytes=nbytes)

    def _u32(self) -> int:
        (value,) = struct.unpack("<I", self._read(4))
        return int(value)

    def _string(self) -> str:
        (length,) = struct.unpack("<H", self._read(2))
        raw = self._read(length)
        if not raw.endswith(b"\0"):
            raise self._broken("a name in it does not end")
        try:
            return raw[:-1].decode()
        except UnicodeDecodeError:
            raise self._broken("a name in it is not text") from None

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise self._broken("it ends too early")
        return data

    def _broken(self, why: str) -> ModelError:
        return ModelError(
            f"{self._path.name} is not a CTranslate2 model that can be converted: {why}. "
            "Fetch it again.",
            code=ErrorCode.MODEL_CONVERSION,
        )

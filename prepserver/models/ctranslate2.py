"""Reader that indexes the variables in CTranslate2's `model.bin` and leaves their data on disk.

The layout, all little-endian (CTranslate2's `src/models/model.cc`):

    u32 binary version, string specification, u32 revision,
    u32 count, then per variable: string name, u8 rank, u32 dims[rank], u8 type, u32 bytes, data
    u32 count, then per alias: string alias, string name

A string is stored as its length (u16) and its bytes, of which the last is NUL.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from prepserver.errors import ModelError
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
"""CTranslate2's element types by number. Type 5, bfloat16, is missing because numpy does not
support it."""

_MAX_VARIABLES = 100_000
_MAX_RANK = 8
_CHUNK_BYTES = 1 << 20


class Variable(Struct, frozen=True, kw_only=True):
    """Location, shape and type of one tensor in a `model.bin`."""

    name: str
    shape: tuple[int, ...]
    dtype: int
    """Number of the element type: a key of `DTYPES`, or 5 for bfloat16."""
    offset: int
    """Position of the data, in bytes from the start of the file."""
    nbytes: int


class VariableFile:
    """File `model.bin`, open for reading and usable as a context manager.

    Raises ModelError if the file has another format, is truncated, or is inconsistent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._file: BinaryIO = path.open("rb")
        try:
            version = self._read_u32()
            if version != BINARY_VERSION:
                raise self._invalid(f"its binary version is {version}, not {BINARY_VERSION}")
            self.specification = self._read_string()
            self.revision = self._read_u32()
            self.variables = self._read_index()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "VariableFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def find_variable(self, name: str) -> Variable:
        """Return the variable with the name or alias `name`.

        Raises ModelError if the file contains no such variable.
        """
        try:
            return self.variables[name]
        except KeyError:
            raise self._invalid(f"it has no variable {name}") from None

    def read_scalar(self, name: str) -> int:
        """Return the value of the integer scalar `name`.

        Raises ModelError if the file contains no such scalar.
        """
        variable = self.find_variable(name)
        if variable.shape or variable.dtype not in {1, 2, 3}:
            raise self._invalid(f"{name} is not an integer scalar")
        (chunk,) = self.read_values(variable)
        return int(chunk[0])

    def read_values(
        self, variable: Variable, start: int = 0, stop: int | None = None
    ) -> Iterator[NDArray[np.generic]]:
        """Yield the elements in rows `start` to `stop` - 1 of `variable`, in flat arrays.

        An array has at most 1 MiB. If `stop` is None, all rows from `start` on are read.
        """
        dtype = DTYPES[variable.dtype]
        row = math.prod(variable.shape[1:]) * dtype.itemsize
        rows = variable.shape[0] if variable.shape else 1
        left = ((rows if stop is None else stop) - start) * row
        self._file.seek(variable.offset + start * row)
        while left > 0:
            chunk = self._read(min(left, _CHUNK_BYTES))
            left -= len(chunk)
            yield np.frombuffer(chunk, dtype=dtype)

    def _read_index(self) -> dict[str, Variable]:
        count = self._read_u32()
        if count > _MAX_VARIABLES:
            raise self._invalid(f"it declares too many variables ({count})")
        variables: dict[str, Variable] = {}
        for _ in range(count):
            variable = self._read_variable()
            if variable.name in variables:
                raise self._invalid(f"the variable {variable.name} occurs twice")
            variables[variable.name] = variable
        for _ in range(self._read_u32()):
            alias, name = self._read_string(), self._read_string()
            if name in variables:
                variables.setdefault(alias, variables[name])
        if self._file.tell() != self._size:
            raise self._invalid("it has extra bytes at the end")
        return variables

    def _read_variable(self) -> Variable:
        name = self._read_string()
        rank = self._read(1)[0]
        if rank > _MAX_RANK:
            raise self._invalid(f"{name} has too many dimensions ({rank})")
        shape = struct.unpack(f"<{rank}I", self._read(4 * rank))
        dtype = self._read(1)[0]
        nbytes = self._read_u32()
        itemsize = DTYPES[dtype].itemsize if dtype in DTYPES else 2
        if dtype > 5 or math.prod(shape) * itemsize != nbytes:
            raise self._invalid(
                f"{name} has {nbytes} bytes, which does not match its shape {shape}"
            )
        offset = self._file.tell()
        if offset + nbytes > self._size:
            raise self._invalid(f"it ends within {name}")
        self._file.seek(nbytes, 1)
        return Variable(name=name, shape=shape, dtype=dtype, offset=offset, nbytes=nbytes)

    def _read_u32(self) -> int:
        (value,) = struct.unpack("<I", self._read(4))
        return int(value)

    def _read_string(self) -> str:
        (length,) = struct.unpack("<H", self._read(2))
        raw = self._read(length)
        if not raw.endswith(b"\0"):
            raise self._invalid("a string is not terminated")
        try:
            return raw[:-1].decode()
        except UnicodeDecodeError:
            raise self._invalid("a string is not valid UTF-8") from None

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise self._invalid("it is truncated")
        return data

    def _invalid(self, why: str) -> ModelError:
        return ModelError(
            f"{self._path.name} is not a valid CTranslate2 model: {why}. Fetch it again.",
            code=ErrorCode.MODEL_CONVERSION,
        )

"""Validation of ggml files: inconsistent files are rejected before native code reads them."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prepserver.models.ggml import Hyperparameters, write_header
from prepserver.models.ggml_check import InvalidGgml, validate_whisper

TINY = Hyperparameters(
    n_vocab=51_864,
    n_audio_ctx=1_500,
    n_audio_state=384,
    n_audio_head=6,
    n_audio_layer=4,
    n_text_ctx=448,
    n_text_state=384,
    n_text_head=6,
    n_text_layer=4,
    n_mels=80,
)
FIELDS = Hyperparameters.__struct_fields__
FILTERS = 4 + 4 * len(FIELDS)
"""Offset in bytes at which the mel filters' two dimensions are stored."""
TOKENS = FILTERS + 8 + 4 * 80 * 201
WEIGHTS = 40_000_000

Bytes = bytearray


def header() -> Bytes:
    out = io.BytesIO()
    write_header(out, TINY, np.zeros((80, 201), np.float32), [b"a", b"bc"])
    return Bytes(out.getvalue())


def tensor(
    dims: tuple[int, ...] = (400, WEIGHTS // 400), name: bytes = b"w", kind: int = 1
) -> Bytes:
    """Return the header of a tensor, without its weights."""
    return Bytes(struct.pack(f"<3i{len(dims)}i", len(dims), len(name), kind, *dims) + name)


def write_file(tmp_path: Path, start: Bytes, end: Bytes, weights: int = 2 * WEIGHTS) -> Path:
    """Write a model file and return its path. The weights are a hole in the file, so that they take
    no disk space."""
    path = tmp_path / "model.bin"
    with path.open("wb") as out:
        out.write(start + end)
        out.truncate(out.tell() + weights)
    return path


def test_a_complete_file_is_accepted(tmp_path: Path) -> None:
    """A complete file is accepted, both with one large tensor and with small tensors of other types
    before the large tensor."""
    validate_whisper(write_file(tmp_path, header(), tensor()))
    small = tensor((32, 2), kind=2) + bytes(2 * 18) + tensor((5,), kind=0) + bytes(20)
    validate_whisper(write_file(tmp_path, header() + small, tensor()))


@pytest.mark.parametrize("field", FIELDS[:-1])
@pytest.mark.parametrize("value", [0, -1, 7, 2_000_000_000, -(2**31)])
def test_hyperparameters_out_of_bounds_are_rejected(tmp_path: Path, field: str, value: int) -> None:
    """A hyperparameter that is zero, negative, too small or enormous is rejected."""
    start = header()
    struct.pack_into("<i", start, 4 + 4 * FIELDS.index(field), value)
    with pytest.raises(InvalidGgml):
        validate_whisper(write_file(tmp_path, start, tensor()))


@pytest.mark.parametrize("offset", [FILTERS, FILTERS + 4, TOKENS, TOKENS + 4, TOKENS + 9])
@pytest.mark.parametrize("value", [-1, 2_000_000_000])
def test_an_invalid_length_is_rejected(tmp_path: Path, offset: int, value: int) -> None:
    """A file is rejected if the dimensions of its filters, its number of tokens or the length of a
    token is invalid."""
    start = header()
    struct.pack_into("<i", start, offset, value)
    with pytest.raises(InvalidGgml):
        validate_whisper(write_file(tmp_path, start, tensor()))


@pytest.mark.parametrize(
    "broken",
    [
        tensor(()),
        tensor((1, 1, 1, 1, 1)),
        tensor((0, 400)),
        tensor((-400, -400)),
        tensor((2**31 - 1,) * 4),
        tensor(kind=31),
        tensor(kind=-1),
        tensor((33, 40), kind=2),
        tensor(name=b""),
        tensor(name=b"n" * 1_000),
    ],
)
def test_an_invalid_tensor_is_rejected(tmp_path: Path, broken: Bytes) -> None:
    """A tensor with an invalid shape, type, number of weights or name is rejected, since
    whisper.cpp trusts tensor headers."""
    with pytest.raises(InvalidGgml):
        validate_whisper(write_file(tmp_path, header(), broken))


@pytest.mark.parametrize(
    "cut",
    [
        lambda whole: 0,
        lambda whole: 3,
        lambda whole: 40,
        lambda whole: TOKENS - 7,
        lambda whole: TOKENS + 6,
        lambda whole: len(header()),
        lambda whole: len(header()) + 9,
        lambda whole: whole // 2,
        lambda whole: whole - 1,
    ],
)
def test_a_truncated_file_is_rejected(tmp_path: Path, cut: Callable[[int], int]) -> None:
    """Truncation is detected in every part of the file, down to the last byte."""
    path = write_file(tmp_path, header(), tensor())
    with path.open("r+b") as out:
        out.truncate(cut(path.stat().st_size))
    with pytest.raises(InvalidGgml):
        validate_whisper(path)


def test_too_few_weights_for_the_hyperparameters_are_rejected(tmp_path: Path) -> None:
    """A file with too few weights for its hyperparameters is rejected, since whisper.cpp would
    allocate all declared layers."""
    start = header()
    struct.pack_into("<i", start, 4 + 4 * FIELDS.index("n_audio_layer"), 32)
    with pytest.raises(InvalidGgml, match="truncated"):
        validate_whisper(write_file(tmp_path, start, tensor()))


def test_trailing_bytes_are_rejected(tmp_path: Path) -> None:
    """A file with even a single byte after the last tensor is rejected."""
    path = write_file(tmp_path, header(), tensor())
    with path.open("ab") as out:
        out.write(b"\1")
    with pytest.raises(InvalidGgml):
        validate_whisper(path)

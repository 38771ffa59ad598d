"""A file that lies about itself is found out before native code believes it."""

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
"""Where the filters' two lengths are."""
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
    """All that comes before its weights."""
    return Bytes(struct.pack(f"<3i{len(dims)}i", len(dims), len(name), kind, *dims) + name)


def file(tmp_path: Path, head: Bytes, last: Bytes, weights: int = 2 * WEIGHTS) -> Path:
    """A model whose weights are a hole: no disk is filled for a test."""
    path = tmp_path / "model.bin"
    with path.open("wb") as out:
        out.write(head + last)
        out.truncate(out.tell() + weights)
    return path


def test_a_whole_file_is_fine(tmp_path: Path) -> None:
    """One large tensor does, and so do many small ones of other types."""
    validate_whisper(file(tmp_path, header(), tensor()))
    small = tensor((32, 2), kind=2) + bytes(2 * 18) + tensor((5,), kind=0) + bytes(20)
    validate_whisper(file(tmp_path, header() + small, tensor()))


@pytest.mark.parametrize("field", FIELDS[:-1])
@pytest.mark.parametrize("value", [0, -1, 7, 2_000_000_000, -(2**31)])
def test_a_shape_that_no_model_has_is_refused(tmp_path: Path, field: str, value: int) -> None:
    """Each number of the shape, made nothing, negative, small and enormous."""
    head = header()
    struct.pack_into("<i", head, 4 + 4 * FIELDS.index(field), value)
    with pytest.raises(InvalidGgml):
        validate_whisper(file(tmp_path, head, tensor()))


@pytest.mark.parametrize("where", [FILTERS, FILTERS + 4, TOKENS, TOKENS + 4, TOKENS + 9])
@pytest.mark.parametrize("value", [-1, 2_000_000_000])
def test_a_length_beyond_reason_is_refused(tmp_path: Path, where: int, value: int) -> None:
    """Of the filters, of the list of tokens and of a token."""
    head = header()
    struct.pack_into("<i", head, where, value)
    with pytest.raises(InvalidGgml):
        validate_whisper(file(tmp_path, head, tensor()))


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
def test_a_tensor_that_cannot_be_is_refused(tmp_path: Path, broken: Bytes) -> None:
    """Dimensions, extents, types, blocks and names that whisper.cpp would believe."""
    with pytest.raises(InvalidGgml):
        validate_whisper(file(tmp_path, header(), broken))


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
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, cut: Callable[[int], int]) -> None:
    """In every part of it, to the last byte."""
    path = file(tmp_path, header(), tensor())
    with path.open("r+b") as out:
        out.truncate(cut(path.stat().st_size))
    with pytest.raises(InvalidGgml):
        validate_whisper(path)


def test_more_model_than_weights_is_refused(tmp_path: Path) -> None:
    """A shape with four times as many layers takes memory for them, whatever follows."""
    head = header()
    struct.pack_into("<i", head, 4 + 4 * FIELDS.index("n_audio_layer"), 32)
    with pytest.raises(InvalidGgml, match="cut short"):
        validate_whisper(file(tmp_path, head, tensor()))


def test_rubbish_behind_the_last_tensor_is_refused(tmp_path: Path) -> None:
    """A byte too many is no tensor."""
    path = file(tmp_path, header(), tensor())
    with path.open("ab") as out:
        out.write(b"\1")
    with pytest.raises(InvalidGgml):
        validate_whisper(path)

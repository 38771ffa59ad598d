"""Writer for the ggml files that whisper.cpp reads.

The layout, all little-endian (whisper.cpp's `whisper_model_load`):

    u32 magic, eleven i32 hyperparameters,
    i32 n_mels, i32 n_bins, float32 filters[n_mels][n_bins],
    i32 count, then per token: i32 length, bytes,
    then per tensor, up to the end of the file:
        i32 n_dims, i32 length of the name, i32 type (0 float32, 1 float16),
        i32 dims[n_dims] (fastest first), name, data
"""

import struct
from collections.abc import Iterable, Sequence
from typing import BinaryIO

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from prepserver.models.catalogue import GGML_MAGIC

__all__ = ["Hyperparameters", "write_header", "write_tensor"]


class Hyperparameters(Struct, frozen=True, kw_only=True):
    """Hyperparameters of a Whisper model, in the order in which a ggml file holds them."""

    n_vocab: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int
    n_mels: int
    ftype: int = 1
    """Type of the weight matrices; 1 is float16."""


def write_header(
    out: BinaryIO,
    hyperparameters: Hyperparameters,
    filters: NDArray[np.float32],
    tokens: Sequence[bytes],
) -> None:
    """Write the part of a ggml file that precedes the tensors.

    `filters` has the shape (n_mels, n_bins).
    """
    out.write(GGML_MAGIC)
    out.write(struct.pack("<11i", *structs.astuple(hyperparameters)))
    out.write(struct.pack("<2i", *filters.shape))
    out.write(filters.astype("<f4").tobytes())
    out.write(struct.pack("<i", len(tokens)))
    for token in tokens:
        out.write(struct.pack("<i", len(token)) + token)


def write_tensor(
    out: BinaryIO,
    name: str,
    shape: Sequence[int],
    chunks: Iterable[NDArray[np.generic]],
    *,
    half: bool,
) -> None:
    """Write one tensor whose elements come from `chunks`.

    `shape` lists the slowest dimension first. Elements are stored as float16 if `half` is true,
    otherwise as float32.
    """
    raw_name = name.encode()
    out.write(struct.pack("<3i", len(shape), len(raw_name), int(half)))
    out.write(struct.pack(f"<{len(shape)}i", *reversed(shape)))
    out.write(raw_name)
    dtype = np.dtype("<f2" if half else "<f4")
    for chunk in chunks:
        out.write(chunk.astype(dtype, copy=False).tobytes())

"""Validation of ggml Whisper models before native code reads them.

whisper.cpp trusts the numbers in a file: it allocates two billion bytes if the file declares such a
length, and writes the dimensions of a nine-dimensional tensor past the end of an array of four.
Every number is therefore checked here first. Wrong weights cannot be detected; they cause wrong
words, not a crash.
"""

import math
import struct
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO

from prepserver.models.catalogue import GGML_MAGIC
from prepserver.models.ggml import Hyperparameters
from prepserver.models.tensor_types import BLOCKS

__all__ = ["InvalidGgml", "validate_whisper"]

BOUNDS = {
    "n_vocab": (51_864, 51_866),
    "n_audio_ctx": (1_500, 1_500),
    "n_audio_state": (384, 1_280),
    "n_audio_head": (6, 20),
    "n_audio_layer": (4, 32),
    "n_text_ctx": (448, 448),
    "n_text_state": (384, 1_280),
    "n_text_head": (6, 20),
    "n_text_layer": (1, 32),
    "n_mels": (80, 128),
}
"""Smallest and largest value of each hyperparameter except `ftype` across all Whisper models, from
tiny to large-v3, including the distilled models."""
N_BINS = 201
"""Number of frequency bins in the Fourier transform of a 25 ms window at 16 kHz."""
TRUNCATED = "it is truncated"
MAX_SKIP_BYTES = 1 << 40
MAX_TOKEN_BYTES, MAX_NAME_BYTES, MAX_DIMENSIONS = 512, 64, 4


class InvalidGgml(ValueError):
    """The file is not a complete ggml Whisper model; the message gives the reason."""


def validate_whisper(path: Path) -> None:
    """Raise InvalidGgml if the file is not a complete ggml Whisper model.

    Raises OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(GGML_MAGIC)) != GGML_MAGIC:
            raise InvalidGgml("it is not a ggml model")
        values = _read_integers(file, len(_FIELDS))
        hyperparameters = Hyperparameters(**dict(zip(_FIELDS, values, strict=True)))
        _check_hyperparameters(hyperparameters)
        if _read_integers(file, 2) != (hyperparameters.n_mels, N_BINS):
            raise InvalidGgml("the size of its mel filters does not match its hyperparameters")
        _skip(file, 4 * hyperparameters.n_mels * N_BINS)
        (tokens,) = _read_integers(file, 1)
        _require(
            0 < tokens <= hyperparameters.n_vocab,
            f"it declares an invalid number of tokens ({tokens})",
        )
        for _ in range(tokens):
            (length,) = _read_integers(file, 1)
            _require(
                0 <= length <= MAX_TOKEN_BYTES, f"a token has an invalid length ({length} bytes)"
            )
            _skip(file, length)
        weights = 0
        while _has_more(file):
            weights += _skip_tensor(file)
    _require(weights >= _min_weights(hyperparameters), f"{TRUNCATED}, with only {weights} weights")


_FIELDS = Hyperparameters.__struct_fields__


def _check_hyperparameters(hyperparameters: Hyperparameters) -> None:
    for name, (smallest, largest) in BOUNDS.items():
        value = getattr(hyperparameters, name)
        _require(
            smallest <= value <= largest,
            f"{name} is {value}, but must be from {smallest} to {largest}",
        )
    audio, text = hyperparameters.n_audio_state, hyperparameters.n_text_state
    _require(audio == text, "n_audio_state and n_text_state differ")
    _require(
        audio == 64 * hyperparameters.n_audio_head, "n_audio_head does not match n_audio_state"
    )
    _require(text == 64 * hyperparameters.n_text_head, "n_text_head does not match n_text_state")


def _skip_tensor(file: BinaryIO) -> int:
    """Check a tensor's header, skip the data, and return the tensor's number of weights."""
    dimensions, length, ggml_type = _read_integers(file, 3)
    _require(
        1 <= dimensions <= MAX_DIMENSIONS,
        f"a tensor has an invalid number of dimensions ({dimensions})",
    )
    _require(1 <= length <= MAX_NAME_BYTES, f"a tensor name has an invalid length ({length} bytes)")
    _require(ggml_type in BLOCKS, f"a tensor has the unknown type {ggml_type}")
    shape = _read_integers(file, dimensions)
    _require(all(extent > 0 for extent in shape), f"a tensor has the invalid shape {shape}")
    weights = math.prod(shape)
    block_weights, block_bytes = BLOCKS[ggml_type]
    _require(
        shape[0] % block_weights == 0,
        f"a row of {shape[0]} weights is not a whole number of blocks",
    )
    _skip(file, length + weights // block_weights * block_bytes)
    return weights


def _min_weights(hyperparameters: Hyperparameters) -> int:
    """Return the minimum number of weights in a complete model with these hyperparameters.

    Only the attention, feed-forward and token embedding matrices are counted.
    """
    square = hyperparameters.n_audio_state**2
    layers = 12 * hyperparameters.n_audio_layer + 16 * hyperparameters.n_text_layer
    return layers * square + hyperparameters.n_vocab * hyperparameters.n_text_state


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise InvalidGgml(otherwise)


def _read_integers(file: BinaryIO, count: int) -> tuple[int, ...]:
    data = file.read(4 * count)
    _require(len(data) == 4 * count, TRUNCATED)
    return struct.unpack(f"<{count}i", data)


def _skip(file: BinaryIO, count: int) -> None:
    """Skip `count` bytes. Raises InvalidGgml if fewer bytes remain in the file.

    The last byte is read, because seeking beyond the end of a file succeeds.
    """
    if count > 0:
        # A declared length may exceed the largest file position.
        _require(count < MAX_SKIP_BYTES, f"it declares an impossible size ({count} bytes)")
        file.seek(count - 1, SEEK_CUR)
        _require(len(file.read(1)) == 1, TRUNCATED)


def _has_more(file: BinaryIO) -> bool:
    more = bool(file.read(1))
    if more:
        file.seek(-1, SEEK_CUR)
    return more

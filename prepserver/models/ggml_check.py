"""Whether a file is a whole ggml model of Whisper, by what it says of itself.

whisper.cpp believes what it reads: a length of two thousand million is allocated, a tensor of nine
dimensions is written beyond the four there is room for. So every number is looked at here first.
What this cannot see are weights that are wrong; those make wrong words, no more.
"""

import math
import struct
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO

from prepserver.models.formats import GGML_MAGIC
from prepserver.models.ggml import Hyperparameters

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
"""From tiny to large-v3 and the distilled ones: there are no others."""
BINS = 201
"""Of a Fourier transform over 25 ms at 16 kHz."""
CUT = "it was cut short"
MOST_BYTES = 1 << 40
LONGEST_TOKEN, LONGEST_NAME, MOST_DIMENSIONS = 512, 64, 4
BLOCKS = {
    0: (1, 4),  # float32
    1: (1, 2),  # float16
    2: (32, 18),  # q4_0
    3: (32, 20),  # q4_1
    6: (32, 22),  # q5_0
    7: (32, 24),  # q5_1
    8: (32, 34),  # q8_0
    10: (256, 84),  # q2_k
    11: (256, 110),  # q3_k
    12: (256, 144),  # q4_k
    13: (256, 176),  # q5_k
    14: (256, 210),  # q6_k
}
"""How many weights of each ggml type make a block, and its bytes (ggml's `type_traits`)."""


class InvalidGgml(ValueError):
    """The sentence says what is wrong, for a person."""


def validate_whisper(path: Path) -> None:
    """Raises NotWhole, and OSError."""
    with path.open("rb") as file:
        if file.read(len(GGML_MAGIC)) != GGML_MAGIC:
            raise InvalidGgml("it is not a ggml model of Whisper")
        shape = Hyperparameters(**dict(zip(_NAMES, _numbers(file, len(_NAMES)), strict=True)))
        _check_shape(shape)
        if _numbers(file, 2) != (shape.n_mels, BINS):
            raise InvalidGgml("its filters are not those of its shape")
        _skip(file, 4 * shape.n_mels * BINS)
        (tokens,) = _numbers(file, 1)
        _check(0 < tokens <= shape.n_vocab, f"it says that it has {tokens} tokens")
        for _ in range(tokens):
            (length,) = _numbers(file, 1)
            _check(0 <= length <= LONGEST_TOKEN, f"a token says that it has {length} bytes")
            _skip(file, length)
        weights = 0
        while _more(file):
            weights += _tensor(file)
    _check(weights >= _least_weights(shape), f"it has only {weights} weights; it was cut short")


_NAMES = Hyperparameters.__struct_fields__


def _check_shape(shape: Hyperparameters) -> None:
    for name, (least, most) in BOUNDS.items():
        value = getattr(shape, name)
        _check(least <= value <= most, f"{name} is {value}")
    _check(shape.n_audio_state == shape.n_text_state, "its two states differ")
    _check(shape.n_audio_state == 64 * shape.n_audio_head, "its heads do not fit its state")
    _check(shape.n_text_state == 64 * shape.n_text_head, "its heads do not fit its state")


def _tensor(file: BinaryIO) -> int:
    """Skip a tensor; how many weights it has."""
    dimensions, length, kind = _numbers(file, 3)
    _check(1 <= dimensions <= MOST_DIMENSIONS, f"a tensor has {dimensions} dimensions")
    _check(1 <= length <= LONGEST_NAME, f"a name says that it has {length} bytes")
    _check(kind in BLOCKS, f"a tensor is of the unknown type {kind}")
    extents = _numbers(file, dimensions)
    _check(all(extent > 0 for extent in extents), f"a tensor is {extents} wide")
    weights = math.prod(extents)
    per_block, block = BLOCKS[kind]
    _check(extents[0] % per_block == 0, f"a row of {extents[0]} weights is no whole block")
    _skip(file, length + weights // per_block * block)
    return weights


def _least_weights(shape: Hyperparameters) -> int:
    """Those of the large matrices alone: attention and the layers behind it, and the tokens."""
    square = shape.n_audio_state**2
    layers = 12 * shape.n_audio_layer + 16 * shape.n_text_layer
    return layers * square + shape.n_vocab * shape.n_text_state


def _check(fine: bool, otherwise: str) -> None:
    if not fine:
        raise InvalidGgml(otherwise)


def _numbers(file: BinaryIO, count: int) -> tuple[int, ...]:
    data = file.read(4 * count)
    _check(len(data) == 4 * count, CUT)
    return struct.unpack(f"<{count}i", data)


def _skip(file: BinaryIO, count: int) -> None:
    """Beyond the end too is an error; the last byte is read, since seeking there is none."""
    if count > 0:
        # A length of its own may be beyond what a file position can be.
        _check(count < MOST_BYTES, f"a part says that it has {count} bytes")
        file.seek(count - 1, SEEK_CUR)
        _check(len(file.read(1)) == 1, CUT)


def _more(file: BinaryIO) -> bool:
    more = bool(file.read(1))
    if more:
        file.seek(-1, SEEK_CUR)
    return more

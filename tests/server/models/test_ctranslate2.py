"""Reading CTranslate2's `model.bin`."""

import struct
from pathlib import Path

import numpy as np
import pytest

from prepserver.models.ctranslate2 import VariableFile
from prepserver.models.errors import ModelError
from tests.server.models.builders import Variables, model_bin, string, whisper_variables

MATRIX = np.arange(12, dtype=np.float16).reshape(4, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.bin"


def test_variables_are_found_with_their_shapes_and_values(path: Path) -> None:
    """A matrix, a number and the alias are read as they were written."""
    variables: Variables = {"decoder/embeddings/weight": MATRIX, "decoder/num_heads": 6}
    path.write_bytes(model_bin(variables))
    with VariableFile(path) as source:
        assert source.specification == "WhisperSpec"
        assert source.scalar("decoder/num_heads") == 6
        matrix = source.variable("decoder/embeddings/weight")
        assert matrix.shape == (4, 3)
        assert source.variable("decoder/projection/weight") == matrix
        (values,) = source.values(matrix)
        assert values.tolist() == MATRIX.ravel().tolist()


def test_some_rows_are_read_alone(path: Path) -> None:
    """Rows one and two of four are given, and nothing around them."""
    path.write_bytes(model_bin({"m": MATRIX}))
    with VariableFile(path) as source:
        (values,) = source.values(source.variable("m"), 1, 3)
        assert values.tolist() == MATRIX[1:3].ravel().tolist()


def test_a_large_variable_comes_in_pieces(path: Path) -> None:
    """No piece is larger than a mebibyte, and together they are the whole."""
    large = np.arange(700_000, dtype=np.float32)
    path.write_bytes(model_bin({"m": large}))
    with VariableFile(path) as source:
        pieces = list(source.values(source.variable("m")))
    assert [piece.nbytes for piece in pieces] == [1 << 20, 1 << 20, 2_800_000 - (2 << 20)]
    assert np.concatenate(pieces).tolist() == large.tolist()


def test_every_cut_is_noticed(path: Path) -> None:
    """A file that ends early, wherever that is, is refused with an error and never a crash."""
    whole = model_bin({"m": MATRIX, "n": 1})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"model\.bin is not a CTranslate2 model"):
            VariableFile(path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (model_bin({}, version=5), "version is 5"),
        (model_bin({"m": MATRIX}, count=0xFFFFFFFF), "4294967295 variables"),
        (model_bin({"m": MATRIX}, count=99), "not a CTranslate2"),
        (model_bin({"m": MATRIX}) + b"!", "after its end"),
        (model_bin({"m": MATRIX}).replace(string("m"), b"\x02\0mm"), "does not end"),
        (model_bin({"m": MATRIX}).replace(string("m"), b"\x02\0\xff\0"), "not text"),
        (struct.pack("<I", 6) + string("W") + struct.pack("<II", 1, 1) + string("m") + b"\xff",
         "255 dimensions"),
        (struct.pack("<I", 6) + string("W") + struct.pack("<II", 1, 1) + string("m")
         + struct.pack("<BIIBI", 2, 0xFFFFFFFF, 0xFFFFFFFF, 4, 8), "not its shape"),
        (struct.pack("<I", 6) + string("W") + struct.pack("<II", 1, 1) + string("m")
         + struct.pack("<BIBI", 1, 0x40000000, 4, 0x80000000), "middle of m"),
        (b"<!DOCTYPE html>", "version is"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(path: Path, data: bytes, why: str) -> None:
    """Wrong versions, huge counts and shapes that do not add up are named in the error."""
    path.write_bytes(data)
    with pytest.raises(ModelError, match=why):
        VariableFile(path)


def test_a_name_may_be_there_once(path: Path) -> None:
    """Two variables of one name would leave it open which is meant."""
    one = model_bin({"m": MATRIX, "n": MATRIX})
    path.write_bytes(one.replace(string("n"), string("m")))
    with pytest.raises(ModelError, match="m is there twice"):
        VariableFile(path)


def test_what_is_missing_is_named(path: Path) -> None:
    """Asking for a variable that is not there, or for a number that is none, is an error."""
    path.write_bytes(model_bin(whisper_variables()))
    with VariableFile(path) as source:
        with pytest.raises(ModelError, match="there is no encoder/nothing"):
            source.variable("encoder/nothing")
        with pytest.raises(ModelError, match="not a whole number"):
            source.scalar("encoder/conv1/bias")

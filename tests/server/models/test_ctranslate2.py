"""The reader of CTranslate2's `model.bin`."""

import struct
from pathlib import Path

import numpy as np
import pytest

from prepserver.errors import ModelError
from prepserver.models.ctranslate2 import VariableFile
from prepserver.wire.error_codes import ErrorCode
from tests.server.models.builders import (
    Variables,
    code_of,
    encode_string,
    model_bin,
    whisper_variables,
)

MATRIX = np.arange(12, dtype=np.float16).reshape(4, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.bin"


def test_variables_are_read_with_their_shapes_and_values(path: Path) -> None:
    """A matrix, a scalar and an alias are read as they were written."""
    variables: Variables = {"decoder/embeddings/weight": MATRIX, "decoder/num_heads": 6}
    path.write_bytes(model_bin(variables))
    with VariableFile(path) as source:
        assert source.specification == "WhisperSpec"
        assert source.read_scalar("decoder/num_heads") == 6
        matrix = source.find_variable("decoder/embeddings/weight")
        assert matrix.shape == (4, 3)
        assert source.find_variable("decoder/projection/weight") == matrix
        (values,) = source.read_values(matrix)
        assert values.tolist() == MATRIX.ravel().tolist()


def test_a_range_of_rows_can_be_read(path: Path) -> None:
    """A range of a matrix's rows is read without the other rows."""
    path.write_bytes(model_bin({"m": MATRIX}))
    with VariableFile(path) as source:
        (values,) = source.read_values(source.find_variable("m"), 1, 3)
        assert values.tolist() == MATRIX[1:3].ravel().tolist()


def test_a_large_variable_is_read_in_chunks(path: Path) -> None:
    """A large variable is read in chunks of at most 1 MiB."""
    large = np.arange(700_000, dtype=np.float32)
    path.write_bytes(model_bin({"m": large}))
    with VariableFile(path) as source:
        chunks = list(source.read_values(source.find_variable("m")))
    assert [chunk.nbytes for chunk in chunks] == [1 << 20, 1 << 20, 2_800_000 - (2 << 20)]
    assert np.concatenate(chunks).tolist() == large.tolist()


def test_truncation_at_any_byte_is_detected(path: Path) -> None:
    """Opening a file that is truncated at any byte raises ModelError."""
    whole = model_bin({"m": MATRIX, "n": 1})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"model\.bin") as error:
            VariableFile(path)
        assert code_of(error) == ErrorCode.MODEL_CONVERSION


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (model_bin({}, version=5), "version is 5"),
        (model_bin({"m": MATRIX}, count=0xFFFFFFFF), "4294967295"),
        (model_bin({"m": MATRIX}, count=99), "not a valid"),
        (model_bin({"m": MATRIX}) + b"!", "extra bytes"),
        (model_bin({"m": MATRIX}).replace(encode_string("m"), b"\x02\0mm"), "not terminated"),
        (model_bin({"m": MATRIX}).replace(encode_string("m"), b"\x02\0\xff\0"), "UTF-8"),
        (struct.pack("<I", 6) + encode_string("W") + struct.pack("<II", 1, 1) + encode_string("m")
         + b"\xff",
         "255"),
        (struct.pack("<I", 6) + encode_string("W") + struct.pack("<II", 1, 1) + encode_string("m")
         + struct.pack("<BIIBI", 2, 0xFFFFFFFF, 0xFFFFFFFF, 4, 8), "has 8 bytes"),
        (struct.pack("<I", 6) + encode_string("W") + struct.pack("<II", 1, 1) + encode_string("m")
         + struct.pack("<BIBI", 1, 0x40000000, 4, 0x80000000), "ends within m"),
        (b"<!DOCTYPE html>", "version is"),
    ],
)  # fmt: skip
def test_an_invalid_file_is_rejected(path: Path, data: bytes, why: str) -> None:
    """Opening a file with a wrong version, a huge count, an inconsistent shape or other invalid
    data raises ModelError with the reason."""
    path.write_bytes(data)
    with pytest.raises(ModelError, match=why):
        VariableFile(path)


def test_a_duplicate_name_is_rejected(path: Path) -> None:
    """Opening a file with two variables of the same name raises ModelError with that name."""
    one = model_bin({"m": MATRIX, "n": MATRIX})
    path.write_bytes(one.replace(encode_string("n"), encode_string("m")))
    with pytest.raises(ModelError, match="m occurs twice"):
        VariableFile(path)


def test_a_missing_variable_is_named_in_the_error(path: Path) -> None:
    """Reading an unknown variable, or an array as a scalar, raises ModelError."""
    path.write_bytes(model_bin(whisper_variables()))
    with VariableFile(path) as source:
        with pytest.raises(ModelError, match="encoder/nothing"):
            source.find_variable("encoder/nothing")
        with pytest.raises(ModelError, match="integer"):
            source.read_scalar("encoder/conv1/bias")

"""Conversion of CTranslate2 Whisper models to ggml."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import Struct
from numpy.typing import NDArray

from prepserver.errors import ModelError
from prepserver.models.mel import filter_bank
from prepserver.models.whisper_conversion import convert, read_vocabulary
from prepserver.wire.error_codes import ErrorCode
from tests.server.models.builders import (
    STATE,
    Variables,
    code_of,
    model_bin,
    tokenizer_json,
    whisper_variables,
)


class Ggml(Struct):
    """Content of a ggml file, parsed independently of the code under test."""

    hyperparameters: tuple[int, ...]
    filters: NDArray[np.float32]
    tokens: list[bytes]
    tensors: dict[str, NDArray[Any]]


def read_ggml(data: bytes) -> Ggml:
    stream = io.BytesIO(data)

    def ints(count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", stream.read(4 * count))

    assert stream.read(4) == b"lmgg"
    hyperparameters = ints(11)
    shape = ints(2)
    filters = np.frombuffer(stream.read(4 * shape[0] * shape[1]), "<f4").reshape(shape)
    tokens = [stream.read(ints(1)[0]) for _ in range(ints(1)[0])]
    tensors = {}
    while stream.tell() < len(data):
        rank, length, kind = ints(3)
        dims = ints(rank)[::-1]
        name = stream.read(length).decode()
        dtype = np.dtype("<f2" if kind else "<f4")
        size = int(np.prod(dims)) * dtype.itemsize
        tensors[name] = np.frombuffer(stream.read(size), dtype).reshape(dims)
    return Ggml(hyperparameters, filters, tokens, tensors)


def converted(
    tmp_path: Path, variables: Variables, tokenizer: bytes | None = None, **kwargs: Any
) -> bytes:
    (tmp_path / "model.bin").write_bytes(model_bin(variables, **kwargs))
    (tmp_path / "tokenizer.json").write_bytes(tokenizer or tokenizer_json())
    out = io.BytesIO()
    convert(tmp_path / "model.bin", tmp_path / "tokenizer.json", out)
    return out.getvalue()


def test_the_header_follows_from_the_source(tmp_path: Path) -> None:
    """The converted file begins with the hyperparameters of the source model, the mel filters and
    the tokens."""
    ggml = read_ggml(converted(tmp_path, whisper_variables()))
    assert ggml.hyperparameters == (6, 7, STATE, 2, 1, 5, STATE, 2, 1, 80, 1)
    assert (ggml.filters == filter_bank(80)).all()
    assert ggml.tokens == [b"a", b" b", b"\xe9"]


def test_stacked_matrices_are_split(tmp_path: Path) -> None:
    """Stacked matrices are split: self-attention into query, key and value; cross-attention into
    key and value."""
    variables = whisper_variables()
    tensors = read_ggml(converted(tmp_path, variables)).tensors

    def source(name: str) -> NDArray[Any]:
        value = variables[name]
        assert isinstance(value, np.ndarray)
        return value

    qkv = source("encoder/layer_0/self_attention/linear_0/weight")
    for index, name in enumerate(("query", "key", "value")):
        rows = qkv[index * STATE : (index + 1) * STATE]
        assert (tensors[f"encoder.blocks.0.attn.{name}.weight"] == rows).all()
    kv = source("decoder/layer_0/attention/linear_1/weight")
    assert (tensors["decoder.blocks.0.cross_attn.key.weight"] == kv[:STATE]).all()
    assert (tensors["decoder.blocks.0.cross_attn.value.weight"] == kv[STATE:]).all()
    bias = source("decoder/layer_0/attention/linear_1/bias")
    assert (tensors["decoder.blocks.0.cross_attn.value.bias"] == bias[STATE:]).all()


def test_the_output_has_exactly_the_tensors_of_whisper(tmp_path: Path) -> None:
    """The output has every tensor that whisper.cpp requires and no other; keys have no bias."""
    tensors = read_ggml(converted(tmp_path, whisper_variables())).tensors
    expected = {
        "decoder.token_embedding.weight",
        "decoder.positional_embedding",
        "encoder.positional_embedding",
        *(f"decoder.ln.{part}" for part in ("weight", "bias")),
        *(f"encoder.ln_post.{part}" for part in ("weight", "bias")),
        *(f"encoder.conv{n}.{part}" for n in (1, 2) for part in ("weight", "bias")),
    }
    for side, attentions in (("encoder", ["attn"]), ("decoder", ["attn", "cross_attn"])):
        modules = ["mlp_ln", "mlp.0", "mlp.2"]
        for attention in attentions:
            modules += [f"{attention}_ln"]
            modules += [f"{attention}.{part}" for part in ("query", "key", "value", "out")]
        for module in modules:
            expected.add(f"{side}.blocks.0.{module}.weight")
            if not module.endswith(".key"):
                expected.add(f"{side}.blocks.0.{module}.bias")
    assert set(tensors) == expected


def test_vectors_are_float32_and_matrices_float16(tmp_path: Path) -> None:
    """Vectors, positional embeddings and convolution biases are float32; all other tensors are
    float16."""
    tensors = read_ggml(converted(tmp_path, whisper_variables())).tensors
    single = {name for name, tensor in tensors.items() if tensor.dtype == np.float32}
    flat = {name for name, tensor in tensors.items() if tensor.ndim == 1}
    columns = {"encoder.conv1.bias", "encoder.conv2.bias"}
    positions = {"encoder.positional_embedding", "decoder.positional_embedding"}
    assert single == flat | columns | positions
    assert {tensors[name].shape for name in columns} == {(STATE, 1)}


def test_float32_matrices_are_rounded_to_float16(tmp_path: Path) -> None:
    """Weights in float32 matrices are rounded to the nearest float16."""
    variables = whisper_variables()
    weight = np.random.default_rng(1).standard_normal((6, STATE)).astype(np.float32)
    variables["decoder/embeddings/weight"] = weight
    tensors = read_ggml(converted(tmp_path, variables)).tensors
    assert (tensors["decoder.token_embedding.weight"] == weight.astype(np.float16)).all()


def test_the_conversion_is_deterministic(tmp_path: Path) -> None:
    """Two conversions of the same model give the same bytes."""
    variables = whisper_variables()
    assert converted(tmp_path, variables) == converted(tmp_path, variables)


def without(name: str) -> Variables:
    variables = whisper_variables()
    del variables[name]
    return variables


ODD = np.ones((STATE + 1, STATE), np.float16)


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        (without("encoder/num_heads"), "no variable encoder/num_heads"),
        (without("encoder/conv1/weight"), "no variable encoder/conv1/weight"),
        (whisper_variables() | {"encoder/strange/weight": ODD}, "encoder/strange/weight"),
        (whisper_variables() | {"encoder/conv1/weight": ODD}, "unexpected shape"),
        (
            whisper_variables() | {"encoder/layer_0/self_attention/linear_0/weight": ODD},
            "3 tensors",
        ),
        (
            whisper_variables() | {"decoder/embeddings/weight": ODD.astype(np.int8)},
            "is quantised",
        ),
        (
            {
                name.replace("layer_0", "layer_7") if name.startswith("enc") else name: value
                for name, value in whisper_variables().items()
            },
            r"layers of the encoder .*\[7\]",
        ),
        (
            whisper_variables() | {"decoder/embeddings/weight": np.ones((2, 4), np.float16)},
            "vocabulary is larger",
        ),
    ],
)
def test_an_invalid_whisper_model_is_rejected(
    tmp_path: Path, variables: Variables, why: str
) -> None:
    """Converting a model with missing, unknown, wrongly shaped or quantised tensors raises an error
    that gives the reason."""
    with pytest.raises(ModelError, match=why) as error:
        converted(tmp_path, variables)
    assert code_of(error) == ErrorCode.MODEL_CONVERSION


def test_another_architecture_is_rejected(tmp_path: Path) -> None:
    """A CTranslate2 model of another kind, such as one for translation, is rejected."""
    with pytest.raises(ModelError, match="TransformerSpec") as error:
        converted(tmp_path, whisper_variables(), specification="TransformerSpec")
    assert code_of(error) == ErrorCode.MODEL_CONVERSION


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{", "no vocabulary"),
        (b"[" * 100_000, "no vocabulary"),
        (b"\xff\xfe", "no vocabulary"),
        (b"[]", "no vocabulary"),
        (b'{"model": {"vocab": {"a": "x"}}}', "no vocabulary"),
        (b'{"model": {"vocab": {}}}', "consecutive"),
        (b'{"model": {"vocab": {"a": 0, "b": 2}}}', "consecutive"),
        (b'{"model": {"vocab": {"a": 0, "b": 0}}}', "consecutive"),
        (tokenizer_json(["a", "\N{SNOWMAN}"]), "byte alphabet"),
    ],
)
def test_an_invalid_vocabulary_is_rejected(tmp_path: Path, text: bytes, why: str) -> None:
    """Reading the vocabulary of an invalid tokenizer file raises ModelError with the reason."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(text)
    with pytest.raises(ModelError, match=why):
        read_vocabulary(path)


def test_every_byte_has_a_character(tmp_path: Path) -> None:
    """GPT-2's byte alphabet has exactly one character for each of the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in kept] + [chr(256 + index) for index in range(68)]
    path = tmp_path / "tokenizer.json"
    path.write_bytes(tokenizer_json(letters))
    tokens = read_vocabulary(path)
    assert sorted(tokens) == [bytes([byte]) for byte in range(256)]
    assert tokens[kept.index(ord("A"))] == b"A"

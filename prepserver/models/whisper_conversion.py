"""Turns a Whisper of CTranslate2 into the ggml file of whisper.cpp.

Both hold the same float16 weights; they differ in names, in what is stacked, and in that ggml
carries the vocabulary and the mel filters with it. The output depends on the input alone, bit for
bit, so its hash can be pinned.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from prepserver.models.ctranslate2 import Variable, VariableFile
from prepserver.models.errors import ModelError
from prepserver.models.ggml import Hyperparameters, write_header, write_tensor
from prepserver.models.mel import filter_bank
from prepserver.wire.error_codes import ErrorCode

__all__ = ["convert", "read_vocabulary"]

_MOST_TOKENS = 1_000_000
_LARGEST_TOKENIZER = 64 << 20
_LAYER = re.compile(r"(encoder|decoder)/layer_(\d+)/(.+)/(weight|bias|gamma|beta)\Z")
_PART = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}

_WHOLE = {
    "decoder/embeddings/weight": "decoder.token_embedding.weight",
    "decoder/layer_norm/beta": "decoder.ln.bias",
    "decoder/layer_norm/gamma": "decoder.ln.weight",
    "decoder/position_encodings/encodings": "decoder.positional_embedding",
    "encoder/conv1/bias": "encoder.conv1.bias",
    "encoder/conv1/weight": "encoder.conv1.weight",
    "encoder/conv2/bias": "encoder.conv2.bias",
    "encoder/conv2/weight": "encoder.conv2.weight",
    "encoder/layer_norm/beta": "encoder.ln_post.bias",
    "encoder/layer_norm/gamma": "encoder.ln_post.weight",
    "encoder/position_encodings/encodings": "encoder.positional_embedding",
}

# One entry for each tensor that is stacked in the source, from top to bottom.
_IN_LAYER = {
    "self_attention/layer_norm": ("attn_ln",),
    "self_attention/linear_0": ("attn.query", "attn.key", "attn.value"),
    "self_attention/linear_1": ("attn.out",),
    "attention/layer_norm": ("cross_attn_ln",),
    "attention/linear_0": ("cross_attn.query",),
    "attention/linear_1": ("cross_attn.key", "cross_attn.value"),
    "attention/linear_2": ("cross_attn.out",),
    "ffn/layer_norm": ("mlp_ln",),
    "ffn/linear_0": ("mlp.0",),
    "ffn/linear_1": ("mlp.2",),
}

# What CTranslate2 stores beside the weights.
_SETTINGS = {
    "activation",
    "alibi",
    "alignment_heads",
    "alignment_layer",
    "num_heads",
    "pre_norm",
    "scale_embeddings",
    "start_from_zero_embedding",
}


class _Target(Struct, frozen=True):
    """A tensor of the result: some rows of a variable of the source."""

    name: str
    source: Variable
    start: int
    stop: int


def convert(
    model: Path,
    tokenizer: Path,
    out: BinaryIO,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write to `out` the ggml file of the CTranslate2 `model.bin` and its `tokenizer.json`.

    `progress` is told tensors written, tensors in all. Raises ModelError when either file is not
    what it should be.
    """
    tokens = read_vocabulary(tokenizer)
    with VariableFile(model) as source:
        if source.specification != "WhisperSpec":
            raise _failed(f"{model.name} holds a {source.specification}, not a Whisper")
        targets = list(_targets(source))
        hyperparameters = _hyperparameters(source)
        if len(tokens) > hyperparameters.n_vocab:
            raise _failed("the vocabulary is larger than the model's")
        write_header(out, hyperparameters, filter_bank(hyperparameters.n_mels), tokens)
        for index, target in enumerate(targets):
            progress(index, len(targets))
            _write(out, source, target)
        progress(len(targets), len(targets))


def read_vocabulary(tokenizer: Path) -> list[bytes]:
    """The base vocabulary of a `tokenizer.json`, in the order of its ids, as raw bytes.

    The special tokens `<|...|>` are left out: whisper.cpp makes them up itself. Raises ModelError.
    """
    try:
        if tokenizer.stat().st_size > _LARGEST_TOKENIZER:
            raise _failed(f"{tokenizer.name} is too large to be a vocabulary")
        ids = json.loads(tokenizer.read_bytes())["model"]["vocab"]
        base = [text for text in ids if not re.fullmatch(r"<\|.*\|>", text)]
        by_id = {int(ids[text]): text for text in base}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _failed(f"{tokenizer.name} holds no vocabulary") from error
    if not base or len(base) > _MOST_TOKENS or sorted(by_id) != list(range(len(base))):
        raise _failed(f"the ids of the vocabulary in {tokenizer.name} do not count up from 0")
    byte_of = _byte_alphabet()
    try:
        return [bytes(byte_of[char] for char in by_id[index]) for index in range(len(by_id))]
    except KeyError as error:
        raise _failed(f"{tokenizer.name} has a token outside GPT-2's alphabet: {error}") from error


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte, reversed (`bytes_to_unicode` of its encoder)."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    kept += range(ord("®"), ord("ÿ") + 1)
    moved = [byte for byte in range(256) if byte not in kept]
    return {chr(byte): byte for byte in kept} | {
        chr(256 + index): byte for index, byte in enumerate(moved)
    }


def _targets(source: VariableFile) -> Iterator[_Target]:
    for name, variable in source.variables.items():
        # An alias stands for weights that are written under their own name already.
        if variable.name != name or name.rsplit("/", 1)[-1] in _SETTINGS:
            continue
        if variable.dtype not in {0, 4}:
            raise _failed(f"{name} is quantised; only float16 and float32 can be converted")
        if not variable.shape:
            raise _failed(f"{name} has no dimensions")
        names = _names(name)
        rows, rest = divmod(variable.shape[0], len(names))
        if rest:
            raise _failed(f"{name} of shape {variable.shape} does not hold {len(names)} tensors")
        for index, target in enumerate(names):
            # Whisper's keys have no bias; CTranslate2 stores zeros for it.
            if not target.endswith(".key.bias"):
                yield _Target(target, variable, index * rows, (index + 1) * rows)


def _names(name: str) -> tuple[str, ...]:
    if name in _WHOLE:
        return (_WHOLE[name],)
    match = _LAYER.match(name)
    if match is None or match[3] not in _IN_LAYER:
        raise _failed(f"it holds a tensor that Whisper does not have, {name}")
    side, layer, module, part = match.groups()
    return tuple(f"{side}.blocks.{layer}.{each}.{_PART[part]}" for each in _IN_LAYER[module])


def _write(out: BinaryIO, source: VariableFile, target: _Target) -> None:
    shape = (target.stop - target.start, *target.source.shape[1:])
    half = len(shape) > 1 and not target.name.endswith("positional_embedding")
    if target.name.endswith(("conv1.bias", "conv2.bias")):
        shape = (*shape, 1)
    chunks = source.values(target.source, target.start, target.stop)
    write_tensor(out, target.name, shape, chunks, half=half)


def _hyperparameters(source: VariableFile) -> Hyperparameters:
    def shape(name: str, rank: int) -> tuple[int, ...]:
        found = source.variable(name).shape
        if len(found) != rank or not math.prod(found):
            raise _failed(f"{name} has the shape {found}")
        return found

    n_vocab, n_text_state = shape("decoder/embeddings/weight", 2)
    n_audio_ctx, n_audio_state = shape("encoder/position_encodings/encodings", 2)
    n_text_ctx, _ = shape("decoder/position_encodings/encodings", 2)
    _, n_mels, _ = shape("encoder/conv1/weight", 3)
    return Hyperparameters(
        n_vocab=n_vocab,
        n_audio_ctx=n_audio_ctx,
        n_audio_state=n_audio_state,
        n_audio_head=source.scalar("encoder/num_heads"),
        n_audio_layer=_layers(source, "encoder"),
        n_text_ctx=n_text_ctx,
        n_text_state=n_text_state,
        n_text_head=source.scalar("decoder/num_heads"),
        n_text_layer=_layers(source, "decoder"),
        n_mels=n_mels,
    )


def _layers(source: VariableFile, side: str) -> int:
    matches = (_LAYER.match(name) for name in source.variables)
    numbers = {int(match[2]) for match in matches if match and match[1] == side}
    if not numbers or numbers != set(range(len(numbers))):
        raise _failed(f"the layers of its {side} are {sorted(numbers)}")
    return len(numbers)


def _failed(why: str) -> ModelError:
    return ModelError(
        f"The speech model cannot be converted: {why}. Fetch it again; if that does not help, "
        "pull another one (`prep-server models list`).",
        code=ErrorCode.MODEL_CONVERSION,
    )

"""Conversion of a CTranslate2 Whisper model to the ggml format of whisper.cpp.

Both formats hold the same weights. They differ in the names and the stacking of the tensors, and
only ggml holds the vocabulary and the mel filters. The conversion is deterministic, so the hash of
its output can be pinned.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from prepserver.errors import ModelError
from prepserver.models.ctranslate2 import Variable, VariableFile
from prepserver.models.ggml import Hyperparameters, write_header, write_tensor
from prepserver.models.mel import filter_bank
from prepserver.wire.error_codes import ErrorCode

__all__ = ["convert", "read_vocabulary"]

_MAX_TOKENS = 1_000_000
_MAX_TOKENIZER_BYTES = 64 << 20
_LAYER = re.compile(r"(encoder|decoder)/layer_(\d+)/(.+)/(weight|bias|gamma|beta)\Z")
_PARAMETERS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}

_TENSOR_NAMES = {
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

# The tensors that the source stacks into one, from top to bottom.
_LAYER_TENSORS = {
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

# Variables that CTranslate2 stores beside the weights.
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


class _TargetTensor(Struct, frozen=True):
    """Tensor in the ggml file, made from rows `start` to `stop` - 1 of a variable in the source."""

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
    """Convert a CTranslate2 `model.bin` and its `tokenizer.json`, and write a ggml file to `out`.

    `progress` is called with the number of tensors written and the total number of tensors. Raises
    ModelError if either file is invalid.
    """
    tokens = read_vocabulary(tokenizer)
    with VariableFile(model) as source:
        if source.specification != "WhisperSpec":
            raise _conversion_error(
                f"{model.name} is a {source.specification}, not a Whisper model"
            )
        targets = list(_targets(source))
        hyperparameters = _hyperparameters(source)
        if len(tokens) > hyperparameters.n_vocab:
            raise _conversion_error("the vocabulary is larger than the model's embedding")
        write_header(out, hyperparameters, filter_bank(hyperparameters.n_mels), tokens)
        for index, target in enumerate(targets):
            progress(index, len(targets))
            _write_target(out, source, target)
        progress(len(targets), len(targets))


def read_vocabulary(tokenizer: Path) -> list[bytes]:
    """Return the base vocabulary of a `tokenizer.json` as raw bytes, in the order of token ids.

    The special tokens `<|...|>` are omitted, because whisper.cpp generates them. Raises
    ModelError if the file contains no valid vocabulary.
    """
    try:
        if tokenizer.stat().st_size > _MAX_TOKENIZER_BYTES:
            raise _conversion_error(f"{tokenizer.name} is too large for a tokenizer")
        ids = json.loads(tokenizer.read_bytes())["model"]["vocab"]
        base = [text for text in ids if not re.fullmatch(r"<\|.*\|>", text)]
        by_id = {int(ids[text]): text for text in base}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _conversion_error(f"{tokenizer.name} contains no vocabulary") from error
    if not base or len(base) > _MAX_TOKENS or sorted(by_id) != list(range(len(base))):
        raise _conversion_error(f"the token ids in {tokenizer.name} are not consecutive from 0")
    byte_of = _byte_alphabet()
    try:
        return [bytes(byte_of[char] for char in by_id[index]) for index in range(len(by_id))]
    except KeyError as error:
        raise _conversion_error(
            f"{tokenizer.name} has a token outside GPT-2's byte alphabet: {error}"
        ) from error


def _byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of GPT-2's byte alphabet represents.

    The mapping is the inverse of GPT-2's `bytes_to_unicode`.
    """
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    kept += range(ord("®"), ord("ÿ") + 1)
    moved = [byte for byte in range(256) if byte not in kept]
    return {chr(byte): byte for byte in kept} | {
        chr(256 + index): byte for index, byte in enumerate(moved)
    }


def _targets(source: VariableFile) -> Iterator[_TargetTensor]:
    for name, variable in source.variables.items():
        # The weights behind an alias are written under their own name.
        if variable.name != name or name.rsplit("/", 1)[-1] in _SETTINGS:
            continue
        if variable.dtype not in {0, 4}:
            raise _conversion_error(f"{name} is quantised; only float16 and float32 are supported")
        if not variable.shape:
            raise _conversion_error(f"{name} has no dimensions")
        names = _target_names(name)
        rows, rest = divmod(variable.shape[0], len(names))
        if rest:
            raise _conversion_error(
                f"{name} of shape {variable.shape} cannot be split into {len(names)} tensors"
            )
        for index, target in enumerate(names):
            # Whisper's key projections have no bias; CTranslate2 stores zeros for it.
            if not target.endswith(".key.bias"):
                yield _TargetTensor(target, variable, index * rows, (index + 1) * rows)


def _target_names(name: str) -> tuple[str, ...]:
    if name in _TENSOR_NAMES:
        return (_TENSOR_NAMES[name],)
    match = _LAYER.match(name)
    if match is None or match[3] not in _LAYER_TENSORS:
        raise _conversion_error(f"it contains {name}, which is not a Whisper tensor")
    side, layer, module, part = match.groups()
    return tuple(
        f"{side}.blocks.{layer}.{each}.{_PARAMETERS[part]}" for each in _LAYER_TENSORS[module]
    )


def _write_target(out: BinaryIO, source: VariableFile, target: _TargetTensor) -> None:
    shape = (target.stop - target.start, *target.source.shape[1:])
    half = len(shape) > 1 and not target.name.endswith("positional_embedding")
    if target.name.endswith(("conv1.bias", "conv2.bias")):
        shape = (*shape, 1)
    chunks = source.read_values(target.source, target.start, target.stop)
    write_tensor(out, target.name, shape, chunks, half=half)


def _hyperparameters(source: VariableFile) -> Hyperparameters:
    def shape_of(name: str, rank: int) -> tuple[int, ...]:
        found = source.find_variable(name).shape
        if len(found) != rank or not math.prod(found):
            raise _conversion_error(f"{name} has the unexpected shape {found}")
        return found

    n_vocab, n_text_state = shape_of("decoder/embeddings/weight", 2)
    n_audio_ctx, n_audio_state = shape_of("encoder/position_encodings/encodings", 2)
    n_text_ctx, _ = shape_of("decoder/position_encodings/encodings", 2)
    _, n_mels, _ = shape_of("encoder/conv1/weight", 3)
    return Hyperparameters(
        n_vocab=n_vocab,
        n_audio_ctx=n_audio_ctx,
        n_audio_state=n_audio_state,
        n_audio_head=source.read_scalar("encoder/num_heads"),
        n_audio_layer=_count_layers(source, "encoder"),
        n_text_ctx=n_text_ctx,
        n_text_state=n_text_state,
        n_text_head=source.read_scalar("decoder/num_heads"),
        n_text_layer=_count_layers(source, "decoder"),
        n_mels=n_mels,
    )


def _count_layers(source: VariableFile, side: str) -> int:
    matches = (_LAYER.match(name) for name in source.variables)
    numbers = {int(match[2]) for match in matches if match and match[1] == side}
    if not numbers or numbers != set(range(len(numbers))):
        raise _conversion_error(
            f"the layers of the {side} are not numbered consecutively ({sorted(numbers)})"
        )
    return len(numbers)


def _conversion_error(why: str) -> ModelError:
    return ModelError(
        f"Cannot convert the speech model: {why}. Fetch the model again. If that does not help, "
        "pull another one from the list that `prep-server models list` prints.",
        code=ErrorCode.MODEL_CONVERSION,
    )

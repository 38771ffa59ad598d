"""Options of the engine's process, and the requests that the process accepts."""

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
    "LlamaRequest",
    "Offload",
    "Prefill",
]

CacheType = Literal["f32", "f16", "q8_0", "q4_0"]
FlashAttention = Literal["auto", "on", "off"]


class LlamaOptions(Struct, frozen=True, kw_only=True):
    path: str
    """Path of the model file, in GGUF format."""
    n_ctx: int = 4_096
    """Context length of each conversation in tokens, capped at the model's training context."""
    n_threads: int = 0
    """Number of threads; 0 means one thread for each core that the engine's process may use."""
    parallel: int = 0
    """Number of KV slots, at most 64, each with room for `n_ctx` tokens. 0 means as many slots as
    fit into an eighth of the usable memory, from 1 to 8."""
    n_gpu_layers: int = -1
    """Number of layers to compute on a GPU, if the build supports GPUs; a negative number means all
    layers."""
    flash_attention: FlashAttention = "auto"
    """Use of flash attention. With a GPU or a quantised cache, `auto` leaves the choice to
    llama.cpp. Otherwise `auto` means `off`, because flash attention would make a reply depend on
    the other prompts that are being computed."""
    cache_type: CacheType = "f16"
    """Data type of keys and values in the KV cache."""
    kv_store_dir: str = ""
    """Folder for offloaded conversations; if empty, no conversation is saved to disk."""
    kv_store_limit: int = 2 * 1024**3
    """Maximum size of all offloaded conversations together, in bytes."""


class Generate(Struct, frozen=True, tag="generate"):
    """Request for a reply. The engine answers with TextDelta events and one Usage."""

    prompt: Prompt


class Prefill(Struct, frozen=True, tag="prefill"):
    prompt: Prompt


class Offload(Struct, frozen=True, tag="offload"):
    conversation: str


class Discard(Struct, frozen=True, tag="discard"):
    conversation: str


class GetEngineStats(Struct, frozen=True, tag="stats"):
    """Request for the engine's load and totals. The engine answers with one EngineStats."""


LlamaRequest = Generate | Prefill | Offload | Discard | GetEngineStats

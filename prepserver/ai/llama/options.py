"""What the engine's process must know to load a model."""

from msgspec import Struct

__all__ = ["LlamaOptions"]


class LlamaOptions(Struct, frozen=True, kw_only=True):
    path: str
    """Of a .gguf file."""
    n_ctx: int = 4_096
    """Tokens of context, shared by all conversations that are kept; at most what the model was
    trained with."""
    n_threads: int = 0
    """0 means one for each processor this process may use."""
    conversations: int = 4
    """How many prompts' keys and values are kept to go on from."""

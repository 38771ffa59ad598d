"""How model files begin. Apart from what writes them, which needs numpy."""

__all__ = ["GGML_MAGIC", "GGUF_MAGIC"]

GGML_MAGIC = (0x67676D6C).to_bytes(4, "little")
"""The first four bytes of a whisper.cpp model."""
GGUF_MAGIC = b"GGUF"
"""The first four bytes of a llama.cpp model."""

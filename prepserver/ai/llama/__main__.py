"""The process of a language model: `python -m prepserver.ai.llama`."""

from prepserver.ai.child import serve
from prepserver.ai.llama.engine import load

if __name__ == "__main__":
    serve(load)

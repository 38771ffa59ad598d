"""Entry point of the language model's process: `python -m prepserver.engines.llama`."""

from prepserver.engines.ipc.runner import serve
from prepserver.engines.llama.engine import load

if __name__ == "__main__":
    serve(load)

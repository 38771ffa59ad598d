"""The process of a speech model: `python -m prepserver.engines.whisper`."""

from prepserver.engines.ipc.runner import serve
from prepserver.engines.whisper.engine import load

if __name__ == "__main__":
    serve(load)

"""Entry point of the speech model's process: `python -m prepserver.engines.whisper`."""

from prepserver.engines.ipc.runner import serve
from prepserver.engines.whisper.engine import load

if __name__ == "__main__":
    serve(load)

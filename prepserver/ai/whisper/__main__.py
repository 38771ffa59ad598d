"""The process of a speech model: `python -m prepserver.ai.whisper`."""

from prepserver.ai.child import serve
from prepserver.ai.whisper.engine import load

if __name__ == "__main__":
    serve(load)

"""A typical pywhispercpp script: `python -m tests.bench.peer_whisper MODEL THREADS`.

The script reads requests from standard input as lines of JSON and answers each with a line of JSON.
"""

import json
import os
import sys
import time
import wave
from typing import Any

import numpy as np
from pywhispercpp.model import Model


def _read_wav(path: str) -> "np.ndarray[Any, np.dtype[np.float32]]":
    with wave.open(path) as sound:
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(
            np.float32
        ) / np.float32(32768)


def main() -> None:
    model_path, threads = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keep the library's own output out of the answers
    model = Model(
        model_path,
        n_threads=threads,
        print_progress=False,
        print_realtime=False,
        redirect_whispercpp_logs_to=None,
    )
    for line in sys.stdin:
        clip = np.concatenate([_read_wav(path) for path in json.loads(line)["paths"]])
        started = time.perf_counter()
        segments = model.transcribe(clip)
        answer = {
            "seconds": time.perf_counter() - started,
            "text": " ".join(segment.text.strip() for segment in segments),
        }
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()

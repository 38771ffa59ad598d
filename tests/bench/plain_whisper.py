"""A program of the usual kind on pywhispercpp: `python -m tests.bench.plain_whisper`.

Reads requests as lines of JSON and answers each with a line of JSON.
"""

import json
import os
import sys
import time

import numpy as np
import soundfile
from pywhispercpp.model import Model


def main() -> None:
    path, threads = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the library prints is not an answer
    model = Model(
        path,
        n_threads=threads,
        print_progress=False,
        print_realtime=False,
        redirect_whispercpp_logs_to=None,
    )
    for line in sys.stdin:
        clip = np.concatenate(
            [soundfile.read(each, dtype="float32")[0] for each in json.loads(line)["files"]]
        )
        started = time.perf_counter()
        segments = model.transcribe(clip)
        answer = {
            "seconds": time.perf_counter() - started,
            "text": " ".join(segment.text.strip() for segment in segments),
        }
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()

"""A process that pulls a model, and can be stopped at any stage.

Run with the folder of a test and a stage: says each stage on stdout, and at the first report of the
given one waits for a line on stdin. The test's folder holds `store`, `index` and `entry.json`.
"""

import json
import sys
from pathlib import Path

from prepserver.models.progress import Progress
from prepserver.models.pull import pull
from prepserver.models.store import ModelStore
from tests.server.models.builders import catalogue


def main(folder: Path, stop_at: str) -> None:
    told = set()

    def report(progress: Progress) -> None:
        if progress.stage in told:
            return
        told.add(progress.stage)
        print(progress.stage, flush=True)
        if progress.stage == stop_at:
            sys.stdin.readline()

    entry = json.loads((folder / "entry.json").read_text())
    pull(ModelStore(folder / "store", catalogue(entry)), "tiny", report)
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

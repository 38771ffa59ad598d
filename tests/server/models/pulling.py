"""Process that pulls a model and can be paused at any stage.

The arguments are a test's folder, which contains `entry.json`, and the name of a stage. The process
prints each stage on stdout. At the first report of the named stage, the process waits for a line on
stdin.
"""

import json
import sys
from pathlib import Path

from prepserver.models.files import Progress
from prepserver.models.pull import pull
from prepserver.models.store import ModelStore
from tests.server.models.builders import catalogue


def main(folder: Path, pause_at: str) -> None:
    printed = set()

    def report(progress: Progress) -> None:
        if progress.stage in printed:
            return
        printed.add(progress.stage)
        print(progress.stage, flush=True)
        if progress.stage == pause_at:
            sys.stdin.readline()

    entry = json.loads((folder / "entry.json").read_text())
    pull(ModelStore(folder / "store", catalogue(entry)), "tiny", report)
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

"""Process that pulls the set `better` and prints a line for each report.

The argument is a test's folder with `catalogue.json` and a program `python`, which stands for the
Python that runs pip. If the catalogue has the key `full`, the disk has no free space.
"""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec

from prepserver.errors import ModelError
from prepserver.models import package_index
from prepserver.models.catalogue import Catalogue, validate
from prepserver.models.files import Progress
from prepserver.models.pull import pull
from prepserver.models.store import ModelStore


def main(folder: Path) -> None:
    description = msgspec.json.decode((folder / "catalogue.json").read_bytes())
    if description.pop("full", False):
        vars(shutil)["disk_usage"] = lambda path: SimpleNamespace(free=0)
    vars(package_index)["sys"] = SimpleNamespace(executable=str(folder / "python"))

    def report(progress: Progress) -> None:
        print(progress.model, progress.stage, progress.done, flush=True)

    store = ModelStore(folder / "store", validate(msgspec.convert(description, Catalogue)))
    try:
        pull(store, "better", report)
    except ModelError as error:
        print(error.message, flush=True)
    else:
        print("installed", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

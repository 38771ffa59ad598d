"""`python -m tests.bench [NAME ...] [--json FILE] [--quick]`: run benchmarks, print their tables.

A benchmark NAME is a module of this package with `run(quick: bool) -> list[Row]`.
"""

import argparse
import importlib
import logging
import os
import sys
from pathlib import Path

import msgspec
import structlog

from tests.bench.report import machine, table, write_json

NAMES = ("rooms", "language", "spoken", "speech", "memory")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: a smoke test")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    rows = []
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    cores = os.sched_getaffinity(0)
    for name in options.names or NAMES:
        found = importlib.import_module(f"tests.bench.{name}").run(options.quick)
        os.sched_setaffinity(0, cores)  # a benchmark may have bound itself to one
        print(f"\n## {name}\n\n{table(found)}", flush=True)
        rows += [msgspec.structs.replace(row, benchmark=name) for row in found]
    if options.json is not None:
        write_json(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

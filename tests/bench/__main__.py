"""Command that runs benchmarks: `python -m tests.bench [NAME ...] [--json FILE] [--quick]`.

Each NAME is a module of this package with `run(quick: bool) -> list[Row]`; without a NAME, all
benchmarks run. The tables of all results are printed.
"""

import argparse
import importlib
import logging
import os
import sys
from pathlib import Path

import msgspec
import structlog

from tests.bench.report import format_table, machine, write_json

BENCHMARKS = ("rooms", "language", "standard", "spoken", "speech", "memory")


def main() -> int:
    names = ", ".join(BENCHMARKS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Run benchmarks and print their tables."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {names}; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument("--quick", action="store_true", help="run a smoke test with small sizes")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; choose from {names}")
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    rows = []
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    cores = os.sched_getaffinity(0)
    for name in options.names or BENCHMARKS:
        results = importlib.import_module(f"tests.bench.{name}").run(options.quick)
        os.sched_setaffinity(0, cores)  # a benchmark may have pinned this process
        print(f"\n## {name}\n\n{format_table(results)}", flush=True)
        rows += [msgspec.structs.replace(row, benchmark=name) for row in results]
    if options.json is not None:
        write_json(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Command line of the simulation.

`python -m tests.simulation 17` runs seed 17 and, if the run fails, finds the fewest steps that
fail; `python -m tests.simulation 0:5000` runs a range of seeds.
"""

import sys
import time
from collections import Counter

from tests.simulation import steps
from tests.simulation.simulation import Violation, run, shrink


def main(argument: str) -> int:
    first, colon, last = argument.partition(":")
    if colon:
        return run_seeds(range(int(first), int(last)))
    return run_seed(int(first))


def run_seed(seed: int) -> int:
    try:
        run(seed)
    except Violation as violation:
        print(violation)
        fewest = shrink(seed)
        try:
            run(seed, fewest)
        except Violation as smaller:
            print(f"\nfewest steps that fail:\n{smaller.description}\n{steps.format_steps(fewest)}")
        return 1
    print(f"seed {seed}: no violation")
    return 0


def run_seeds(seeds: range) -> int:
    started, failed = time.monotonic(), []
    coverage: Counter[str] = Counter()
    for seed in seeds:
        try:
            coverage += run(seed).coverage
        except Violation as violation:
            failed.append(seed)
            print(
                f"seed {seed}, step {len(violation.done) - 1}: {violation.description[:300]}",
                flush=True,
            )
    print("\n".join(f"{count:7} {event}" for event, count in sorted(coverage.items())))
    seconds = time.monotonic() - started
    print(f"{len(seeds)} seeds in {seconds:.0f} s, {len(failed)} failed: {failed[:40]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

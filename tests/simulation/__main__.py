"""Simulations by hand: `python -m tests.simulation 17` replays a seed and looks for the fewest
steps that go wrong; `python -m tests.simulation 0:5000` tries many.
"""

import sys
import time
from collections import Counter

from tests.simulation import steps
from tests.simulation.simulation import Violation, run, shrink


def main(argument: str) -> int:
    first, colon, last = argument.partition(":")
    if colon:
        return many(range(int(first), int(last)))
    return one(int(first))


def one(seed: int) -> int:
    try:
        run(seed)
    except Violation as violation:
        print(violation)
        fewest = shrink(seed)
        try:
            run(seed, fewest)
        except Violation as smaller:
            print(f"\nthe fewest steps:\n{smaller.what}\n{steps.described(fewest)}")
        return 1
    print(f"seed {seed} holds")
    return 0


def many(seeds: range) -> int:
    began, failed = time.monotonic(), []
    seen: Counter[str] = Counter()
    for seed in seeds:
        try:
            seen += run(seed).seen
        except Violation as violation:
            failed.append(seed)
            print(
                f"seed {seed}, step {len(violation.done) - 1}: {violation.what[:300]}", flush=True
            )
    print("\n".join(f"{count:7} {what}" for what, count in sorted(seen.items())))
    seconds = time.monotonic() - began
    print(f"{len(seeds)} seeds in {seconds:.0f} s, {len(failed)} failed: {failed[:40]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

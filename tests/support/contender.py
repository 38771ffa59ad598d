"""Process that competes for a data directory: `python -m tests.support.contender FOLDER`.

The process reads one command per line from standard input and answers each command with a line of
JSON. `take` starts a registry, `call` increments the counter of an object, and `drop` closes the
registry.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from prepserver.clock import SystemClock
from prepserver.errors import PrepServerError
from prepserver.objects.instance import Kind
from prepserver.objects.object import DurableObject
from prepserver.objects.registry import Registry
from prepserver.objects.stubs import ObjectCall

__all__ = ["Tally"]


class Tally(DurableObject):
    """Object that counts in memory, starting from the stored count.

    A second instance would be detected, because each instance misses the counts of the other.
    """

    def on_start(self) -> None:
        self._count = self.context.storage.get("count", int) or 0

    def add(self) -> int:
        self._count += 1
        self.context.storage.put("count", self._count)
        return self._count

    def count(self) -> int:
        return self._count


async def _run(folder: Path) -> None:
    marker = folder / "owned"
    registry: Registry | None = None
    for line in iter(sys.stdin.readline, ""):
        answer: dict[str, object] = {"pid": os.getpid()}
        try:
            match line.strip():
                case "take":
                    candidate = Registry(folder, [Kind("Tally", Tally, ())], SystemClock())
                    await candidate.start()
                    registry = candidate
                    # Independent evidence: two owners at once cannot both create the file.
                    os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
                case "call":
                    assert registry is not None
                    answer["count"] = await registry.call(ObjectCall("Tally", "a", "add"))
                case "drop":
                    assert registry is not None
                    marker.unlink()
                    await registry.close()
                    registry = None
        except PrepServerError as error:
            answer |= error.as_dict()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1])))

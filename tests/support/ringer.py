"""A process with objects that ring: `python -m tests.support.ringer FOLDER [SECONDS]`.

Its clock is SECONDS off. It reads a line of JSON from standard input for each thing to do and
writes lines of JSON: `started`, `set`, `rang`, and, as an effect that a handler's commit lets out,
`done`. `{"hang": "early"}` and `"late"` stop the process for good inside every handler from now on,
before it writes and after.
"""

import asyncio
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from prepserver.clock import SystemClock
from prepserver.objects.instance import Kind
from prepserver.objects.object import DurableObject
from prepserver.objects.registry import Registry
from prepserver.objects.stubs import ObjectCall

__all__ = ["Ringer"]

hang = ""


class Ringer(DurableObject):
    """Writes down each ring; a ring belongs to the alarm with the number that was set last."""

    migrations = ("CREATE TABLE rings (number INTEGER NOT NULL, at REAL NOT NULL)",)

    def set(self, number: int, due: float) -> None:
        self.context.storage.put("number", number)
        self.context.set_alarm(due)

    def rings(self) -> list[int]:
        return [row[0] for row in self.context.storage.sql("SELECT number FROM rings")]

    def on_alarm(self, retry_count: int) -> None:
        number = self.context.storage.get("number", int)
        say(said="rang", name=self.context.name, number=number)
        if hang == "early":
            time.sleep(3_600)
        now = self.context.clock.now()
        self.context.storage.sql("INSERT INTO rings VALUES (?, ?)", number, now)
        if hang == "late":
            time.sleep(3_600)
        self.context.spawn(self._done, "done")

    async def _done(self) -> None:
        say(said="done", name=self.context.name, number=self.context.storage.get("number", int))


class _Clock(SystemClock):
    """The machine's clock, moved."""

    def __init__(self, seconds: float) -> None:
        self.moved = seconds

    def now(self) -> float:
        return super().now() + self.moved


def say(**fact: Any) -> None:
    sys.stdout.write(json.dumps(fact | {"time": time.time()}) + "\n")
    sys.stdout.flush()


async def _ring(folder: Path, moved: float) -> None:
    global hang
    clock = _Clock(moved)
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)

    registry = Registry(folder, [Kind("Ringer", Ringer, Ringer.migrations)], clock)
    await registry.start()
    say(said="started")
    threading.Thread(target=read, daemon=True).start()

    async def do(order: dict[str, Any]) -> None:
        if "set" in order:
            due = clock.now() + order["after"]
            await registry.call(ObjectCall("Ringer", order["set"], "set", (order["number"], due)))
            say(said="set", name=order["set"], number=order["number"])
        elif "rings" in order:
            rings: list[Any] = await registry.call(ObjectCall("Ringer", order["rings"], "rings"))
            say(said="rings", name=order["rings"], rings=rings)

    working = set()
    while True:
        order = json.loads(await lines.get())
        if "move" in order:
            clock.moved += order["move"]
        elif "hang" in order:
            hang = order["hang"]
        else:
            working.add(asyncio.create_task(do(order)))


if __name__ == "__main__":
    asyncio.run(_ring(Path(sys.argv[1]), float((*sys.argv[2:], "0")[0])))

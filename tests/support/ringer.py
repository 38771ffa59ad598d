"""A process with alarms: `python -m tests.support.ringer FOLDER [SECONDS]`.

Its clock is SECONDS ahead. It reads one JSON command per line from standard input, and writes
events as JSON lines: `started`, `set`, `rang`, and `done`, an effect that is sent after the commit
of the alarm's handler. `{"hang": "early"}` and `{"hang": "late"}` block every later handler
forever, before or after it writes.
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
    """Stores each alarm that fires, with the number that was set last."""

    migrations = ("CREATE TABLE rings (number INTEGER NOT NULL, at REAL NOT NULL)",)

    def set(self, number: int, due: float) -> None:
        self.context.storage.put("number", number)
        self.context.set_alarm(due)

    def rings(self) -> list[int]:
        return [row[0] for row in self.context.storage.sql("SELECT number FROM rings")]

    def on_alarm(self, retry_count: int) -> None:
        number = self.context.storage.get("number", int)
        report(event="rang", name=self.context.name, number=number)
        if hang == "early":
            time.sleep(3_600)
        now = self.context.clock.now()
        self.context.storage.sql("INSERT INTO rings VALUES (?, ?)", number, now)
        if hang == "late":
            time.sleep(3_600)
        self.context.spawn(self._report_done, "done")

    async def _report_done(self) -> None:
        report(event="done", name=self.context.name, number=self.context.storage.get("number", int))


class _Clock(SystemClock):
    """The machine's clock with an offset."""

    def __init__(self, seconds: float) -> None:
        self.offset = seconds

    def now(self) -> float:
        return super().now() + self.offset


def report(**fact: Any) -> None:
    sys.stdout.write(json.dumps(fact | {"time": time.time()}) + "\n")
    sys.stdout.flush()


async def _run(folder: Path, offset: float) -> None:
    global hang
    clock = _Clock(offset)
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read_commands() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)

    registry = Registry(folder, [Kind("Ringer", Ringer, Ringer.migrations)], clock)
    await registry.start()
    report(event="started")
    threading.Thread(target=read_commands, daemon=True).start()

    async def run_command(command: dict[str, Any]) -> None:
        if "set" in command:
            due = clock.now() + command["after"]
            await registry.call(
                ObjectCall("Ringer", command["set"], "set", (command["number"], due))
            )
            report(event="set", name=command["set"], number=command["number"])
        elif "rings" in command:
            rings: list[Any] = await registry.call(ObjectCall("Ringer", command["rings"], "rings"))
            report(event="rings", name=command["rings"], rings=rings)

    tasks = set()
    while True:
        command = json.loads(await lines.get())
        if "move" in command:
            clock.offset += command["move"]
        elif "hang" in command:
            hang = command["hang"]
        else:
            tasks.add(asyncio.create_task(run_command(command)))


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), float((*sys.argv[2:], "0")[0])))

"""Process whose objects have alarms: `python -m tests.support.alarm_process FOLDER [SECONDS]`.

The clock of the process is SECONDS ahead. The process reads one JSON command per line from standard
input, and writes events as JSON lines: `started`, `set`, `fired`, `firings`, and `done`, which
follows the commit of an alarm's handler. `{"hang": "early"}` and `{"hang": "late"}` block every
later handler for an hour, before or after the handler writes.
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

__all__ = ["AlarmObject"]

hang = ""


class AlarmObject(DurableObject):
    """Object that stores, for each alarm that fires, a row with the number that was set last."""

    migrations = ("CREATE TABLE firings (number INTEGER NOT NULL, at REAL NOT NULL)",)

    def set(self, number: int, due: float) -> None:
        self.context.storage.put("number", number)
        self.context.set_alarm(due)

    def firings(self) -> list[int]:
        return [row[0] for row in self.context.storage.sql("SELECT number FROM firings")]

    def on_alarm(self, retry_count: int) -> None:
        number = self.context.storage.get("number", int)
        report(event="fired", name=self.context.name, number=number)
        if hang == "early":
            time.sleep(3_600)
        now = self.context.clock.now()
        self.context.storage.sql("INSERT INTO firings VALUES (?, ?)", number, now)
        if hang == "late":
            time.sleep(3_600)
        self.context.spawn(self._report_done, "done")

    async def _report_done(self) -> None:
        report(event="done", name=self.context.name, number=self.context.storage.get("number", int))


class _Clock(SystemClock):
    """Clock of the machine, with an offset in seconds."""

    def __init__(self, seconds: float) -> None:
        self.offset = seconds

    def now(self) -> float:
        return super().now() + self.offset


def report(**event: Any) -> None:
    sys.stdout.write(json.dumps(event | {"time": time.time()}) + "\n")
    sys.stdout.flush()


async def _run(folder: Path, offset: float) -> None:
    global hang
    clock = _Clock(offset)
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read_commands() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)

    registry = Registry(folder, [Kind("AlarmObject", AlarmObject, AlarmObject.migrations)], clock)
    await registry.start()
    report(event="started")
    threading.Thread(target=read_commands, daemon=True).start()

    async def run_command(command: dict[str, Any]) -> None:
        if "set" in command:
            due = clock.now() + command["after"]
            await registry.call(
                ObjectCall("AlarmObject", command["set"], "set", (command["number"], due))
            )
            report(event="set", name=command["set"], number=command["number"])
        elif "firings" in command:
            name = command["firings"]
            numbers: list[int] = await registry.call(ObjectCall("AlarmObject", name, "firings"))
            report(event="firings", name=name, numbers=numbers)

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

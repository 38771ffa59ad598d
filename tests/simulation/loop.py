"""Event loop without sockets, threads or real time, so that a seed decides the order of all work.

Work for threads waits in `SimulatedDisk` until the simulation runs it.
"""

import asyncio
import contextvars
import random
import selectors
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any

__all__ = ["SERVER_TASKS", "Deadlocked", "SimulatedDisk", "VirtualLoop"]

SERVER_TASKS: contextvars.ContextVar[list[asyncio.Task[Any]] | None] = contextvars.ContextVar(
    "tasks", default=None
)
"""Tasks of the server process that the running code belongs to; None for clients."""

EARLY_WORK_PROBABILITY = 0.3
"""Probability of running a disk work item in one iteration of an event loop that is not idle."""


class Deadlocked(Exception):
    """Every task is waiting, and nothing in the simulation can wake a task."""


class _NoSelector(selectors.BaseSelector):
    """Selector that is never ready; waiting for it raises Deadlocked."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 0:
            raise Deadlocked("every task waits for something outside the simulation")
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """Event loop that runs callbacks in the order in which they were scheduled, and work for
    threads on `disk`."""

    def __init__(self) -> None:
        super().__init__(_NoSelector())
        self.disk: SimulatedDisk | None = None
        """Executor that replaces the default executor; None before the first server starts."""

    @property
    def is_idle(self) -> bool:
        """True while no callback is ready to run."""
        return not self._ready  # type: ignore[attr-defined]

    async def run_until_idle(self) -> None:
        """Wait until no other callback is ready to run."""
        while not self.is_idle:  # noqa: ASYNC110 - the loop itself is waited for
            await asyncio.sleep(0)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        context = options.get("context")
        tasks = SERVER_TASKS.get() if context is None else context.get(SERVER_TASKS)
        if tasks is not None:
            tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        return super().run_in_executor(executor or self.disk, func, *args)

    def _write_to_self(self) -> None:
        """Do nothing, since a selector that never blocks needs no wake-up."""

    def _add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        """Ignore the pipe that `_write_to_self` would use."""

    def _remove_reader(self, fd: Any) -> bool:
        return False


class SimulatedDisk(Executor):
    """Executor that queues disk work and runs it in an order that a seed decides."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._waiting: list[tuple[Future[Any], Callable[[], Any]]] = []
        self.completed = 0
        """Number of completed work items; the files are unchanged while the number is constant."""
        self.blocked = False
        """True while the disk is blocked, so that `settle` runs no disk work."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.append((future, lambda: fn(*args, **kwargs)))
        return future

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def run_one(self) -> bool:
        """Run one waiting work item, chosen at random; return False if none is waiting."""
        if not self._waiting:
            return False
        self.completed += 1
        future, work = self._waiting.pop(self._rng.randrange(len(self._waiting)))
        if future.set_running_or_notify_cancel():
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
        return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        while self.run_one():
            pass

    async def settle(self, loop: VirtualLoop) -> None:
        """Run callbacks and, unless the disk is blocked, disk work until nothing is left to run."""
        while True:
            while not loop.is_idle:
                await asyncio.sleep(0)
                may_work = self._waiting and not self.blocked
                if may_work and self._rng.random() < EARLY_WORK_PROBABILITY:
                    self.run_one()
            if (self.blocked or not self.run_one()) and loop.is_idle:
                return

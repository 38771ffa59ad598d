"""An event loop in which nothing happens by itself: no sockets, no threads, no time.

What would have waited for a thread waits in `Disk` until the simulation lets it run, so the order
of everything is decided by a seed.
"""

import asyncio
import contextvars
import random
import selectors
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any

__all__ = ["TASKS", "Disk", "Stalled", "VirtualLoop"]

TASKS: contextvars.ContextVar[list[asyncio.Task[Any]] | None] = contextvars.ContextVar(
    "tasks", default=None
)
"""Where the tasks of one life of the server are listed, so that a crash can take them all."""

EAGER = 0.3
"""How often a piece of disk work is done before the loop has come to rest."""


class Stalled(Exception):
    """Everybody waits for something that nothing will bring about."""


class _NoSelector(selectors.BaseSelector):
    """Never ready; waiting for it would be for ever."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 0:
            raise Stalled("the simulation waits for something outside of it")
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs callbacks in the order they were scheduled, and work for threads on `disk`."""

    def __init__(self) -> None:
        super().__init__(_NoSelector())
        self.disk: Disk | None = None
        """What stands for the default executor."""

    @property
    def resting(self) -> bool:
        """Whether nothing else is ready to run."""
        return not self._ready  # type: ignore[attr-defined]

    async def rest(self) -> None:
        """Return when nothing else is ready to run."""
        while not self.resting:  # noqa: ASYNC110 - there is nothing but the loop to wait for
            await asyncio.sleep(0)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        context = options.get("context")
        tasks = TASKS.get() if context is None else context.get(TASKS)
        if tasks is not None:
            tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        return super().run_in_executor(executor or self.disk, func, *args)

    def _write_to_self(self) -> None:
        """Nobody sleeps in the selector, so nobody has to be woken."""

    def _add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        """Of the pipe that `_write_to_self` would use."""

    def _remove_reader(self, fd: Any) -> bool:
        return False


class Disk(Executor):
    """Work that waits for a disk: done in an order that a seed decides, or not at all."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._waiting: list[tuple[Future[Any], Callable[[], Any]]] = []
        self.done = 0
        """Pieces of work done so far: as long as it stays the same, the files do."""
        self.held = False
        """A disk so slow that nothing comes back until it is not."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.append((future, lambda: fn(*args, **kwargs)))
        return future

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def work(self) -> bool:
        """Do one piece of what waits; whether there was one."""
        if not self._waiting:
            return False
        self.done += 1
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
        while self.work():
            pass

    async def settle(self, loop: VirtualLoop) -> None:
        """Let everything run until only time, a model or the network can bring more."""
        while True:
            while not loop.resting:
                await asyncio.sleep(0)
                if self._waiting and not self.held and self._rng.random() < EAGER:
                    self.work()
            if (self.held or not self.work()) and loop.resting:
                return

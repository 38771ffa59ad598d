"""One run of the server's process on a data directory, from the start to a shutdown or a crash."""

import asyncio
import contextlib
import contextvars
import os
import random
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from uvicorn.server import ServerState

from prepserver.accounts.authentication import Authenticator
from prepserver.errors import Unauthorized
from prepserver.http.rooms import Rooms as Lobby
from prepserver.http.services import Services
from prepserver.http.sockets import Sockets
from prepserver.objects.object import DurableObject
from prepserver.serve import DRAIN_SECONDS
from prepserver.wire.error_codes import ErrorCode
from tests.simulation.loop import SERVER_TASKS, SimulatedDisk, VirtualLoop
from tests.simulation.models import ModelController, SimulatedLanguageModel, SimulatedSpeechModel
from tests.simulation.steps import Setup
from tests.support.clock import ManualClock
from tests.support.rooms import Rooms

__all__ = [
    "CURRENT_SERVER",
    "HINT_AFTER",
    "USER",
    "SimulatedServer",
    "Tokens",
    "copy_surviving_files",
]

USER = "user-1"

HINT_AFTER = 20.0
"""Virtual seconds without typing, speech or an answer after which the interviewer gives a hint."""

CURRENT_SERVER: contextvars.ContextVar["SimulatedServer | None"] = contextvars.ContextVar(
    "server", default=None
)
"""Server that the running code belongs to; None for clients."""


class Tokens:
    """Stand-in for the server's tokens and users: one user, whose tokens all expire together."""

    def __init__(self) -> None:
        self._generation = 0

    def issue(self) -> str:
        return f"{USER}.{self._generation}"

    def expire(self) -> None:
        self._generation += 1

    def verify(self, token: str) -> str:
        if token != self.issue():
            raise Unauthorized("The token has expired.", code=ErrorCode.TOKEN_EXPIRED)
        return USER

    def exists(self, user: str) -> bool:
        return user == USER


class SimulatedServer:
    """Server on a data directory, with tasks, a disk and objects that end with the server's
    process."""

    def __init__(
        self,
        root: Path,
        clock: ManualClock,
        controller: ModelController,
        tokens: Tokens,
        rng: random.Random,
        setup: Setup,
    ) -> None:
        self.root = root
        self.controller = controller
        self.ended = False
        self._clock = clock
        self.disk = SimulatedDisk(rng)
        self.errors: list[str] = []
        """Violations that the instrumentation has found."""
        self._tasks: list[asyncio.Task[Any]] = []
        self._context = contextvars.copy_context()
        self._context.run(SERVER_TASKS.set, self._tasks)
        self._context.run(CURRENT_SERVER.set, self)
        self._current_instances: dict[tuple[type[DurableObject], str], DurableObject] = {}
        self._loop().disk = self.disk
        self.rooms = Rooms(
            root,
            clock=clock,
            language=SimulatedLanguageModel(
                clock, controller, few_shot=setup.few_shot, context=setup.context
            ),
            speech=SimulatedSpeechModel(clock, controller),
            hint_after=HINT_AFTER,
            max_recording=20.0,
            rate_limit=setup.rate_limit,
            executor=self.disk,
        )
        stub: Any = tokens
        services = Services(
            clock=clock,
            registry=self.rooms.registry,
            gateway=self.rooms.gateway,
            authenticator=Authenticator(stub, stub),
            rate_limiter=self.rooms.limiter,
            budgets=stub,
            call_log=stub,
            metrics=stub,
            metrics_access="off",
            version="simulated",
        )
        self.sockets = Sockets(Lobby(services).open_connection, clock)
        self.state = ServerState()

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that belongs to the server."""
        return asyncio.get_running_loop().create_task(coro, context=self._context.copy())

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Schedule a callback of the server, unless the server's process has ended."""
        if not self.ended:
            self._loop().call_soon(callback, *arguments, context=self._context.copy())

    def _loop(self) -> VirtualLoop:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop

    async def settle(self) -> None:
        await self.disk.settle(self._loop())

    async def start(self) -> None:
        started = self.spawn(self.rooms.__aenter__())
        await self.settle()
        started.result()
        self.spawn(self.sockets.run_keepalive())

    async def stop(self) -> None:
        """Shut the server down as after SIGTERM: first as uvicorn does, then as `serve` does."""
        self.disk.blocked = False
        for connection in list(self.state.connections):
            self.call_soon(connection.shutdown)
        await self.settle()
        if self.state.connections or self.state.tasks:
            await self._clock.advance(DRAIN_SECONDS)
        stopped = self.spawn(self.rooms.__aexit__(None, None, None))
        await self.settle()
        stopped.result()
        self.ended = True
        await self._end_tasks()

    async def crash(self, completed: int, copy: Path) -> None:
        """End the server's process at once, and copy the files as they are on the disk to `copy`.

        At most `completed` waiting work items are completed first, but the server never receives
        the results.
        """
        for _ in range(completed):
            self.disk.run_one()
        copy_surviving_files(self.root, copy)
        self.ended = True
        self._loop().disk = self.disk = SimulatedDisk(random.Random(0))
        await self._end_tasks()
        _close_locks(self.root)
        self.rooms.limiter.close()

    async def _end_tasks(self) -> None:
        """Cancel all tasks. Disk work that the tasks request while cleaning up is not run."""
        self.disk.blocked = True
        while alive := [task for task in self._tasks if not task.done()]:
            self._tasks.clear()
            for task in alive:
                task.cancel()
            await self._loop().run_until_idle()
            self._tasks.extend(alive)

    # --- Instrumentation ----------------------------------------------------------------------

    def register_instance(self, instance: DurableObject) -> None:
        """Record a new instance as the only valid instance of its object."""
        self._current_instances[type(instance), instance.context.name] = instance

    def check_current_instance(self, instance: DurableObject) -> None:
        """Record an error if a newer instance of the object exists."""
        if self._current_instances.get((type(instance), instance.context.name)) is not instance:
            self.errors.append("an event was handled by a replaced instance")


def copy_surviving_files(root: Path, copy: Path) -> None:
    """Copy the files that outlive the server's process: all but SQLite's shared memory and the lock
    file."""
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("*-shm", "server.lock"))


def _close_locks(root: Path) -> None:
    """Close the lock file of the data directory, as the kernel does when a process ends."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(
            OSError
        ):  # the descriptor of the directory listing is already closed
            if descriptor.readlink() == root / "server.lock":
                os.close(int(descriptor.name))

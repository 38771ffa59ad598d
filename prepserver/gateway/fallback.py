"""The models that do one job: the first, and those that step in for it, one after the other."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Generic, Literal, Protocol, TypeVar

import structlog
from msgspec import Struct

from prepserver.clock import Clock, wait_for
from prepserver.engines.types import ModelInfo, Priority
from prepserver.errors import InferenceError, PrepServerError
from prepserver.gateway.admission import Admission
from prepserver.telemetry.calls import CallStats
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Backend", "FallbackChain", "Retries"]

LONGEST_PAUSE = 5.0
"""Seconds between two attempts, at most; also between two attempts to load."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Model(Protocol):
    """What a language model and a speech model have in common."""

    async def start(self) -> ModelInfo | None: ...
    async def close(self) -> None: ...


E = TypeVar("E", bound=Model)


class Retries(Struct, frozen=True, kw_only=True):
    """How often a call is tried again on the same model, and after what pause."""

    limit: int = 3
    delay: float = 0.2
    """Seconds before the first."""
    growth: Literal["constant", "linear", "exponential"] = "exponential"
    """Of the delay with each further one."""

    def pause(self, done: int) -> float:
        """Seconds before the next attempt when `done` were tried again already."""
        match self.growth:
            case "constant":
                factor = 1
            case "linear":
                factor = done + 1
            case "exponential":
                factor = 2**done
        return min(LONGEST_PAUSE, self.delay * factor)


class Backend(Generic[E]):
    """One model of a chain, with its door."""

    def __init__(
        self, engine: E, name: str, clock: Clock, retries: Retries, admission: Admission
    ) -> None:
        self.engine = engine
        self.name = name
        self.admission = admission
        self.info: ModelInfo | None = None
        self.state = "loading"
        """`loading`, `ready` or `failed`."""
        self.failure: InferenceError | None = None
        self._clock = clock
        self._retries = retries
        self._failed_at = 0.0
        self._loading: asyncio.Task[None] | None = None

    def start(self, retries: int | None = None) -> None:
        """Begin to load; None tries as often as a call would."""
        self.state = "loading"
        limit = self._retries.limit if retries is None else retries
        self._loading = asyncio.create_task(self._load(limit))

    async def ready(self) -> ModelInfo | None:
        """Wait until it is loaded; what a language model says of itself.

        Raises InferenceError. A model that might load now is tried again, though not all the
        time: an endpoint that was away when the server started comes back.
        """
        if self._loading is None:
            raise InferenceError("The models are not being loaded.", retryable=False)
        rested = self._clock.monotonic() >= self._failed_at + LONGEST_PAUSE
        if (
            self.state == "failed"
            and self.failure is not None
            and self.failure.retryable
            and rested
        ):
            self.start(retries=0)
        loading = self._loading
        try:
            await asyncio.shield(loading)
        except asyncio.CancelledError:
            if loading.cancelled():
                raise InferenceError(
                    "The server is stopping.", code=ErrorCode.WORKER_CLOSED
                ) from None
            raise
        if self.failure is not None:
            raise _again(self.failure)
        return self.info

    async def _load(self, retries: int) -> None:
        done = 0
        while (failure := await self._try_to_load()) is not None:
            if not failure.retryable or done >= retries:
                break
            log.warning("model.retried", model=self.name, code=failure.code)
            await self._clock.sleep(self._retries.pause(done))
            done += 1
        self.failure = failure
        if failure is None:
            self.state = "ready"
            log.info("model.ready", model=self.name)
        else:
            self.state = "failed"
            self._failed_at = self._clock.monotonic()
            log.error("model.failed", model=self.name, code=failure.code, message=failure.message)

    async def _try_to_load(self) -> InferenceError | None:
        try:
            self.info = await self.engine.start()
        except InferenceError as error:
            return error
        except PrepServerError as error:
            return InferenceError(error.message, code=error.code, retryable=error.retryable)
        except Exception:
            log.exception("model.load_failed")
            return InferenceError(
                "A model could not be loaded; the server's log says why.",
                code=ErrorCode.MODEL_NOT_LOADED,
                retryable=False,
            )
        if self.info is not None:
            self.name = self.info.name
            self.admission.parallel = self.admission.parallel or max(1, self.info.parallel)
        return None

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self.engine.close()


class FallbackChain(Generic[E]):
    """Tries a call on each link until one answers."""

    def __init__(self, links: Sequence[Backend[E]], clock: Clock, retries: Retries) -> None:
        """At least one link."""
        self.links = tuple(links)
        self._clock = clock
        self._retries = retries

    def start(self) -> None:
        """Begin to load every one; calls made meanwhile wait."""
        for link in self.links:
            link.start()

    @property
    def state(self) -> str:
        """`ready` as soon as the first is, or one that steps in when the first has failed."""
        return next((link.state for link in self.links if link.state != "failed"), "failed")

    async def first(self) -> Backend[E]:
        """The first link that is loaded. Raises InferenceError when none can be."""
        failure: InferenceError | None = None
        for link in self.links:
            try:
                await link.ready()
            except InferenceError as error:
                failure = failure or error
            else:
                return link
        assert failure is not None
        raise failure

    async def run(
        self,
        work: Callable[[E], AsyncGenerator[T, None]],
        effort: CallStats,
        priority: Priority,
        *,
        timeout: float = 0.0,
        repeatable: bool = False,
    ) -> AsyncGenerator[T, None]:
        """The events of the first link that gives any.

        `timeout` in seconds is for the first event; 0 waits without end. After an event has left
        there is no other attempt, unless the work is `repeatable`: whoever reads it can do with a
        beginning that comes twice. Raises InferenceError: what the first link failed with, since
        that is the one the server was set up for.
        """
        failure: InferenceError | None = None
        for number, link in enumerate(self.links):
            try:
                await link.ready()
                effort.step, effort.model = number, link.name
                async with link.admission.admitted(priority) as waited:
                    effort.queued += waited
                    effort.begun = self._clock.monotonic()
                    attempts = self._attempts(link, work, effort, timeout, repeatable)
                    async with aclosing(attempts) as events:
                        async for event in events:
                            yield event
                return
            except InferenceError as error:
                if effort.first is not None and not repeatable:
                    raise
                failure = failure or error
                if number + 1 < len(self.links):
                    log.warning("call.fell_back", model=link.name, code=error.code)
        assert failure is not None
        raise failure

    async def _attempts(
        self,
        link: Backend[E],
        work: Callable[[E], AsyncGenerator[T, None]],
        effort: CallStats,
        timeout: float,
        repeatable: bool,
    ) -> AsyncGenerator[T, None]:
        for done in range(self._retries.limit + 1):
            try:
                async with aclosing(work(link.engine)) as events:
                    if (event := await self._first(events, timeout)) is not None:
                        effort.first = effort.first or self._clock.monotonic()
                        yield event
                        async for event in events:
                            yield event
                return
            except InferenceError as error:
                spoken = effort.first is not None and not repeatable
                if spoken or not error.retryable or done == self._retries.limit:
                    raise
                log.warning("call.retried", model=link.name, code=error.code, attempt=done + 1)
                effort.retries += 1
                await self._clock.sleep(self._retries.pause(done))

    async def _first(self, events: AsyncGenerator[T, None], timeout: float) -> T | None:
        upcoming = anext(events, None)
        try:
            return await wait_for(self._clock, upcoming, timeout) if timeout else await upcoming
        except TimeoutError:
            raise InferenceError(
                f"The model said nothing for {timeout:g} s. Try again.",
                code=ErrorCode.FIRST_TOKEN_TIMEOUT,
            ) from None

    async def close(self) -> None:
        await asyncio.gather(*(link.close() for link in self.links))


def _again(failure: InferenceError) -> InferenceError:
    """The same failure for another caller: a raised error collects a traceback of its own."""
    return InferenceError(
        failure.message,
        code=failure.code,
        retryable=failure.retryable,
        details=failure.details,
    )

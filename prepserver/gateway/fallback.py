"""Fallback chains: the models that share a job, in the order in which a call tries them."""

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

__all__ = ["Backend", "FallbackChain", "RetryPolicy"]

MAX_PAUSE = 5.0
"""Maximum seconds before a failed call or a failed attempt to load a model is retried. After the
last attempt, the model is not loaded again before this time has passed."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Model(Protocol):
    """Methods that language models and speech models share."""

    async def start(self) -> ModelInfo | None: ...
    async def close(self) -> None: ...


E = TypeVar("E", bound=Model)


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Maximum number of retries on the same model, and the pauses before them."""

    limit: int = 3
    """Maximum number of retries after the first attempt."""
    delay: float = 0.2
    """Seconds before the first retry."""
    backoff: Literal["constant", "linear", "exponential"] = "exponential"
    """Growth of the delay from one retry to the next."""

    def pause(self, retries: int) -> float:
        """Return the seconds to wait before the next attempt, after `retries` retries."""
        match self.backoff:
            case "constant":
                factor = 1
            case "linear":
                factor = retries + 1
            case "exponential":
                factor = 2**retries
        return min(MAX_PAUSE, self.delay * factor)


class Backend(Generic[E]):
    """One model of a fallback chain, with its state and its admission control."""

    def __init__(
        self, engine: E, name: str, clock: Clock, retries: RetryPolicy, admission: Admission
    ) -> None:
        """Create a backend that is called `name` until the loaded model reports its own name."""
        self.engine = engine
        self.name = name
        self.admission = admission
        self.info: ModelInfo | None = None
        self.state = "loading"
        """State of the model: `loading`, `ready` or `failed`."""
        self.failure: InferenceError | None = None
        self._clock = clock
        self._retries = retries
        self._failed_at = 0.0
        self._loading: asyncio.Task[None] | None = None

    def start(self, retries: int | None = None) -> None:
        """Start loading the model, with at most `retries` retries; by default, as many as for a
        call."""
        self.state = "loading"
        limit = self._retries.limit if retries is None else retries
        self._loading = asyncio.create_task(self._load(limit))

    async def wait_ready(self) -> ModelInfo | None:
        """Wait until the model is loaded. Return its properties, or None for a speech model.

        A model that failed to load with a retryable error is loaded again, at most once every
        `MAX_PAUSE` seconds, because an endpoint may have been down when the server started. Raises
        InferenceError if the model cannot be loaded.
        """
        if self._loading is None:
            raise InferenceError("The models are not being loaded.", retryable=False)
        paused = self._clock.monotonic() >= self._failed_at + MAX_PAUSE
        if (
            self.state == "failed"
            and self.failure is not None
            and self.failure.retryable
            and paused
        ):
            self.start(retries=0)
        loading = self._loading
        try:
            await asyncio.shield(loading)
        except asyncio.CancelledError:
            if loading.cancelled():
                raise InferenceError(
                    "The server is stopping. Try again in a moment.", code=ErrorCode.WORKER_CLOSED
                ) from None
            raise
        if self.failure is not None:
            raise _copy_error(self.failure)
        return self.info

    async def _load(self, limit: int) -> None:
        retries = 0
        while (failure := await self._try_load()) is not None:
            if not failure.retryable or retries >= limit:
                break
            log.warning("model.load_retried", model=self.name, code=failure.code)
            await self._clock.sleep(self._retries.pause(retries))
            retries += 1
        self.failure = failure
        if failure is None:
            self.state = "ready"
            log.info("model.ready", model=self.name)
        else:
            self.state = "failed"
            self._failed_at = self._clock.monotonic()
            log.error("model.failed", model=self.name, code=failure.code, message=failure.message)

    async def _try_load(self) -> InferenceError | None:
        try:
            self.info = await self.engine.start()
        except InferenceError as error:
            return error
        except PrepServerError as error:
            return InferenceError(error.message, code=error.code, retryable=error.retryable)
        except Exception:
            log.exception("model.load_failed")
            return InferenceError(
                "A model could not be loaded. See the server's log for the cause.",
                code=ErrorCode.MODEL_NOT_LOADED,
                retryable=False,
            )
        if self.info is not None:
            self.name = self.info.name
            self.admission.parallel = self.admission.parallel or max(1, self.info.parallel)
        return None

    async def close(self) -> None:
        """Stop loading and close the engine."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self.engine.close()


class FallbackChain(Generic[E]):
    """Backends of one job, which a call tries in order until one succeeds."""

    def __init__(self, backends: Sequence[Backend[E]], clock: Clock, retries: RetryPolicy) -> None:
        """Chain at least one backend. The first backend runs the primary model."""
        self.backends = tuple(backends)
        self._clock = clock
        self._retries = retries

    def start(self) -> None:
        """Start loading every model; calls made in the meantime wait."""
        for backend in self.backends:
            backend.start()

    @property
    def state(self) -> str:
        """State of the first backend that has not failed; `failed` if all backends have failed."""
        states = (backend.state for backend in self.backends if backend.state != "failed")
        return next(states, "failed")

    async def first_ready(self) -> Backend[E]:
        """Wait for the models in order, and return the first backend whose model is loaded.

        Raises InferenceError if no model can be loaded.
        """
        failure: InferenceError | None = None
        for backend in self.backends:
            try:
                await backend.wait_ready()
            except InferenceError as error:
                failure = failure or error
            else:
                return backend
        assert failure is not None
        raise failure

    async def stream(
        self,
        request: Callable[[E], AsyncGenerator[T, None]],
        stats: CallStats,
        priority: Priority,
        *,
        timeout: float = 0.0,
        repeatable: bool = False,
    ) -> AsyncGenerator[T, None]:
        """Yield the events of `request` from the first backend that succeeds.

        `timeout` is the maximum wait for the first event, in seconds; 0 disables the timeout. Once
        an event has been yielded, the call is attempted again only if `repeatable` is True, which
        means that the consumer accepts the events a second time. Raises the InferenceError of the
        primary model if every backend fails, because the server was configured for that model.
        """
        failure: InferenceError | None = None
        for index, backend in enumerate(self.backends):
            try:
                await backend.wait_ready()
                stats.fallback_index, stats.model = index, backend.name
                async with backend.admission.acquire_slot(priority) as waited:
                    stats.queued += waited
                    stats.started_at = self._clock.monotonic()
                    attempts = self._attempts(backend, request, stats, timeout, repeatable)
                    async with aclosing(attempts) as events:
                        async for event in events:
                            yield event
                return
            except InferenceError as error:
                if stats.first_event_at is not None and not repeatable:
                    raise
                failure = failure or error
                if index + 1 < len(self.backends):
                    log.warning("call.fell_back", model=backend.name, code=error.code)
        assert failure is not None
        raise failure

    async def _attempts(
        self,
        backend: Backend[E],
        request: Callable[[E], AsyncGenerator[T, None]],
        stats: CallStats,
        timeout: float,
        repeatable: bool,
    ) -> AsyncGenerator[T, None]:
        for attempt in range(self._retries.limit + 1):
            try:
                async with aclosing(request(backend.engine)) as events:
                    if (event := await self._first_event(events, timeout)) is not None:
                        stats.first_event_at = stats.first_event_at or self._clock.monotonic()
                        yield event
                        async for event in events:
                            yield event
                return
            except InferenceError as error:
                yielded = stats.first_event_at is not None and not repeatable
                if yielded or not error.retryable or attempt == self._retries.limit:
                    raise
                log.warning(
                    "call.retried", model=backend.name, code=error.code, attempt=attempt + 1
                )
                stats.retries += 1
                await self._clock.sleep(self._retries.pause(attempt))

    async def _first_event(self, events: AsyncGenerator[T, None], timeout: float) -> T | None:
        upcoming = anext(events, None)
        try:
            return await wait_for(self._clock, upcoming, timeout) if timeout else await upcoming
        except TimeoutError:
            raise InferenceError(
                f"The model did not start its reply within {timeout:g} s. Try again.",
                code=ErrorCode.FIRST_TOKEN_TIMEOUT,
            ) from None

    async def close(self) -> None:
        """Close every backend."""
        await asyncio.gather(*(backend.close() for backend in self.backends))


def _copy_error(failure: InferenceError) -> InferenceError:
    """Return a copy of an error for another caller: raising one object twice accumulates
    tracebacks."""
    return InferenceError(
        failure.message,
        code=failure.code,
        retryable=failure.retryable,
        details=failure.details,
    )

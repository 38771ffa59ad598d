"""Every call of a model passes here: charged to its user, retried when an engine dies, timed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

import structlog
from msgspec import Struct

from prepserver.ai.values import (
    Delta,
    LanguageModel,
    ModelInfo,
    Prompt,
    Speech,
    SpeechModel,
    Usage,
)
from prepserver.clock import Clock
from prepserver.errors import InferenceError, PrepServerError
from prepserver.protocol import Quota

__all__ = ["Call", "Gateway", "Limiter"]

INTERVIEWER, EARS = "interviewer", "ears"
"""What the models are for."""

RETRIES = 3
FIRST_RETRY = 0.2
"""Seconds; doubles with each retry."""

log = structlog.get_logger(__name__)


class Call(Struct, frozen=True, kw_only=True):
    """Who asks a model for what, and why."""

    purpose: str
    user: str
    interview: str
    request: str
    """Names the request: the same name is charged once, however often it is tried."""


class Limiter(Protocol):
    """Counts requests. `charge` raises RateLimited."""

    async def charge(self, user: str, request: str) -> Quota: ...
    async def quota(self, user: str) -> Quota: ...


class Gateway:
    """The only way to a model."""

    def __init__(
        self, language: LanguageModel, speech: SpeechModel, limiter: Limiter, clock: Clock
    ) -> None:
        self._language = language
        self._speech = speech
        self._limiter = limiter
        self._clock = clock
        self._info: asyncio.Future[ModelInfo] | None = None
        self._loading: set[asyncio.Task[None]] = set()
        self.states = {INTERVIEWER: "loading", EARS: "loading"}
        """Each model's job and its state: `loading`, `ready` or `failed`."""
        self.failures: dict[str, str] = {}
        """Why a model did not load."""

    # --- Loading ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to load the models; calls made meanwhile wait for them."""
        self._info = asyncio.get_running_loop().create_future()
        for job, load in ((INTERVIEWER, self._load_language), (EARS, self._speech.start)):
            task = asyncio.create_task(self._load(job, load))
            self._loading.add(task)
            task.add_done_callback(self._loading.discard)

    async def _load(self, job: str, load: Callable[[], Awaitable[None]]) -> None:
        attempt = 0
        while (failure := await self._try_to_load(load)) is not None:
            if not failure.retryable or attempt >= RETRIES:
                break
            log.warning("model.retried", job=job, code=failure.code)
            await self._clock.sleep(FIRST_RETRY * 2**attempt)
            attempt += 1
        if failure is None:
            self.states[job] = "ready"
            log.info("model.ready", job=job)
            return
        self.states[job] = "failed"
        self.failures[job] = failure.message
        log.error("model.failed", job=job, code=failure.code, message=failure.message)
        if job == INTERVIEWER and self._info is not None:
            self._info.set_exception(failure)
            self._info.exception()  # each call that waits for it raises it anew

    async def _try_to_load(self, load: Callable[[], Awaitable[None]]) -> PrepServerError | None:
        try:
            await load()
        except PrepServerError as error:
            return error
        except Exception:
            log.exception("model.load_failed")
            return InferenceError(
                "A model could not be loaded; the server's log says why.",
                code="model_not_loaded",
                retryable=False,
            )
        return None

    async def _load_language(self) -> None:
        assert self._info is not None
        self._info.set_result(await self._language.start())

    async def info(self) -> ModelInfo:
        """The interviewer's model, once it is loaded. Raises InferenceError."""
        if self._info is None:
            raise InferenceError("The models are not being loaded.", retryable=False)
        return await asyncio.shield(self._info)

    # --- Calls --------------------------------------------------------------------------------

    async def quota(self, user: str) -> Quota:
        return await self._limiter.quota(user)

    async def generate(self, call: Call, prompt: Prompt) -> AsyncGenerator[Delta | Usage, None]:
        """Deltas, then one Usage.

        A retryable failure is retried while no text has left; after that it is the caller's to
        start over. Raises RateLimited, InferenceError.
        """
        await self._limiter.charge(call.user, call.request)
        await self.info()
        started = self._clock.monotonic()
        first: float | None = None
        for attempt in range(RETRIES + 1):
            try:
                async with aclosing(self._language.generate(prompt)) as stream:
                    async for event in stream:
                        if first is None and isinstance(event, Delta):
                            first = self._clock.monotonic()
                        if isinstance(event, Usage):
                            self._log(call, started, first, attempt, event)
                        yield event
                return
            except InferenceError as error:
                if first is not None or not await self._retry(call, error, attempt):
                    raise

    async def transcribe(self, call: Call, pcm: bytes, vocabulary: str = "") -> Speech:
        """Write down a recording (PCM16 little-endian, 16 kHz, mono).

        Raises RateLimited, InferenceError.
        """
        await self._limiter.charge(call.user, call.request)
        started = self._clock.monotonic()
        for attempt in range(RETRIES + 1):
            try:
                speech = await self._speech.transcribe(pcm, vocabulary)
            except InferenceError as error:
                if not await self._retry(call, error, attempt):
                    raise
            else:
                self._log(call, started, None, attempt, None)
                return speech
        raise AssertionError("the last attempt returns or raises")

    async def _retry(self, call: Call, error: InferenceError, attempt: int) -> bool:
        """Wait before the next attempt; False when there is none."""
        if not error.retryable or attempt >= RETRIES:
            return False
        log.warning("call.retried", purpose=call.purpose, code=error.code, attempt=attempt + 1)
        await self._clock.sleep(FIRST_RETRY * 2**attempt)
        return True

    def _log(
        self, call: Call, started: float, first: float | None, retries: int, usage: Usage | None
    ) -> None:
        log.info(
            "call.done",
            purpose=call.purpose,
            interview=call.interview,
            retries=retries,
            seconds=round(self._clock.monotonic() - started, 3),
            first_token=None if first is None else round(first - started, 3),
            prompt_tokens=usage and usage.prompt_tokens,
            cached_tokens=usage and usage.cached_tokens,
            completion_tokens=usage and usage.completion_tokens,
        )

    async def close(self) -> None:
        for task in list(self._loading):
            task.cancel()
        await asyncio.gather(self._language.close(), self._speech.close())

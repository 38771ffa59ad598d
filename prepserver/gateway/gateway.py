"""Gateway: the single path to every model, with accounting, admission, fallback and telemetry."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from contextlib import aclosing

import structlog
from msgspec import Struct

from prepserver.clock import Clock, wait_for
from prepserver.engines.types import (
    NOTHING_EXPECTED,
    EngineStats,
    ExpectedSpeech,
    LanguageModel,
    ModelInfo,
    PartialTranscript,
    Prompt,
    SpeechModel,
    SpeechStats,
    TextDelta,
    Transcription,
    Usage,
)
from prepserver.errors import InferenceError
from prepserver.gateway.admission import Admission
from prepserver.gateway.fallback import Backend, RetryPolicy
from prepserver.gateway.pool import ModelPool, ModelSource
from prepserver.gateway.prefill import PrefillTasks
from prepserver.gateway.reply_cache import ReplyCache, request_key
from prepserver.gateway.speech import SpeechGateway
from prepserver.gateway.usage import RequestLimiter, UsageBudget, UsageMeter
from prepserver.telemetry.call_log import CallLog
from prepserver.telemetry.calls import DROPPED, Call, CallRecord, CallStats
from prepserver.telemetry.recorder import Recorder
from prepserver.telemetry.stats import ModelLoad
from prepserver.wire.protocol import Quota

__all__ = ["Call", "Gateway", "GatewayPolicy", "RequestLimiter"]

INTERVIEWER, TRANSCRIBER = "interviewer", "transcriber"
"""Names of the jobs that models perform."""

STATS_TIMEOUT = 2.0
"""Maximum seconds that an engine may take to report its statistics."""

log = structlog.get_logger(__name__)


class GatewayPolicy(Struct, frozen=True, kw_only=True):
    """Policy for calls: limits, retries and caching. The settings with the same names describe the
    fields."""

    retries: RetryPolicy = RetryPolicy()
    first_token_timeout: float = 300.0
    """Maximum seconds from the start of an attempt to the first text; 0 disables the timeout."""
    parallel: int = 0
    """Maximum number of replies that a language model computes at once; 0 uses the number that the
    model reports."""
    max_transcriptions: int = 16
    """Maximum number of recordings that a speech model transcribes at once."""
    max_queue: int = 64
    """Maximum number of calls that may wait for one model."""
    memory: int = 0
    """Bytes of memory within which sets of models stay open; 0 means no bound."""
    reply_cache_purposes: frozenset[str] = frozenset()
    reply_cache_ttl: float = 3_600.0
    """Seconds for which a reply is cached; 0 disables the cache."""


class Gateway:
    """Path of every call to a model: accounting, admission, retries, fallback and logging."""

    def __init__(
        self,
        source: ModelSource,
        limiter: RequestLimiter,
        clock: Clock,
        policy: GatewayPolicy | None = None,
        *,
        budget: UsageBudget | None = None,
        call_log: CallLog | None = None,
        observers: Sequence[Callable[[CallRecord], None]] = (),
    ) -> None:
        """Open the sets of `source` on demand. A call names its set in `Call.model_set`.

        `observers` receive the record of every finished call, as the call log does. The gateway
        owns the models and closes them. The caller closes `limiter`, `budget` and `call_log`.
        """
        self._clock = clock
        self._policy = policy = policy or GatewayPolicy()
        self._pool = ModelPool(source, clock, policy.retries, self._admission, policy.memory)
        self._prefills = PrefillTasks()
        self._reply_cache = ReplyCache(clock)
        self._call_log = call_log
        self._usage = UsageMeter(limiter, budget)
        self._recorder = Recorder(
            clock,
            observers if call_log is None else (call_log.add, *observers),
            keep_text=call_log is not None and call_log.keep_text,
        )
        self._speech = SpeechGateway(self._pool, self._usage, self._recorder, clock)

    def _admission(self, speech: bool) -> Admission:
        parallel = self._policy.max_transcriptions if speech else self._policy.parallel
        return Admission(self._clock, parallel=parallel, max_queue=self._policy.max_queue)

    # --- Models -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start loading the set that new interviews use; calls made in the meantime wait for it.

        Raises PrepServerError if a model of the set is missing or damaged.
        """
        self._pool.start()

    def choose_set(self, name: str) -> str:
        """Return the name of the set that an interview uses which asks for `name`: `name` itself if
        the server offers it, otherwise the set that replaces it."""
        return self._pool.resolve(name)

    async def open_set(self, name: str) -> None:
        """Start loading a set before its first call. Failures are logged, not raised."""
        try:
            async with self._pool.use(name):
                return
        except InferenceError as error:
            log.warning("model_set.not_opened", set=name, message=error.message)

    @property
    def model_states(self) -> dict[str, str]:
        """State of each job in the set that new interviews use: `loading`, `ready` or `failed`."""
        current = self._pool.current
        if current is None:
            return {INTERVIEWER: "loading", TRANSCRIBER: "loading"}
        return {INTERVIEWER: current.language.state, TRANSCRIBER: current.speech.state}

    def model_loads(self) -> list[ModelLoad]:
        """Return the current load of every model of the open sets, by job."""
        return [
            ModelLoad(
                job=job,
                model=backend.name,
                state=backend.state,
                parallel=backend.admission.parallel,
                running=backend.admission.running,
                waiting=backend.admission.waiting,
                wait=backend.admission.estimate().seconds,
            )
            for job, backends in (
                (INTERVIEWER, self._language_backends()),
                (TRANSCRIBER, self._speech_backends()),
            )
            for backend in backends
        ]

    def _language_backends(self) -> list[Backend[LanguageModel]]:
        return [backend for each in self._pool.sets for backend in each.language.backends]

    def _speech_backends(self) -> list[Backend[SpeechModel]]:
        return [backend for each in self._pool.sets for backend in each.speech.backends]

    async def engine_stats(self) -> list[tuple[str, EngineStats | SpeechStats]]:
        """Return the model name and the statistics of every loaded engine.

        An engine that fails or does not answer within `STATS_TIMEOUT` seconds is left out.
        """
        backends: list[Backend[LanguageModel] | Backend[SpeechModel]]
        backends = [*self._language_backends(), *self._speech_backends()]
        return [
            (backend.name, stats)
            for backend in backends
            if backend.state == "ready" and (stats := await self._stats_of(backend)) is not None
        ]

    async def _stats_of(
        self, backend: Backend[LanguageModel] | Backend[SpeechModel]
    ) -> EngineStats | SpeechStats | None:
        stats: Awaitable[EngineStats | SpeechStats] = backend.engine.stats()
        try:
            return await wait_for(self._clock, stats, STATS_TIMEOUT)
        except (InferenceError, TimeoutError) as error:
            log.warning("engine.stats_failed", model=backend.name, error=str(error))
            return None

    async def model_info(self, call: Call) -> ModelInfo:
        """Return the properties of the first language model of the call's set that can be loaded.

        Prompts are built for this model. Raises InferenceError if no language model can be loaded.
        """
        async with self._pool.use(call.model_set) as models:
            info = (await models.language.first_ready()).info
        assert info is not None
        return info

    # --- Calls --------------------------------------------------------------------------------

    async def quota(self, user: str) -> Quota:
        """Return the user's quota of requests."""
        return await self._usage.quota(user)

    async def generate(self, call: Call, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        """Yield the text deltas of a reply, then one Usage.

        A call that fails with a retryable error is retried only if no delta has been yielded yet;
        otherwise, the caller has to start again. Equal requests from one user share a reply. Raises
        RateLimited, or InferenceError with the code `overloaded`, `first_token_timeout` or a code
        of the models.
        """
        with self._recorder.record_call(call, "generate", _prompt_text(prompt)) as open_call:
            record, started_at = open_call.record, self._clock.monotonic()
            await self._usage.charge_request(call)
            async with self._pool.use(call.model_set) as models:
                model = (await models.language.first_ready()).name
            await self._prefills.cancel_prefill(prompt.conversation)
            cacheable = call.purpose in self._policy.reply_cache_purposes
            reply = self._reply_cache.open_reply(
                request_key(call.user, model, prompt),
                call.interview,
                self._policy.reply_cache_ttl if cacheable else 0.0,
                lambda stats: self._compute_reply(call, prompt, stats),
            )
            open_call.stats, record.shared = reply.stats, reply.shared
            async with aclosing(reply.events) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        if record.first_token is None:
                            record.first_token = self._clock.monotonic() - started_at
                        if record.reply is not None:
                            record.reply += event.text
                    elif not record.shared:
                        record.prompt_tokens = event.prompt_tokens
                        record.cached_tokens = event.cached_tokens
                        record.completion_tokens = event.completion_tokens
                        record.compute = event.seconds
                    yield event

    async def _compute_reply(
        self, call: Call, prompt: Prompt, stats: CallStats
    ) -> AsyncGenerator[TextDelta | Usage, None]:
        """Yield the events of a reply, and record the usage even if the reply is cancelled."""
        deltas, usage, failed = 0, None, False
        try:
            async with (
                self._pool.use(call.model_set) as models,
                aclosing(
                    models.language.stream(
                        lambda model: model.generate(prompt),
                        stats,
                        prompt.priority,
                        timeout=self._policy.first_token_timeout,
                    )
                ) as events,
            ):
                async for event in events:
                    if isinstance(event, Usage):
                        usage = event
                    else:
                        deltas += 1
                    yield event
        except Exception:
            failed = True
            raise
        finally:
            if usage is not None:
                computed = usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens
                await self._usage.record_usage(call.user, computed, usage.seconds)
            elif stats.started_at is not None and not failed:
                # A cancelled reply has no Usage. Each of its deltas is at least one token.
                seconds = self._clock.monotonic() - stats.started_at
                await self._usage.record_usage(call.user, deltas, seconds)

    async def transcribe(
        self, call: Call, pcm: bytes, expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> Transcription:
        """Transcribe a recording (PCM16 little-endian, 16 kHz, mono).

        Raises RateLimited or InferenceError.
        """
        return await self._speech.transcribe(call, pcm, expected)

    def transcribe_live(
        self,
        call: Call,
        audio: Callable[[], AsyncIterable[bytes]],
        expected: ExpectedSpeech = NOTHING_EXPECTED,
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """Yield captions of a recording while its audio arrives, then one Transcription. See
        `SpeechGateway.transcribe_live`."""
        return self._speech.transcribe_live(call, audio, expected)

    # --- Conversation state -------------------------------------------------------------------

    async def prefill(self, call: Call, prompt: Prompt) -> bool:
        """Compute the KV cache of a prompt before the reply is requested.

        Return True if the cache was computed. The user is not charged. The prefill is dropped if
        the primary model is not ready or fails, no slot is idle, a call needs the slot, or a later
        request for the conversation arrives. Failures are logged, not raised.
        """
        try:
            with self._recorder.record_call(call, "prefill", _prompt_text(prompt)) as open_call:
                async with self._pool.use(call.model_set) as models:
                    backend = models.language.backends[0]
                    open_call.stats.model = backend.name
                    open_call.stats.started_at = self._clock.monotonic()
                    if await self._prefills.run_prefill(backend, prompt):
                        return True
                open_call.record.outcome = DROPPED
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
        except InferenceError as error:
            log.info("prefill.failed", interview=call.interview, code=error.code)
        except Exception:
            log.exception("prefill.failed", interview=call.interview)
        return False

    async def offload(self, conversation: str) -> None:
        """Move the KV state of a conversation to disk. Failures are logged, not raised."""
        await self._prefills.cancel_prefill(conversation)
        await self._on_ready_models("offload", lambda model: model.offload(conversation))

    async def discard(self, conversation: str) -> None:
        """Discard the KV state, the cached replies and the logged text of a conversation.

        Failures are logged, not raised.
        """
        await self._prefills.cancel_prefill(conversation)
        await self._on_ready_models("discard", lambda model: model.discard(conversation))
        self._reply_cache.discard_interview(conversation)
        if self._call_log is not None:
            await self._call_log.erase_text(conversation)

    async def _on_ready_models(
        self, action_name: str, action: Callable[[LanguageModel], Awaitable[None]]
    ) -> None:
        for backend in self._language_backends():
            if backend.state != "ready":
                continue
            try:
                await action(backend.engine)
            except InferenceError as error:
                log.warning(
                    f"conversation.{action_name}_failed", model=backend.name, code=error.code
                )
            except Exception:
                log.exception(f"conversation.{action_name}_failed", model=backend.name)

    async def close(self) -> None:
        """Cancel all prefills, close the models and wait for pending accounting."""
        await self._prefills.close()
        await self._pool.close()
        await self._usage.close()


def _prompt_text(prompt: Prompt) -> str:
    """Return the prompt's text for the call log."""
    turns = "".join(f"<{turn.role}>\n{turn.content}\n" for turn in prompt.turns)
    return f"{turns}{prompt.text}{prompt.opening}"

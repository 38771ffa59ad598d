"""Every call of a model passes here: charged to its user, admitted, retried, timed, recorded."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Literal

import structlog
from msgspec import Struct

from prepserver.clock import Clock, wait_for
from prepserver.engines.types import (
    EngineStats,
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
from prepserver.gateway.fallback import Backend, FallbackChain, Retries
from prepserver.gateway.prefill import PrefillTasks
from prepserver.gateway.reply_cache import ReplyCache, key_of
from prepserver.gateway.speech import SpeechGateway
from prepserver.gateway.usage import Limiter, Spending, UsageMeter
from prepserver.telemetry.call_log import CallLog
from prepserver.telemetry.calls import DROPPED, Call, CallRecord, CallStats
from prepserver.telemetry.recorder import Recorder
from prepserver.telemetry.stats import Load
from prepserver.wire.protocol import Quota

__all__ = ["Call", "Gateway", "Limiter", "Policy"]

INTERVIEWER, EARS = "interviewer", "ears"
"""What the models are for."""

STATS_SECONDS = 2.0
"""That an engine may take to say how it does."""

log = structlog.get_logger(__name__)


class Policy(Struct, frozen=True, kw_only=True):
    """How calls are handled; the settings of the same names say more."""

    retries: Retries = Retries()
    first_token_timeout: float = 300.0
    parallel: int = 0
    """0: as many as the model says."""
    listeners: int = 16
    queue: int = 64
    cache_purposes: frozenset[str] = frozenset()
    cache_ttl: float = 3_600.0


class Gateway:
    """The only way to a model."""

    def __init__(
        self,
        language: LanguageModel,
        speech: SpeechModel,
        limiter: Limiter,
        clock: Clock,
        policy: Policy | None = None,
        *,
        fallback: Sequence[LanguageModel] = (),
        speech_fallback: Sequence[SpeechModel] = (),
        spending: Spending | None = None,
        calls: CallLog | None = None,
        observers: Sequence[Callable[[CallRecord], None]] = (),
    ) -> None:
        """The fallbacks step in, in their order, for a model that fails. `observers` are told of
        every call that has ended, as the log is. Of what is handed in the models are closed."""
        self._clock = clock
        self._policy = policy = policy or Policy()
        self._language = FallbackChain(
            [
                Backend(model, INTERVIEWER, clock, policy.retries, self._door(policy.parallel))
                for model in (language, *fallback)
            ],
            clock,
            policy.retries,
        )
        ears = FallbackChain(
            [
                Backend(model, model.name, clock, policy.retries, self._door(policy.listeners))
                for model in (speech, *speech_fallback)
            ],
            clock,
            policy.retries,
        )
        self._prefills = PrefillTasks()
        self._answers = ReplyCache(clock)
        self._calls = calls
        self._account = UsageMeter(limiter, spending)
        self._recorder = Recorder(
            clock,
            observers if calls is None else (calls.add, *observers),
            keep_text=calls is not None and calls.keep_text,
        )
        self._ears = SpeechGateway(ears, self._account, self._recorder, clock)

    def _door(self, parallel: int) -> Admission:
        return Admission(self._clock, parallel=parallel, limit=self._policy.queue)

    # --- Loading ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to load the models; calls made meanwhile wait for them."""
        for chain in (self._language, self._ears.chain):
            chain.start()

    @property
    def states(self) -> dict[str, str]:
        """Each model's job and its state: `loading`, `ready` or `failed`."""
        return {INTERVIEWER: self._language.state, EARS: self._ears.chain.state}

    def loads(self) -> list[Load]:
        """How busy each model is, the first of each chain first."""
        return [
            Load(
                job=job,
                model=link.name,
                state=link.state,
                parallel=link.admission.parallel,
                running=link.admission.running,
                waiting=link.admission.waiting,
                wait=link.admission.estimate().seconds,
            )
            for job, links in ((INTERVIEWER, self._language.links), (EARS, self._ears.chain.links))
            for link in links
        ]

    async def engines(self) -> list[tuple[str, EngineStats | SpeechStats]]:
        """What the engines that are loaded count, by the names of their models; one that does
        not answer soon is left out."""
        links: list[Backend[LanguageModel] | Backend[SpeechModel]]
        links = [*self._language.links, *self._ears.chain.links]
        return [
            (link.name, stats)
            for link in links
            if link.state == "ready" and (stats := await self._stats(link)) is not None
        ]

    async def _stats(
        self, link: Backend[LanguageModel] | Backend[SpeechModel]
    ) -> EngineStats | SpeechStats | None:
        asked: Awaitable[EngineStats | SpeechStats] = link.engine.stats()
        try:
            return await wait_for(self._clock, asked, STATS_SECONDS)
        except (InferenceError, TimeoutError) as error:
            log.warning("stats.not_given", model=link.name, error=str(error))
            return None

    async def info(self) -> ModelInfo:
        """The model that prompts are to be made for: the first that is loaded.

        Raises InferenceError.
        """
        info = (await self._language.first()).info
        assert info is not None
        return info

    # --- Calls --------------------------------------------------------------------------------

    async def quota(self, user: str) -> Quota:
        return await self._account.quota(user)

    async def generate(self, call: Call, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        """Deltas, then one Usage.

        A retryable failure is retried while no text has left; after that it is the caller's to
        start over. Equal requests of a user share one reply. Raises RateLimited, and
        InferenceError: `overloaded`, `first_token_timeout`, and what the models report.
        """
        with self._recorder.recording(call, "generate", _text(prompt)) as entry:
            record, started = entry.record, self._clock.monotonic()
            await self._account.charge(call)
            model = (await self._language.first()).name
            await self._prefills.stop(prompt.conversation)
            reading = self._answers.read(
                key_of(call.user, model, prompt),
                call.interview,
                self._policy.cache_ttl if call.purpose in self._policy.cache_purposes else 0.0,
                lambda effort: self._written(call.user, prompt, effort),
            )
            entry.effort, record.shared = reading.effort, reading.shared
            async with aclosing(reading.events) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        if record.first is None:
                            record.first = self._clock.monotonic() - started
                        if record.reply is not None:
                            record.reply += event.text
                    elif not record.shared:
                        record.prompt_tokens = event.prompt_tokens
                        record.cached_tokens = event.cached_tokens
                        record.completion_tokens = event.completion_tokens
                        record.compute = event.seconds
                    yield event

    async def _written(
        self, user: str, prompt: Prompt, effort: CallStats
    ) -> AsyncGenerator[TextDelta | Usage, None]:
        """The reply of a model; what it cost is counted also when it is given up."""
        pieces, usage, failed = 0, None, False
        events = self._language.run(
            lambda model: model.generate(prompt),
            effort,
            prompt.priority,
            timeout=self._policy.first_token_timeout,
        )
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Usage):
                        usage = event
                    else:
                        pieces += 1
                    yield event
        except Exception:
            failed = True
            raise
        finally:
            if usage is not None:
                computed = usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens
                await self._account.bill(user, computed, usage.seconds)
            elif effort.begun is not None and not failed:
                # A piece of text is one token, or more.
                await self._account.bill(user, pieces, self._clock.monotonic() - effort.begun)

    async def transcribe(self, call: Call, pcm: bytes, vocabulary: str = "") -> Transcription:
        """Write down a recording (PCM16 little-endian, 16 kHz, mono).

        Raises RateLimited, InferenceError.
        """
        return await self._ears.transcribe(call, pcm, vocabulary)

    def transcribe_live(
        self, call: Call, audio: Callable[[], AsyncIterable[bytes]], vocabulary: str = ""
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """Transcribe a recording while it arrives. See `SpeechGateway.transcribe_live`."""
        return self._ears.transcribe_live(call, audio, vocabulary)

    # --- What is kept for a conversation ------------------------------------------------------

    async def prefill(self, call: Call, prompt: Prompt) -> bool:
        """Have a prompt of a conversation read ahead of its `generate`, if there is time for it;
        whether there was.

        Never charged. Dropped when every place at the engine is taken, when somebody else needs
        its place, when a later prompt of the conversation comes, and when it fails: nothing of
        that is raised.
        """
        link = self._language.links[0]
        try:
            with self._recorder.recording(call, "prefill", _text(prompt)) as entry:
                entry.effort.model, entry.effort.begun = link.name, self._clock.monotonic()
                if await self._prefills.run(link, prompt):
                    return True
                entry.record.outcome = DROPPED
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
        """Have what is kept for a conversation moved to disk; a failure is logged, not raised."""
        await self._prefills.stop(conversation)
        await self._tell("offload", conversation)

    async def discard(self, conversation: str) -> None:
        """Have what is kept for a conversation removed; a failure is logged, not raised."""
        await self._prefills.stop(conversation)
        await self._tell("discard", conversation)
        self._answers.forget(conversation)
        if self._calls is not None:
            await self._calls.forget(conversation)

    async def _tell(self, what: Literal["offload", "discard"], conversation: str) -> None:
        for link in self._language.links:
            if link.state != "ready":
                continue
            try:
                match what:
                    case "offload":
                        await link.engine.offload(conversation)
                    case "discard":
                        await link.engine.discard(conversation)
            except InferenceError as error:
                log.warning(f"conversation.{what}_failed", model=link.name, code=error.code)
            except Exception:
                log.exception(f"conversation.{what}_failed", model=link.name)

    async def close(self) -> None:
        await self._prefills.close()
        await asyncio.gather(self._language.close(), self._ears.chain.close())
        await self._account.close()


def _text(prompt: Prompt) -> str:
    """All that the model is given to read."""
    turns = "".join(f"<{turn.role}>\n{turn.content}\n" for turn in prompt.turns)
    return f"{turns}{prompt.text}{prompt.opening}"

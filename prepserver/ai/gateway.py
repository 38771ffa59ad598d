"""Every call of a model passes here: charged to its user, admitted, retried, timed, recorded."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager
from typing import Literal, Protocol

import structlog
from msgspec import Struct

from prepserver.ai.admission import Admission
from prepserver.ai.calls import CANCELLED, DROPPED, Call, Kind, Record
from prepserver.ai.chain import Chain, Effort, Link, Retries
from prepserver.ai.prefills import Prefills
from prepserver.ai.values import (
    Caption,
    Delta,
    LanguageModel,
    ModelInfo,
    Priority,
    Prompt,
    Speech,
    SpeechModel,
    Usage,
)
from prepserver.clock import Clock
from prepserver.errors import InferenceError, PrepServerError
from prepserver.protocol import Quota

__all__ = ["Call", "Gateway", "Limiter", "Policy"]

INTERVIEWER, EARS = "interviewer", "ears"
"""What the models are for."""

log = structlog.get_logger(__name__)


class Limiter(Protocol):
    """Counts requests. `charge` raises RateLimited."""

    async def charge(self, user: str, request: str) -> Quota: ...
    async def quota(self, user: str) -> Quota: ...


class Policy(Struct, frozen=True, kw_only=True):
    """How calls are handled; the settings of the same names say more."""

    retries: Retries = Retries()
    first_token_timeout: float = 300.0
    parallel: int = 0
    """0: as many as the model says."""
    listeners: int = 16
    queue: int = 64


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
    ) -> None:
        """The fallbacks step in, in their order, for a model that fails."""
        self._limiter = limiter
        self._clock = clock
        self._policy = policy = policy or Policy()
        self._language = Chain(
            [
                Link(model, INTERVIEWER, clock, policy.retries, self._door(policy.parallel))
                for model in (language, *fallback)
            ],
            clock,
            policy.retries,
        )
        self._speech = Chain(
            [
                Link(model, model.name, clock, policy.retries, self._door(policy.listeners))
                for model in (speech, *speech_fallback)
            ],
            clock,
            policy.retries,
        )
        self._prefills = Prefills()

    def _door(self, parallel: int) -> Admission:
        return Admission(self._clock, parallel=parallel, limit=self._policy.queue)

    # --- Loading ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to load the models; calls made meanwhile wait for them."""
        for chain in (self._language, self._speech):
            chain.start()

    @property
    def states(self) -> dict[str, str]:
        """Each model's job and its state: `loading`, `ready` or `failed`."""
        return {INTERVIEWER: self._language.state, EARS: self._speech.state}

    @property
    def running(self) -> int:
        """How many calls the language models work on."""
        return sum(link.admission.running for link in self._language.links)

    async def info(self) -> ModelInfo:
        """The model that prompts are to be made for: the first that is loaded.

        Raises InferenceError.
        """
        info = (await self._language.first()).info
        assert info is not None
        return info

    # --- Calls --------------------------------------------------------------------------------

    async def quota(self, user: str) -> Quota:
        return await self._limiter.quota(user)

    async def generate(self, call: Call, prompt: Prompt) -> AsyncGenerator[Delta | Usage, None]:
        """Deltas, then one Usage.

        A retryable failure is retried while no text has left; after that it is the caller's to
        start over. Raises RateLimited, InferenceError.
        """
        with self._recorded(call, "generate") as (record, effort):
            await self._limiter.charge(call.user, call.request)
            await self._prefills.stop(prompt.conversation)
            events = self._language.run(
                lambda model: model.generate(prompt),
                effort,
                prompt.priority,
                timeout=self._policy.first_token_timeout,
            )
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Usage):
                        record.prompt_tokens = event.prompt_tokens
                        record.cached_tokens = event.cached_tokens
                        record.completion_tokens = event.completion_tokens
                        record.compute = event.seconds
                    yield event

    async def transcribe(self, call: Call, pcm: bytes, vocabulary: str = "") -> Speech:
        """Write down a recording (PCM16 little-endian, 16 kHz, mono).

        Raises RateLimited, InferenceError.
        """

        async def written(model: SpeechModel) -> AsyncGenerator[Speech, None]:
            yield await model.transcribe(pcm, vocabulary)

        with self._recorded(call, "transcribe") as (record, effort):
            await self._limiter.charge(call.user, call.request)
            async with aclosing(self._speech.run(written, effort, Priority.ANSWER)) as events:
                speech = await anext(events)
            record.audio = speech.seconds
            return speech

    async def listen(
        self, call: Call, audio: Callable[[], AsyncIterable[bytes]], vocabulary: str = ""
    ) -> AsyncGenerator[Caption | Speech, None]:
        """Write down while it is spoken: captions, then one Speech.

        `audio()` gives the recording from its beginning, as far as there is, and then what comes
        until it ends. It is asked again when the engine dies; captions that say less than was
        said already, or otherwise, are then held back, and the Speech is what counts.
        Raises RateLimited, InferenceError, and what the source raises.
        """

        async def heard(model: SpeechModel) -> AsyncGenerator[Caption | Speech, None]:
            async with (
                aclosing(_pieces(audio())) as pieces,
                aclosing(model.listen(pieces, vocabulary)) as events,
            ):
                async for event in events:
                    yield event

        with self._recorded(call, "listen") as (record, effort):
            await self._limiter.charge(call.user, call.request)
            final = ""
            events = self._speech.run(heard, effort, Priority.ANSWER, repeatable=True)
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Speech):
                        record.audio = event.seconds
                    elif event.final.startswith(final):
                        final = event.final
                    else:
                        continue
                    yield event

    # --- What is kept for a conversation ------------------------------------------------------

    async def prefill(self, call: Call, prompt: Prompt) -> None:
        """Have a prompt of a conversation read ahead of its `generate`, if there is time for it.

        Never charged. Dropped when every place at the engine is taken, when somebody else needs
        its place, when a later prompt of the conversation comes, and when it fails: nothing of
        that is raised.
        """
        link = self._language.links[0]
        try:
            with self._recorded(call, "prefill") as (record, effort):
                effort.model, effort.begun = link.name, self._clock.monotonic()
                if not await self._prefills.run(link, prompt):
                    record.outcome = DROPPED
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
        except InferenceError as error:
            log.info("prefill.failed", interview=call.interview, code=error.code)
        except Exception:
            log.exception("prefill.failed", interview=call.interview)

    async def park(self, conversation: str) -> None:
        """Have what is kept for a conversation moved to disk; a failure is logged, not raised."""
        await self._prefills.stop(conversation)
        await self._tell("park", conversation)

    async def forget(self, conversation: str) -> None:
        """Have what is kept for a conversation removed; a failure is logged, not raised."""
        await self._prefills.stop(conversation)
        await self._tell("forget", conversation)

    async def _tell(self, what: Literal["park", "forget"], conversation: str) -> None:
        for link in self._language.links:
            if link.state != "ready":
                continue
            try:
                match what:
                    case "park":
                        await link.engine.park(conversation)
                    case "forget":
                        await link.engine.forget(conversation)
            except InferenceError as error:
                log.warning(f"conversation.{what}_failed", model=link.name, code=error.code)
            except Exception:
                log.exception(f"conversation.{what}_failed", model=link.name)

    # --- Records ------------------------------------------------------------------------------

    @contextmanager
    def _recorded(self, call: Call, kind: Kind) -> Generator[tuple[Record, Effort], None, None]:
        """A record that is closed, with the outcome, when the call ends in whatever way."""
        started = self._clock.monotonic()
        effort = Effort()
        record = Record(
            at=self._clock.now(),
            kind=kind,
            purpose=call.purpose,
            user=call.user,
            interview=call.interview,
            request=call.request,
            metadata=call.metadata,
        )
        try:
            yield record, effort
        except PrepServerError as error:
            record.outcome = error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            record.outcome = CANCELLED
            raise
        except Exception:
            record.outcome = PrepServerError.default_code
            raise
        finally:
            ended = self._clock.monotonic()
            record.model, record.step = effort.model, effort.step
            record.retries, record.queued = effort.retries, effort.queued
            record.duration = ended - started
            if effort.first is not None and kind == "generate":
                record.first = effort.first - started
            if effort.begun is not None and not record.compute:
                record.compute = ended - effort.begun
            self._log(record)

    def _log(self, record: Record) -> None:
        log.info(
            "call.done",
            kind=record.kind,
            purpose=record.purpose,
            interview=record.interview,
            outcome=record.outcome,
            step=record.step,
            retries=record.retries,
            seconds=round(record.duration, 3),
            queued=round(record.queued, 3),
            first_token=None if record.first is None else round(record.first, 3),
            prompt_tokens=record.prompt_tokens,
            cached_tokens=record.cached_tokens,
            completion_tokens=record.completion_tokens,
        )

    async def close(self) -> None:
        await self._prefills.close()
        await asyncio.gather(self._language.close(), self._speech.close())


async def _pieces(source: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """A source that can be closed, whatever it is made of."""
    try:
        async for piece in source:
            yield piece
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()

"""Language models for tests: replies, pauses and failures on cue."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, TypeVar

from prepserver.clock import Clock
from prepserver.engines.types import (
    EngineStats,
    LanguageModel,
    ModelInfo,
    Prompt,
    SpeechModel,
    TextDelta,
    Usage,
)
from prepserver.gateway.pool import FixedSet, SetModels
from tests.support.clock import ManualClock

T = TypeVar("T")

Reply = Sequence[str | Exception]
"""Deltas to yield, each after a pause; an exception among the deltas is raised."""


class CuedLanguageModel:
    """Language model that records its calls and yields the given replies in order, repeating the
    last reply."""

    def __init__(
        self,
        clock: Clock,
        replies: Sequence[Reply],
        *,
        pause: float = 0.0,
        parameters: int = 8_000_000_000,
        parallel: int = 1,
    ) -> None:
        """Create a model that waits `pause` virtual seconds before each delta and during a
        prefill."""
        self.prompts: list[Prompt] = []
        self.prefilled: list[Prompt] = []
        """Prompts of completed prefills."""
        self.conversation_calls: list[tuple[str, str]] = []
        """Method and conversation of each call to `offload` or `discard`."""
        self.closed_early = 0
        """Number of replies that were closed before their end."""
        self._clock = clock
        self._replies = replies
        self._pause = pause
        self._parameters = parameters
        self._parallel = parallel

    async def start(self) -> ModelInfo:
        return ModelInfo(
            name="cued", parameters=self._parameters, context=4_096, parallel=self._parallel
        )

    def next_reply(self, prompt: Prompt) -> Reply:
        return self._replies[min(len(self.prompts), len(self._replies) - 1)]

    async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        reply = self.next_reply(prompt)
        self.prompts.append(prompt)
        finished = False
        try:
            for word in reply:
                await self._clock.sleep(self._pause)
                if isinstance(word, Exception):
                    finished = True
                    raise word
                yield TextDelta(text=word)
            finished = True
            yield Usage(completion_tokens=len(reply))
        finally:
            if not finished:
                self.closed_early += 1

    async def prefill(self, prompt: Prompt) -> None:
        await self._clock.sleep(self._pause)
        self.prefilled.append(prompt)

    async def offload(self, conversation: str) -> None:
        self.conversation_calls.append(("offload", conversation))

    async def discard(self, conversation: str) -> None:
        self.conversation_calls.append(("discard", conversation))

    async def stats(self) -> EngineStats:
        return EngineStats()

    async def close(self) -> None:
        return


def split_words(text: str) -> Reply:
    """Split a text into one delta per word."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


async def advance_until_done(
    work: Coroutine[Any, Any, T], clock: ManualClock, *, step: float = 0.25
) -> T:
    """Run `work` and return its result, advancing the clock by `step` seconds until `work` is done.

    The clock also advances while `work` is waiting for a thread.
    """
    task = asyncio.create_task(work)
    while not task.done():
        await clock.advance(0)
        if not task.done():
            await clock.advance(step)
    return task.result()


def one_set(
    language: LanguageModel,
    speech: SpeechModel,
    *,
    fallback: Sequence[LanguageModel] = (),
    speech_fallback: Sequence[SpeechModel] = (),
) -> FixedSet:
    """Return the source of a single set with these models."""
    return FixedSet(SetModels(language=[language, *fallback], speech=[speech, *speech_fallback]))

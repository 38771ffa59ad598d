"""Language models for tests that need one to misbehave on cue."""

from collections.abc import AsyncGenerator, Sequence

from prepserver.ai.values import Delta, EngineStats, ModelInfo, Prompt, Usage
from prepserver.clock import Clock

Reply = Sequence[str | Exception]
"""Words to say, each after a pause; an error is raised in its place."""


class CuedLanguage:
    """Gives its replies in order, the last one again and again; remembers what it was asked."""

    def __init__(
        self,
        clock: Clock,
        replies: Sequence[Reply],
        *,
        pause: float = 0.0,
        parameters: int = 8_000_000_000,
    ) -> None:
        self.prompts: list[Prompt] = []
        self.closed_early = 0
        self._clock = clock
        self._replies = replies
        self._pause = pause
        self._parameters = parameters

    async def start(self) -> ModelInfo:
        return ModelInfo(name="cued", parameters=self._parameters, context=4_096)

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Delta | Usage, None]:
        reply = self._replies[min(len(self.prompts), len(self._replies) - 1)]
        self.prompts.append(prompt)
        finished = False
        try:
            for word in reply:
                await self._clock.sleep(self._pause)
                if isinstance(word, Exception):
                    finished = True
                    raise word
                yield Delta(text=word)
            finished = True
            yield Usage(completion_tokens=len(reply))
        finally:
            if not finished:
                self.closed_early += 1

    async def prefill(self, prompt: Prompt) -> None:
        return

    async def park(self, conversation: str) -> None:
        return

    async def forget(self, conversation: str) -> None:
        return

    async def stats(self) -> EngineStats:
        return EngineStats()

    async def close(self) -> None:
        return


def words(text: str) -> Reply:
    """A reply that is said word by word."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]

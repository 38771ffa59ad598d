"""A language model in llama.cpp, in a process of its own."""

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import msgspec

from prepserver.ai.llama.options import LlamaOptions
from prepserver.ai.values import Delta, EngineStats, ModelInfo, Prompt, Usage
from prepserver.ai.worker import NATIVE_ENVIRONMENT, Worker
from prepserver.clock import Clock

__all__ = ["LlamaModel"]

_info: msgspec.msgpack.Decoder[ModelInfo] = msgspec.msgpack.Decoder(ModelInfo)
_events: msgspec.msgpack.Decoder[Delta | Usage] = msgspec.msgpack.Decoder(Delta | Usage)


class LlamaModel:
    """Implements `prepserver.ai.values.LanguageModel`.

    Prompts are answered one at a time, in the order they come. What prompts have in common with
    earlier ones at their beginning is not computed again (`Usage.cached_tokens`).
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        n_ctx: int = 4_096,
        n_threads: int = 0,
        ready_timeout: float = 300.0,
        stall_timeout: float = 120.0,
    ) -> None:
        """`path` is a .gguf file; `n_ctx` in tokens; 0 threads is one for each processor.

        The time-outs are those of `Worker`.
        """
        self._worker = Worker(
            (sys.executable, "-P", "-m", "prepserver.ai.llama"),
            name="language model",
            options=LlamaOptions(path=str(path), n_ctx=n_ctx, n_threads=n_threads),
            clock=clock,
            environment=NATIVE_ENVIRONMENT,
            ready_timeout=ready_timeout,
            stall_timeout=stall_timeout,
        )

    @property
    def pid(self) -> int | None:
        """Of the engine's process, while there is one."""
        return self._worker.pid

    async def start(self) -> ModelInfo:
        """Load the model unless it is loaded.

        Raises InferenceError: `model_not_loaded`, or `worker_died`.
        """
        return _info.decode(await self._worker.start())

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Delta | Usage, None]:
        """Deltas, then one Usage. Closing the generator frees the model within one token.

        Raises InferenceError: `context_overflow`, `bad_grammar`, `bad_chat`, or `worker_died`.
        """
        async with aclosing(self._worker.request(prompt)) as events:
            async for event in events:
                yield _events.decode(event)

    async def prefill(self, prompt: Prompt) -> None:
        return

    async def park(self, conversation: str) -> None:
        return

    async def forget(self, conversation: str) -> None:
        return

    async def stats(self) -> EngineStats:
        return EngineStats()

    async def close(self) -> None:
        await self._worker.close()

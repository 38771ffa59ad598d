"""A language model in llama.cpp, in a process of its own."""

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.engines.ipc.supervisor import NATIVE_ENVIRONMENT, EngineSupervisor
from prepserver.engines.llama.options import (
    Discard,
    Generate,
    GetEngineStats,
    LlamaOptions,
    Offload,
    Prefill,
)
from prepserver.engines.types import EngineStats, ModelInfo, Prompt, TextDelta, Usage

__all__ = ["LlamaModel"]

_info: msgspec.msgpack.Decoder[ModelInfo] = msgspec.msgpack.Decoder(ModelInfo)
_stats: msgspec.msgpack.Decoder[EngineStats] = msgspec.msgpack.Decoder(EngineStats)
_events: msgspec.msgpack.Decoder[TextDelta | Usage] = msgspec.msgpack.Decoder(TextDelta | Usage)


class LlamaModel:
    """Implements `prepserver.engines.types.LanguageModel`.

    Prompts are answered side by side, as many as there are sequences; others wait their turn. What
    a prompt has in common with an earlier one at its beginning is not computed again
    (`Usage.cached_tokens`).
    """

    def __init__(
        self,
        options: LlamaOptions,
        clock: Clock,
        *,
        ready_timeout: float = 300.0,
        stall_timeout: float = 120.0,
    ) -> None:
        """The time-outs are those of `EngineSupervisor`."""
        self._worker = EngineSupervisor(
            (sys.executable, "-P", "-m", "prepserver.engines.llama"),
            name="language model",
            options=options,
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

    async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        """Deltas, then one Usage. Closing the generator frees its sequence within one step.

        Raises InferenceError: `context_overflow`, `bad_grammar`, `bad_chat`, or `worker_died`.
        """
        async with aclosing(self._worker.request(Generate(prompt))) as events:
            async for event in events:
                yield _events.decode(event)

    async def prefill(self, prompt: Prompt) -> None:
        """Returns when the prompt was read, or when a later request for its conversation, or one
        that somebody waits for, took its place. Raises as `generate` does."""
        await self._told(Prefill(prompt))

    async def offload(self, conversation: str) -> None:
        """Raises InferenceError, `worker_died`."""
        if self._worker.pid is not None:
            await self._told(Offload(conversation))

    async def discard(self, conversation: str) -> None:
        """What is on disk is removed when the engine runs: start it if need be. Raises
        InferenceError."""
        await self._told(Discard(conversation))

    async def stats(self) -> EngineStats:
        if self._worker.pid is None:
            return EngineStats()
        found = EngineStats()
        async with aclosing(self._worker.request(GetEngineStats())) as events:
            async for event in events:
                found = _stats.decode(event)
        return found

    async def _told(self, order: Struct) -> None:
        async with aclosing(self._worker.request(order)) as events:
            async for _ in events:
                pass

    async def close(self) -> None:
        await self._worker.close()

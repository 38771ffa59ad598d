"""The server's client for llama.cpp, which runs in a process of its own."""

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
from prepserver.engines.thoughts import ThoughtFilter, generate_reply
from prepserver.engines.types import EngineStats, ModelInfo, Prompt, TextDelta, Usage

__all__ = ["LlamaModel"]

_info_decoder: msgspec.msgpack.Decoder[ModelInfo] = msgspec.msgpack.Decoder(ModelInfo)
_stats_decoder: msgspec.msgpack.Decoder[EngineStats] = msgspec.msgpack.Decoder(EngineStats)
_event_decoder: msgspec.msgpack.Decoder[TextDelta | Usage] = msgspec.msgpack.Decoder(
    TextDelta | Usage
)


class LlamaModel:
    """Language model run by llama.cpp; implements `prepserver.engines.types.LanguageModel`.

    Each KV slot processes one prompt at a time; further prompts wait. A prefix of the prompt that
    is still cached is not computed again; `Usage.cached_tokens` is the length of this prefix.
    """

    def __init__(
        self,
        options: LlamaOptions,
        clock: Clock,
        *,
        ready_timeout: float = 300.0,
        stall_timeout: float = 120.0,
    ) -> None:
        """Configure the engine without starting it. The timeouts are those of
        `EngineSupervisor`."""
        self._supervisor = EngineSupervisor(
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
        """Process id of the engine; None unless the engine is loaded and running."""
        return self._supervisor.pid

    async def start(self) -> ModelInfo:
        """Load the model unless it is already loaded, and return the model's properties.

        Raises InferenceError with the code `model_not_loaded`, `worker_died` or `worker_closed`.
        """
        return _info_decoder.decode(await self._supervisor.start())

    async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        """Yield text deltas, then one Usage. Closing the generator frees the slot within one step.

        The model is asked to reply without thinking, because a thought would take longer than a
        candidate waits. If it thinks nevertheless, the thought is not yielded. Raises
        InferenceError with the code `context_overflow`, `bad_grammar`, `bad_chat`,
        `decode_failed`, `request_too_long`, or a code that `start` raises.
        """
        async with aclosing(generate_reply(self._generate, prompt)) as events:
            async for event in events:
                yield event

    async def _generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        thoughts = ThoughtFilter()
        async with aclosing(self._supervisor.request(Generate(prompt))) as events:
            async for encoded in events:
                event = _event_decoder.decode(encoded)
                text = (
                    thoughts.feed(event.text) if isinstance(event, TextDelta) else thoughts.finish()
                )
                if text:
                    yield TextDelta(text)
                if isinstance(event, Usage):
                    yield msgspec.structs.replace(event, thought=thoughts.found)

    async def prefill(self, prompt: Prompt) -> None:
        """Compute the prompt's KV cache.

        The computation ends early if a reply needs the slot or a later request for the same
        conversation arrives. Raises the same errors as `generate`.
        """
        await self._run_request(Prefill(prompt))

    async def offload(self, conversation: str) -> None:
        """Move the conversation's KV state to disk if the engine is running.

        Raises InferenceError if the engine fails or crashes.
        """
        if self._supervisor.pid is not None:
            await self._run_request(Offload(conversation))

    async def discard(self, conversation: str) -> None:
        """Delete the conversation's KV state from memory and disk.

        The engine is started if necessary, because only the engine accesses the files. Raises
        InferenceError.
        """
        await self._run_request(Discard(conversation))

    async def stats(self) -> EngineStats:
        if self._supervisor.pid is None:
            return EngineStats()
        stats = EngineStats()
        async with aclosing(self._supervisor.request(GetEngineStats())) as events:
            async for event in events:
                stats = _stats_decoder.decode(event)
        return stats

    async def _run_request(self, request: Struct) -> None:
        async with aclosing(self._supervisor.request(request)) as events:
            async for _ in events:
                pass

    async def close(self) -> None:
        await self._supervisor.close()

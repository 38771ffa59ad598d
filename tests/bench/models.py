"""The models that are measured: prep's own, by way of its gateway, and the peers.

Each side runs in processes of its own, on all cores, with the same model file and as many threads,
and only one side works at a time.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
from msgspec import Struct

from prepserver.app import create_services
from prepserver.clock import SystemClock
from prepserver.config import Config
from prepserver.engines.ipc.supervisor import NATIVE_ENVIRONMENT
from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.language import OpenAILanguageModel
from prepserver.engines.types import ModelInfo, Prompt, TextDelta, Usage
from prepserver.gateway.gateway import Call, Gateway
from tests.bench.talks import Talk
from tests.support.llama_cpp_server import LlamaCppServer

__all__ = [
    "CONTEXT",
    "LANGUAGE",
    "SPEECH",
    "THREADS",
    "Ours",
    "Peer",
    "Plain",
    "Reply",
    "sampling",
    "summarise_history",
]

MODELS = Path(os.environ.get("PREP_MODELS_DIR") or platformdirs.user_data_path("prep") / "models")
LANGUAGE = MODELS / "smollm2-135m-instruct.q4_1.gguf"
SPEECH = MODELS / "whisper-tiny.en.bin"

THREADS = len(os.sched_getaffinity(0))
CONTEXT = 4_096
"""Tokens, the server's default."""


class Reply(Struct, frozen=True, kw_only=True):
    first: float
    """Seconds from the request to the first text."""
    seconds: float
    """From the request to the end."""
    tokens: int
    text: str
    prompt: int = 0
    """Tokens, as far as they are told."""
    cached: int = 0

    @property
    def rate(self) -> float:
        """Tokens a second, the first one not counted."""
        return (self.tokens - 1) / (self.seconds - self.first)


async def timed(events: AsyncGenerator[TextDelta | Usage, None]) -> Reply:
    """Read a reply to its end."""
    started, first, text, usage = time.perf_counter(), 0.0, "", Usage()
    async for event in events:
        match event:
            case TextDelta(text=more):
                first = first or time.perf_counter() - started
                text += more
            case Usage():
                usage = event
    assert text, "the model wrote nothing"
    return Reply(
        first=first,
        seconds=time.perf_counter() - started,
        tokens=usage.completion_tokens,
        text=text,
        prompt=usage.prompt_tokens,
        cached=usage.cached_tokens,
    )


async def summarise_history(talk: Talk, ask: Callable[[Prompt], Awaitable[Reply]]) -> float:
    """Summarise the history of a talk if it is due; return the seconds that this took."""
    if (prompt := talk.history_summary_prompt()) is None:
        return 0.0
    summary = await ask(prompt)
    talk.add_history_summary(summary.text)
    return summary.seconds


class Ours:
    """prep's gateway and what is behind it, wired as the server wires it."""

    def __init__(self, gateway: Gateway, info: ModelInfo) -> None:
        self.gateway = gateway
        self.info = info
        self._requests = 0

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path) -> AsyncIterator["Ours"]:
        config = Config(
            data_dir=folder / "data",
            model=str(LANGUAGE),
            stt_model=str(SPEECH),
            threads=THREADS,
            context=CONTEXT,
            rate_limit=0,
        )
        services = create_services(config)
        await services.start()
        try:
            yield cls(services.gateway, await services.gateway.model_info())
        finally:
            await services.close()

    async def ask(self, prompt: Prompt) -> Reply:
        return await timed(self.gateway.generate(self.call(prompt), prompt))

    async def prefill(self, prompt: Prompt) -> None:
        await self.gateway.prefill(self.call(prompt), prompt)

    async def next_question(self, talk: Talk, *, ahead: bool) -> Reply:
        """Generate the turn's question; `ahead` prefills the answer while it is typed.

        A history summary is written before that, while the candidate thinks.
        """
        await summarise_history(talk, self.ask)
        if ahead:
            for prompt in talk.prefill_prompts():
                await self.prefill(prompt)
        return await self.ask(talk.question_prompt())

    def call(self, prompt: Prompt) -> Call:
        self._requests += 1
        return Call(
            purpose=prompt.purpose or "bench",
            user="bench",
            interview=prompt.conversation,
            request=f"r{self._requests}",
        )


class Peer:
    """llama_cpp.server with its prompt cache."""

    def __init__(self, model: OpenAILanguageModel) -> None:
        self._model = model

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path) -> AsyncIterator["Peer"]:
        """As its documentation has it, but for two defaults that would only make it slower: logits
        for every token of a prompt, and a new request that breaks off the one before."""
        flags = {
            "n_ctx": CONTEXT,
            "n_threads": THREADS,
            "n_threads_batch": THREADS,
            "cache": "true",
            "logits_all": "false",
            "interrupt_requests": "false",
        }
        arguments = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        with LlamaCppServer(folder, LANGUAGE, *arguments) as server:
            model = OpenAILanguageModel(Endpoint.parse(f"openai:{server.url}"), SystemClock())
            try:
                await model.start()
                yield cls(model)
            finally:
                await model.close()

    async def next_question(self, talk: Talk, *, ahead: bool) -> Reply:
        """Generate the turn's question without prefill; a history summary is part of the wait."""
        waited = await summarise_history(talk, self.ask)
        reply = await self.ask(talk.question_prompt())
        return msgspec.structs.replace(
            reply, first=waited + reply.first, seconds=waited + reply.seconds
        )

    async def ask(self, prompt: Prompt) -> Reply:
        return await timed(self._model.generate(prompt))


class Plain:
    """A program of the usual kind on a library, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def running(cls, module: str, *arguments: str) -> AsyncIterator["Plain"]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"tests.bench.{module}", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**NATIVE_ENVIRONMENT, **os.environ},
            limit=2**24,
        )
        try:
            yield cls(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    async def ask(self, **request: Any) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request).encode() + b"\n")
        answer = await stdout.readline()
        assert answer, "the peer has died"
        found = json.loads(answer)
        assert isinstance(found, dict)
        return found


def sampling(prompt: Prompt) -> dict[str, Any]:
    """A prompt as llama-cpp-python takes it."""
    return {
        "prompt": prompt.text + prompt.opening,
        "grammar": prompt.grammar,
        "max_tokens": prompt.max_tokens,
        "seed": prompt.seed,
        "temperature": prompt.temperature,
        "top_k": prompt.top_k,
        "top_p": prompt.top_p,
        "min_p": prompt.min_p,
        "repeat_penalty": prompt.repeat_penalty,
    }

"""The sides of a comparison: prep's models behind its gateway, and the peers.

Each side runs its model in a process of its own on all cores, with the same model file and number
of threads. Only one side works at a time.
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
from tests.bench.interviews import SampleInterview
from tests.support.llama_cpp_server import LlamaCppServer

__all__ = [
    "CONTEXT",
    "LANGUAGE_MODEL",
    "MODELS_DIR",
    "MULTILINGUAL_SPEECH_MODEL",
    "SPEECH_MODEL",
    "THREADS",
    "LlamaServerPeer",
    "PrepModels",
    "ScriptPeer",
    "TimedReply",
    "request_fields",
    "summarise_history",
]

MODELS_DIR = Path(
    os.environ.get("PREP_MODELS_DIR") or platformdirs.user_data_path("prep") / "models"
)
LANGUAGE_MODEL = MODELS_DIR / "smollm2-135m-instruct.q4_1.gguf"
SPEECH_MODEL = MODELS_DIR / "whisper-tiny.en.bin"
MULTILINGUAL_SPEECH_MODEL = Path(
    os.environ.get("PREP_BENCH_WHISPER_BASE") or MODELS_DIR / "whisper-base.bin"
)

CALL = Call(purpose="question", user="bench", interview="bench", request="bench")
THREADS = len(os.sched_getaffinity(0))
CONTEXT = 4_096
"""Context length in tokens; equal to the server's default."""


class TimedReply(Struct, frozen=True, kw_only=True):
    """Reply with its timing."""

    first: float
    """Seconds from the request to the first text."""
    seconds: float
    """Seconds from the request to the end of the reply."""
    tokens: int
    """Number of tokens in the reply."""
    text: str

    @property
    def rate(self) -> float:
        """Tokens per second after the first token."""
        return (self.tokens - 1) / (self.seconds - self.first)


async def time_reply(events: AsyncGenerator[TextDelta | Usage, None]) -> TimedReply:
    """Read a reply to its end and return its text and timing."""
    started, first, text, usage = time.perf_counter(), 0.0, "", Usage()
    async for event in events:
        match event:
            case TextDelta(text=delta):
                first = first or time.perf_counter() - started
                text += delta
            case Usage():
                usage = event
    assert text, "the model generated no text"
    return TimedReply(
        first=first,
        seconds=time.perf_counter() - started,
        tokens=usage.completion_tokens,
        text=text,
    )


async def summarise_history(
    interview: SampleInterview, ask: Callable[[Prompt], Awaitable[TimedReply]]
) -> float:
    """Add a history summary if one is due, and return the seconds that writing the summary took.

    If no summary is due, the result is 0.
    """
    if (prompt := interview.history_summary_prompt()) is None:
        return 0.0
    summary = await ask(prompt)
    interview.add_history_summary(summary.text)
    return summary.seconds


class PrepModels:
    """Gateway and models of prep, connected as in the server."""

    def __init__(self, gateway: Gateway, info: ModelInfo) -> None:
        self.gateway = gateway
        self.info = info
        """Properties of the model for which prompts are built."""
        self._requests = 0

    @classmethod
    @asynccontextmanager
    async def running(
        cls, folder: Path, model: Path = LANGUAGE_MODEL, speech_model: Path = SPEECH_MODEL
    ) -> AsyncIterator["PrepModels"]:
        """Load the models. Prompts are those for a model of unknown size, because a model as small
        as the starter model writes nothing in an interview."""
        config = Config(
            data_dir=folder / "data",
            model=str(model),
            stt_model=str(speech_model),
            threads=THREADS,
            context=CONTEXT,
            rate_limit=0,
        )
        services = create_services(config)
        await services.start()
        try:
            info = await services.gateway.model_info(CALL)
            yield cls(services.gateway, msgspec.structs.replace(info, parameters=0))
        finally:
            await services.close()

    async def ask(self, prompt: Prompt) -> TimedReply:
        return await time_reply(self.gateway.generate(self.call(prompt), prompt))

    async def prefill(self, prompt: Prompt) -> None:
        await self.gateway.prefill(self.call(prompt), prompt)

    async def next_question(self, interview: SampleInterview, *, ahead: bool) -> TimedReply:
        """Generate the next question; with `ahead`, prefill drafts of the last answer beforehand.

        A history summary that is due is written first and is not included in the reply's timing.
        """
        await summarise_history(interview, self.ask)
        if ahead:
            for prompt in interview.prefill_prompts():
                await self.prefill(prompt)
        return await self.ask(interview.question_prompt())

    def call(self, prompt: Prompt) -> Call:
        self._requests += 1
        return Call(
            purpose=prompt.purpose or "bench",
            user="bench",
            interview=prompt.conversation,
            request=f"r{self._requests}",
        )


class LlamaServerPeer:
    """Peer that runs llama_cpp.server with its prompt cache enabled."""

    def __init__(self, model: OpenAILanguageModel, pid: int) -> None:
        self.pid = pid
        self._model = model

    @classmethod
    @asynccontextmanager
    async def running(
        cls, folder: Path, model_file: Path = LANGUAGE_MODEL
    ) -> AsyncIterator["LlamaServerPeer"]:
        """Run the server as documented, except that two slow defaults are turned off.

        By default, the server computes logits for every token of a prompt, and lets a new request
        interrupt the reply to the previous request.
        """
        flags = {
            "n_ctx": CONTEXT,
            "n_threads": THREADS,
            "n_threads_batch": THREADS,
            "cache": "true",
            "logits_all": "false",
            "interrupt_requests": "false",
        }
        arguments = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        with LlamaCppServer(folder, model_file, *arguments) as server:
            model = OpenAILanguageModel(Endpoint.parse(f"openai:{server.url}"), SystemClock())
            try:
                await model.start()
                yield cls(model, server.pid)
            finally:
                await model.close()

    async def next_question(self, interview: SampleInterview, *, ahead: bool) -> TimedReply:
        """Generate the next question, always without a prefill.

        The reply's timing includes the history summary, if one is due.
        """
        waited = await summarise_history(interview, self.ask)
        reply = await self.ask(interview.question_prompt())
        return msgspec.structs.replace(
            reply, first=waited + reply.first, seconds=waited + reply.seconds
        )

    async def ask(self, prompt: Prompt) -> TimedReply:
        return await time_reply(self._model.generate(prompt))


class ScriptPeer:
    """Peer that runs a typical script for a model library in a process of its own.

    The script reads requests from standard input and writes answers to standard output, as lines of
    JSON.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def running(cls, module: str, *arguments: str) -> AsyncIterator["ScriptPeer"]:
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
        line = await stdout.readline()
        assert line, "the peer has died"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer


def request_fields(prompt: Prompt) -> dict[str, Any]:
    """Return the arguments with which llama-cpp-python generates a reply to a prompt.

    A chat is rendered as ChatML, the form of the starter model.
    """
    chat = "".join(f"<|im_start|>{t.role}\n{t.content}<|im_end|>\n" for t in prompt.turns)
    return {
        "prompt": (f"{chat}<|im_start|>assistant\n" if chat else prompt.text) + prompt.opening,
        "grammar": prompt.grammar,
        "max_tokens": prompt.max_tokens,
        "seed": prompt.seed,
        "temperature": prompt.temperature,
        "top_k": prompt.top_k,
        "top_p": prompt.top_p,
        "min_p": prompt.min_p,
        "repeat_penalty": prompt.repeat_penalty,
    }

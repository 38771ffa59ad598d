"""Deterministic stand-ins for real models, for tests and demonstrations.

Scripted models implement the same protocols as the real engines and are called through the same
gateway. Their output depends only on the input and the settings, and their speed is configurable.
"""

import hashlib
from array import array
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from itertools import cycle, islice
from typing import Any

import msgspec

from prepserver.clock import Clock
from prepserver.engines.option_rules import check_options
from prepserver.engines.types import (
    NOTHING_EXPECTED,
    EngineStats,
    ExpectedSpeech,
    ModelInfo,
    PartialTranscript,
    Prompt,
    Segment,
    SpeechStats,
    TextDelta,
    Transcription,
    Usage,
)
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import BYTES_PER_SECOND

__all__ = ["ScriptedLanguageModel", "ScriptedSpeechModel", "record_text"]

NAME = "scripted"

SILENCE_PEAK = 200
"""Absolute peak of 16-bit samples below which a recording counts as silent."""

_TEXT_MARK = b"\xff\x7f\x00\x80" * 4
"""First samples of a recording that holds text in place of speech."""

_WORDS = (
    "time work size speed cost trust doubt order chance change growth rest luck need risk play"
).split()


class ScriptedLanguageModel:
    """Language model that streams a canned reply for the prompt's schema or purpose, word by
    word."""

    def __init__(
        self,
        clock: Clock,
        *,
        delay: float = 0.0,
        words: int = 0,
        choices: Mapping[str, str] | None = None,
    ) -> None:
        """Set the delay before each word, in seconds, and the minimum number of words in the reply
        to a question of the candidate.

        `choices` maps the purpose of a prompt with options to the option that the model chooses;
        for other purposes, it chooses the first option.
        """
        self._clock = clock
        self._delay = delay
        self._min_words = words
        self._choices = choices or {}

    async def start(self) -> ModelInfo:
        return ModelInfo(name=NAME, parameters=8_000_000_000, context=8_192, parallel=64)

    async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        if prompt.options:
            check_options(prompt)
            choice = self._choices.get(prompt.purpose, prompt.options[0])
            await self._clock.sleep(self._delay)
            yield TextDelta(choice)
            yield Usage(
                prompt_tokens=len(_prompt_text(prompt).split()),
                probabilities=tuple(float(option == choice) for option in prompt.options),
            )
            return
        reply = _reply_json(prompt.schema) if prompt.schema else _reply_text(prompt)
        words = reply.split(" ")
        if prompt.purpose == "reply":
            words += islice(cycle(_WORDS), max(0, self._min_words - len(words)))
        for number, word in enumerate(words):
            await self._clock.sleep(self._delay)
            yield TextDelta(text=word if number == 0 else f" {word}")
        yield Usage(prompt_tokens=len(_prompt_text(prompt).split()), completion_tokens=len(words))

    async def prefill(self, prompt: Prompt) -> None:
        return

    async def offload(self, conversation: str) -> None:
        return

    async def discard(self, conversation: str) -> None:
        return

    async def stats(self) -> EngineStats:
        return EngineStats()

    async def close(self) -> None:
        return


class ScriptedSpeechModel:
    """Speech model whose transcript states the recording's duration and a hash of the audio, in the
    expected language. The transcript of a silent recording is empty, and that of
    `record_text(text)` is the text."""

    name = NAME

    def __init__(self, clock: Clock, *, delay: float = 0.0) -> None:
        self._clock = clock
        self._delay = delay

    async def start(self) -> None:
        return

    async def transcribe(
        self, pcm: bytes, expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> Transcription:
        if not pcm or len(pcm) % 2:
            raise InferenceError(
                "The recording is empty or ends with an incomplete sample. Record it again.",
                code=ErrorCode.BAD_AUDIO,
                retryable=False,
            )
        await self._clock.sleep(self._delay)
        seconds = len(pcm) / BYTES_PER_SECOND
        if max(abs(sample) for sample in array("h", pcm)) < SILENCE_PEAK:
            silence = Segment(start=0.0, end=seconds, text="", drop_reason="silence")
            return Transcription(text="", dropped=(silence,), seconds=seconds)
        mark = hashlib.sha256(pcm).hexdigest()[:6]
        text = f"I spoke for {seconds:.1f} seconds and my mark is {mark}."
        if pcm.startswith(_TEXT_MARK):
            text = pcm.removeprefix(_TEXT_MARK).decode("utf-16-le").rstrip("\0")
        return Transcription(
            text=text,
            segments=(Segment(start=0.0, end=seconds, text=text),),
            seconds=seconds,
            language=expected.language,
        )

    async def transcribe_live(
        self, audio: AsyncIterable[bytes], expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> AsyncGenerator[PartialTranscript | Transcription, None]:
        """Yield a caption for each full second of audio, then the result of `transcribe`."""
        pcm, captions = bytearray(), 0
        async for chunk in audio:
            pcm += chunk
            while len(pcm) >= (captions + 1) * BYTES_PER_SECOND:
                captions += 1
                committed = f"{captions - 1} s" if captions > 1 else ""
                yield PartialTranscript(final="", committed=committed, interim=f"{captions} s")
        yield await self.transcribe(bytes(pcm), expected)

    async def stats(self) -> SpeechStats:
        return SpeechStats()

    async def close(self) -> None:
        return


def record_text(text: str) -> bytes:
    """Return a recording of at least a second, as PCM16, that `ScriptedSpeechModel` transcribes as
    `text`."""
    return (_TEXT_MARK + text.encode("utf-16-le")).ljust(BYTES_PER_SECOND, b"\0")


def _prompt_text(prompt: Prompt) -> str:
    return prompt.text or "\n".join(turn.content for turn in prompt.turns)


def _reply_text(prompt: Prompt) -> str:
    digest = hashlib.sha256(f"{_prompt_text(prompt)}{prompt.seed}".encode()).hexdigest()[:6]
    match prompt.purpose:
        case "question" | "rephrase" | "translation":
            topic, angle = _WORDS[int(digest[0], 16)], _WORDS[int(digest[1], 16)]
            return f"What did {topic} teach you about {angle} {digest}?"
        case "reply":
            return f"The team would have to answer that, and I noted it as {digest}."
        case "closing":
            return "Thank you for your time. That was the last question."
        case _:
            return f"You gave clear answers about {digest}."


def _reply_json(schema: dict[str, Any]) -> str:
    """Return a small value that matches the schema, as JSON text."""
    return msgspec.json.encode(_example_value(schema)).decode()


def _example_value(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {
                name: _example_value(part) for name, part in schema.get("properties", {}).items()
            }
        case "array":
            items = schema.get("items", {})
            return items["enum"][:3] if "enum" in items else [_example_value(items)]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case _:
            return "scripted"

"""Models that the simulation controls: they reply, slow down, fail, crash or hang."""

import asyncio
import re
from collections.abc import AsyncGenerator

from msgspec import Struct

from prepserver.clock import Clock
from prepserver.engines.scripted import ScriptedLanguageModel, ScriptedSpeechModel
from prepserver.engines.types import (
    NOTHING_EXPECTED,
    ExpectedSpeech,
    ModelInfo,
    Prompt,
    TextDelta,
    Transcription,
    Usage,
)
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = [
    "Behaviour",
    "GeneratedReply",
    "ModelController",
    "SimulatedLanguageModel",
    "SimulatedSpeechModel",
]


SHOWN_PURPOSES = ("question", "translation", "rephrase", "reply", "closing", "summary")
"""Purposes of the prompts whose replies clients see."""


class Behaviour(Struct, frozen=True):
    """Behaviour of a model in every call that starts while the behaviour is set."""

    kind: str = "answers"
    """Kind of behaviour: `answers`; `fails` with a permanent error; `crashes` with a retryable
    error; `hangs` until the behaviour changes, then crashes; `rambles` with text that is not
    acceptable as a question."""
    word_delay: float = 0.0
    """Virtual seconds before each word of the language model, or before a transcription."""
    words: int = 0
    """Number of words that the language model generates before it fails, crashes or hangs."""


class GeneratedReply(Struct):
    """Text that the latest call has generated for one interview."""

    text: str = ""
    updated_at: float = 0.0
    """Monotonic time of the last word, in seconds."""
    in_progress: bool = False


class ModelController:
    """Controller that sets the behaviour of the models and records the generated replies."""

    def __init__(self) -> None:
        self.language = Behaviour()
        self.speech = Behaviour()
        self.replies: dict[str, GeneratedReply] = {}
        """Latest reply for each role; every interview has a different role."""
        self._changed = asyncio.Event()

    def set_behaviour(
        self, *, language: Behaviour | None = None, speech: Behaviour | None = None
    ) -> None:
        self.language = language or self.language
        self.speech = speech or self.speech
        self._changed.set()
        self._changed = asyncio.Event()

    def start_reply(self, prompt: Prompt) -> GeneratedReply:
        """Return a new reply that consists of the prompt's opening, and record it if clients will
        see it."""
        reply = GeneratedReply(prompt.opening.lstrip())
        if prompt.purpose in SHOWN_PURPOSES:
            self.replies[_find_role(prompt)] = reply
        return reply

    async def wait_for_change(self, behaviour: Behaviour) -> None:
        """Wait until neither model has the given behaviour."""
        while behaviour is self.language or behaviour is self.speech:
            await self._changed.wait()


class SimulatedLanguageModel(ScriptedLanguageModel):
    """Scripted language model whose behaviour the controller sets."""

    def __init__(
        self, clock: Clock, controller: ModelController, *, few_shot: bool, context: int
    ) -> None:
        super().__init__(clock)
        self._time = clock
        self._controller = controller
        self._few_shot = few_shot
        self._context = context

    async def start(self) -> ModelInfo:
        parameters = 100_000_000 if self._few_shot else 8_000_000_000
        return ModelInfo(name="simulated", parameters=parameters, context=self._context)

    async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        behaviour = self._controller.language
        reply = self._controller.start_reply(prompt)
        reply.in_progress = True
        words = 0
        try:
            async for event in super().generate(prompt):
                if isinstance(event, TextDelta):
                    if behaviour.kind in ("fails", "crashes", "hangs") and words >= behaviour.words:
                        break
                    await self._time.sleep(behaviour.word_delay)
                    words += 1
                    reply.text += event.text if reply.text else event.text.lstrip()
                    reply.updated_at = self._time.monotonic()
                    yield event
                    if behaviour.kind == "rambles":
                        reply.text += "?"
                        yield TextDelta("?")
                elif behaviour.kind in ("answers", "rambles"):
                    yield event
            if behaviour.kind == "hangs":
                await self._controller.wait_for_change(behaviour)
            if behaviour.kind not in ("answers", "rambles"):
                raise _create_error(behaviour)
        finally:
            reply.in_progress = False


class SimulatedSpeechModel(ScriptedSpeechModel):
    """Scripted speech model whose behaviour the controller sets."""

    def __init__(self, clock: Clock, controller: ModelController) -> None:
        super().__init__(clock)
        self._time = clock
        self._controller = controller

    async def transcribe(
        self, pcm: bytes, expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> Transcription:
        behaviour = self._controller.speech
        await self._time.sleep(behaviour.word_delay)
        if behaviour.kind == "hangs":
            await self._controller.wait_for_change(behaviour)
        if behaviour.kind in ("answers", "rambles"):
            return await super().transcribe(pcm, expected)
        raise _create_error(behaviour)


def _create_error(behaviour: Behaviour) -> InferenceError:
    if behaviour.kind == "fails":
        return InferenceError(
            "The model cannot do this.", code=ErrorCode.INFERENCE, retryable=False
        )
    return InferenceError("The model's process ended.", code=ErrorCode.WORKER_DIED)


def _find_role(prompt: Prompt) -> str:
    """Return the role in the prompt, which identifies the interview."""
    text = prompt.text or prompt.turns[0].content
    found = re.search(r"Keeper \w", f"{prompt.opening} {text}")
    assert found is not None, "the prompt does not name the role"
    return found[0]

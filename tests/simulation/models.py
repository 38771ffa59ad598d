"""Models under the simulation's control: they answer, dawdle, fail, die or say nothing."""

import asyncio
import re
from collections.abc import AsyncGenerator

from msgspec import Struct

from prepserver.clock import Clock
from prepserver.engines.scripted import ScriptedLanguageModel, ScriptedSpeechModel
from prepserver.engines.types import ModelInfo, Prompt, TextDelta, Transcription, Usage
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Director", "Language", "Mood", "Speaking", "SpeechWriter"]


class Mood(Struct, frozen=True):
    """How a model behaves in the calls that begin now."""

    way: str = "answers"
    """`answers`; `fails` for good; `dies`, which may be retried; `hangs` until the mood changes;
    `rambles`, which is not acceptable as a question."""
    delay: float = 0.0
    """Virtual seconds before each word."""
    words: int = 0
    """Said before it fails, dies or hangs."""


class Speaking(Struct):
    """What a model has given away for one interview in the call of the moment."""

    text: str = ""
    at: float = 0.0
    """When it last said something."""
    going_on: bool = False


class Director:
    """Tells the models how to behave, and remembers what they said."""

    def __init__(self) -> None:
        self.mood = Mood()
        self.hearing = Mood()
        self.speaking: dict[str, Speaking] = {}
        """By role, which is different for each interview."""
        self._changed = asyncio.Event()

    def change(self, *, mood: Mood | None = None, hearing: Mood | None = None) -> None:
        self.mood = mood or self.mood
        self.hearing = hearing or self.hearing
        self._changed.set()
        self._changed = asyncio.Event()

    def begin(self, prompt: Prompt) -> Speaking:
        """Nothing but the opening of a reply is said."""
        said = Speaking(prompt.opening.lstrip())
        if prompt.purpose in ("question", "hint", "closing", "summary"):
            self.speaking[_role(prompt)] = said
        return said

    async def change_of(self, mood: Mood) -> None:
        """Return when neither model is in this mood any more."""
        while mood is self.mood or mood is self.hearing:
            await self._changed.wait()


class Language(ScriptedLanguageModel):
    """The scripted interviewer in one of these moods."""

    def __init__(self, clock: Clock, director: Director, *, compact: bool, context: int) -> None:
        super().__init__(clock)
        self._time = clock
        self._director = director
        self._compact = compact
        self._context = context

    async def start(self) -> ModelInfo:
        parameters = 100_000_000 if self._compact else 8_000_000_000
        return ModelInfo(name="simulated", parameters=parameters, context=self._context)

    async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        mood = self._director.mood
        said = self._director.begin(prompt)
        said.going_on = True
        spoken = 0
        try:
            async for event in super().generate(prompt):
                if isinstance(event, TextDelta):
                    if mood.way in ("fails", "dies", "hangs") and spoken >= mood.words:
                        break
                    await self._time.sleep(mood.delay)
                    spoken += 1
                    said.text += event.text if said.text else event.text.lstrip()
                    said.at = self._time.monotonic()
                    yield event
                    if mood.way == "rambles":
                        said.text += "?"
                        yield TextDelta("?")
                elif mood.way in ("answers", "rambles"):
                    yield event
            if mood.way == "hangs":
                await self._director.change_of(mood)
            if mood.way not in ("answers", "rambles"):
                raise _failure(mood)
        finally:
            said.going_on = False


class SpeechWriter(ScriptedSpeechModel):
    """The scripted ears in one of these moods."""

    def __init__(self, clock: Clock, director: Director) -> None:
        super().__init__(clock)
        self._time = clock
        self._director = director

    async def transcribe(self, pcm: bytes, vocabulary: str = "") -> Transcription:
        mood = self._director.hearing
        await self._time.sleep(mood.delay)
        if mood.way == "hangs":
            await self._director.change_of(mood)
        if mood.way in ("answers", "rambles"):
            return await super().transcribe(pcm, vocabulary)
        raise _failure(mood)


def _failure(mood: Mood) -> InferenceError:
    if mood.way == "fails":
        return InferenceError(
            "The model cannot do this.", code=ErrorCode.INFERENCE, retryable=False
        )
    return InferenceError("The model's process ended.", code=ErrorCode.WORKER_DIED)


def _role(prompt: Prompt) -> str:
    """Which interview a prompt is of: each is for a role of its own."""
    text = prompt.text or prompt.turns[0].content
    found = re.search(r"Keeper \w", text)
    assert found is not None, "a prompt that does not name the role"
    return found[0]

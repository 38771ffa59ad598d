"""One cancellable exchange with the models. Runs beside the interview and reports by events."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
import structlog
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.engines.types import TextDelta, Transcription, Usage
from prepserver.errors import InferenceError, PrepServerError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.prompts.build import build_prompt
from prepserver.interview.prompts.context import HistorySummary, PromptContext
from prepserver.interview.prompts.history_summary import summarise_history
from prepserver.interview.questions.bank import Bank
from prepserver.interview.questions.plan import is_acceptable_question
from prepserver.interview.speech.live_transcription import LiveTranscription
from prepserver.interview.turns.steps import Step
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Quota, Source

__all__ = [
    "AnswerTranscribed",
    "HistorySummarized",
    "ReplyCompleted",
    "ReplyRestarted",
    "SkillsExtracted",
    "TextProduced",
    "TranscriptionFailed",
    "TurnEvent",
    "TurnFailed",
    "TurnWork",
    "run",
]

DELTA_INTERVAL = 0.08
"""Seconds: tokens that arrive this soon after the last frame share the next one. Twelve frames a
second look fluent, and what draws them may be the computer that the model runs on."""

MAX_ATTEMPTS = 3
"""How often a reply is begun before the turn fails or the question bank steps in."""

FIRST_RETRY_DELAY = 1.0
"""Seconds before a reply is begun anew because the models are busy, when nobody knows for how long;
twice as many before the next attempt."""

MAX_RETRY_DELAY = 10.0
"""Seconds of such a pause, at most: whoever waits should soon hear that it may take long."""

log = structlog.get_logger(__name__)


class TurnWork(Struct, frozen=True, kw_only=True):
    """What to do; `turn` and `step` tell whether a result is still wanted."""

    turn: str
    step: Step
    call: Call
    prompt_context: PromptContext
    seed: int
    pcm: bytes = b""
    vocabulary: str = ""
    listening: LiveTranscription | None = None
    """Ears that follow the recording already; without them `pcm` is transcribed."""


class TurnEvent(Struct, frozen=True, kw_only=True):
    """Something that the work has come to."""

    turn: str
    step: Step


class TextProduced(TurnEvent, frozen=True, kw_only=True):
    """More text of the reply."""

    text: str


class ReplyRestarted(TurnEvent, frozen=True, kw_only=True):
    """The reply begins anew; what was said of it does not count."""


class ReplyCompleted(TurnEvent, frozen=True, kw_only=True):
    """The reply is whole."""

    text: str
    source: Source
    quota: Quota


class AnswerTranscribed(TurnEvent, frozen=True, kw_only=True):
    speech: Transcription
    quota: Quota


class TranscriptionFailed(TurnEvent, frozen=True, kw_only=True):
    """The ears that followed the recording failed: it is to be transcribed from its beginning."""


class HistorySummarized(TurnEvent, frozen=True, kw_only=True):
    """The beginning of the interview was condensed."""

    summary: HistorySummary


class SkillsExtracted(TurnEvent, frozen=True, kw_only=True):
    skills: list[str]
    quota: Quota


class TurnFailed(TurnEvent, frozen=True, kw_only=True):
    error: PrepServerError


class _Skills(Struct):
    skills: list[str]


async def run(
    work: TurnWork, gateway: Gateway, bank: Bank, clock: Clock, post: Callable[[TurnEvent], None]
) -> None:
    """Do the work and post what comes of it; a failure is posted too."""
    try:
        match work.step:
            case Step.TRANSCRIBE:
                speech = await _transcribe_recording(work, gateway)
                if speech is None:
                    post(TranscriptionFailed(turn=work.turn, step=work.step))
                    return
                quota = await gateway.quota(work.call.user)
                post(AnswerTranscribed(turn=work.turn, step=work.step, speech=speech, quota=quota))
            case Step.EXTRACT:
                skills = await _extract_skills(work, gateway, bank)
                quota = await gateway.quota(work.call.user)
                post(SkillsExtracted(turn=work.turn, step=work.step, skills=skills, quota=quota))
            case _:
                text, source = await _generate_reply(work, gateway, bank, clock, post)
                quota = await gateway.quota(work.call.user)
                post(
                    ReplyCompleted(
                        turn=work.turn, step=work.step, text=text, source=source, quota=quota
                    )
                )
    except PrepServerError as error:
        post(TurnFailed(turn=work.turn, step=work.step, error=error))
    except Exception:
        log.exception("turn.failed", step=work.step)
        unknown = InferenceError(
            "The interviewer could not go on. Try again.", code=ErrorCode.TURN_FAILED
        )
        post(TurnFailed(turn=work.turn, step=work.step, error=unknown))


async def _transcribe_recording(work: TurnWork, gateway: Gateway) -> Transcription | None:
    """What was said; None when those who listened have failed."""
    if work.listening is None:
        return await gateway.transcribe(work.call, work.pcm, work.vocabulary)
    try:
        # Shielded: the turn may be stopped, and the future belongs to the listening.
        return await asyncio.shield(work.listening.speech)
    except InferenceError as error:
        log.warning("turn.unheard", interview=work.call.interview, code=error.code)
        return None


async def _extract_skills(work: TurnWork, gateway: Gateway, bank: Bank) -> list[str]:
    prompt, _ = build_prompt(work.step, await gateway.info(), bank, work.prompt_context, work.seed)
    parts: list[str] = []
    async with aclosing(gateway.generate(work.call, prompt)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                parts.append(event.text)
    try:
        return msgspec.json.decode("".join(parts), type=_Skills).skills
    except msgspec.DecodeError:
        # The grammar keeps the reply to the schema unless it ran out of tokens; the documents
        # themselves name the skills well enough.
        log.warning("turn.skills_unreadable")
        return []


async def _generate_reply(
    work: TurnWork, gateway: Gateway, bank: Bank, clock: Clock, post: Callable[[TurnEvent], None]
) -> tuple[str, Source]:
    """Stream a reply; begin anew when the engine dies or the question does not hold up."""
    info, prompt_context = await gateway.info(), work.prompt_context
    summary = await summarise_history(gateway, work.call, info, bank, prompt_context, work.seed)
    if summary is not None:
        post(HistorySummarized(turn=work.turn, step=work.step, summary=summary))
        prompt_context = msgspec.structs.replace(prompt_context, history_summary=summary)
    for attempt in range(MAX_ATTEMPTS):
        if attempt:
            post(ReplyRestarted(turn=work.turn, step=work.step))
        prompt, source = build_prompt(work.step, info, bank, prompt_context, work.seed + attempt)
        prompt = msgspec.structs.replace(prompt, conversation=work.call.interview)
        spoken: list[str] = []
        try:
            async with (
                aclosing(gateway.generate(work.call, prompt)) as events,
                aclosing(coalesce_deltas(events, prompt.opening, clock)) as pieces,
                aclosing(first_question(pieces)) as first,
            ):
                async for piece in first if work.step is Step.QUESTION else pieces:
                    spoken.append(piece)
                    post(TextProduced(turn=work.turn, step=work.step, text=piece))
        except InferenceError as error:
            if error.code == ErrorCode.CONTEXT_OVERFLOW and work.step is Step.QUESTION:
                break  # the bank's questions need no context
            if not error.retryable or attempt == MAX_ATTEMPTS - 1:
                raise
            pause = _retry_delay(error, attempt)
            log.warning("turn.begun_anew", step=work.step, code=error.code, pause=pause)
            if pause:
                await clock.sleep(pause)
            continue
        text = "".join(spoken).rstrip()
        if (
            is_acceptable_question(text, work.prompt_context.asked_questions)
            if work.step is Step.QUESTION
            else text
        ):
            return text, source
        log.info("turn.reply_refused", step=work.step, attempt=attempt)
    if work.step is Step.QUESTION:
        for question in work.prompt_context.unasked_questions:
            if is_acceptable_question(question.text, work.prompt_context.asked_questions):
                post(ReplyRestarted(turn=work.turn, step=work.step))
                return question.text, Source.BANK
    raise InferenceError("The interviewer found no words. Try again.", code=ErrorCode.NO_REPLY)


def _retry_delay(error: InferenceError, attempt: int) -> float:
    """Seconds before the next attempt: as long as a full queue or a busy endpoint is expected to
    stay so. What else fails was tried again with pauses already, by the gateway."""
    expected = error.details.get("wait") or error.details.get("retry_after")
    if expected is None and error.code == ErrorCode.OVERLOADED:
        expected = FIRST_RETRY_DELAY * 2**attempt
    return min(MAX_RETRY_DELAY, expected or 0.0)


async def first_question(pieces: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """A reply up to its first question mark; a model that no grammar holds goes on behind it."""
    async for piece in pieces:
        head, mark, _ = piece.partition("?")
        yield head + mark
        if mark:
            break
    async for piece in pieces:
        if piece.strip():
            return


async def coalesce_deltas(
    events: AsyncGenerator[TextDelta | Usage, None], opening: str, clock: Clock
) -> AsyncGenerator[str, None]:
    """The text of a reply: its first words at once, later ones at most every `DELTA_INTERVAL`."""

    async def following() -> TextDelta | Usage | None:
        return await anext(events, None)

    if opening:
        yield opening.lstrip()
    begun, pending, last = bool(opening), "", -DELTA_INTERVAL
    upcoming: asyncio.Task[TextDelta | Usage | None] | None = None
    pause: asyncio.Task[None] | None = None
    try:
        while True:
            if pending:
                upcoming = upcoming or asyncio.create_task(following())
                pause = pause or asyncio.create_task(
                    clock.sleep(last + DELTA_INTERVAL - clock.monotonic())
                )
                await asyncio.wait({upcoming, pause}, return_when=asyncio.FIRST_COMPLETED)
                if not upcoming.done():
                    yield pending
                    pending, last, pause = "", clock.monotonic(), None
                    continue
                event, upcoming = upcoming.result(), None
            elif upcoming is not None:
                event, upcoming = await upcoming, None
            else:
                event = await anext(events, None)  # nothing is held back: no need for a task
            if event is None:
                break
            if isinstance(event, TextDelta):
                pending += event.text if begun else event.text.lstrip()
                begun = begun or bool(pending)
                if pending and clock.monotonic() - last >= DELTA_INTERVAL:
                    if pause is not None:
                        pause.cancel()
                    yield pending
                    pending, last, pause = "", clock.monotonic(), None
        if pending:
            yield pending
    finally:
        unfinished = [task for task in (upcoming, pause) if task is not None]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)

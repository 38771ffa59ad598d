"""Runner of one step of a turn: a background task that reports to the interview through events."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import msgspec
import structlog
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.engines.types import ExpectedSpeech, Prompt, Transcription
from prepserver.errors import InferenceError, PrepServerError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.agenda import plan_agenda
from prepserver.interview.events import (
    AgendaPlanned,
    AnswerAssessed,
    AnswerTranscribed,
    HistorySummarized,
    InterviewEvent,
    ReplyCompleted,
    ReplyRestarted,
    TextProduced,
    TranscriptionFailed,
    TurnFailed,
)
from prepserver.interview.prompts.build import build_reply
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.history_summary import summarise_history
from prepserver.interview.prompts.wording import known_reply, spare_questions
from prepserver.interview.questions.bank import Bank
from prepserver.interview.questions.plan import is_acceptable_question
from prepserver.interview.speech.live_transcription import LiveTranscription
from prepserver.interview.turns.assessment import assess
from prepserver.interview.turns.deltas import coalesce_deltas, first_question
from prepserver.interview.turns.steps import Step
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Source

__all__ = ["TurnWork", "run"]

MAX_ATTEMPTS = 3
"""Maximum number of attempts at a reply. After the last attempt, the turn fails or the question
bank supplies the question."""

FIRST_RETRY_DELAY = 1.0
"""Seconds before the second attempt if the models are overloaded and the error gives no estimate.
The delay doubles with each further attempt."""

MAX_RETRY_DELAY = 10.0
"""Maximum delay in seconds before another attempt, so that the candidate soon learns of an
overload."""

log = structlog.get_logger(__name__)


class TurnWork(Struct, frozen=True, kw_only=True):
    """One step of a turn, with all the data that the step needs from the interview."""

    epoch: int
    """Epoch in which the step starts; every event of the step carries this number."""
    step: Step
    call: Call
    prompt_context: PromptContext
    seed: int
    pcm: bytes = b""
    """Recording to transcribe, as PCM16 at 16 kHz; empty if there is no recording, or if there is a
    `live_transcription`."""
    expected_speech: ExpectedSpeech = ExpectedSpeech()
    minutes_left: float | None = None
    """Minutes left for the interview, which may be negative; None means no limit."""
    live_transcription: LiveTranscription | None = None
    """Live transcription of the recording, or None if there is none."""


Post = Callable[[InterviewEvent], None]


async def run(work: TurnWork, gateway: Gateway, bank: Bank, clock: Clock, post: Post) -> None:
    """Run the step and post the result, or `TurnFailed` or `TranscriptionFailed` on failure."""
    try:
        match work.step:
            case Step.TRANSCRIBE:
                transcription = await _transcribe_recording(work, gateway)
                if transcription is None:
                    post(TranscriptionFailed(epoch=work.epoch))
                    return
                quota = await gateway.quota(work.call.user)
                post(AnswerTranscribed(epoch=work.epoch, transcription=transcription, quota=quota))
            case Step.EXTRACT:
                # Long documents take a noticeable time.
                seed = int.from_bytes(work.call.interview.encode()[-4:], "big")
                plan = asyncio.to_thread(plan_agenda, bank, work.prompt_context.spec, seed)
                post(AgendaPlanned(epoch=work.epoch, agenda=await plan))
            case Step.ASSESS:
                assessed, move = await assess(
                    gateway, work.call, work.prompt_context, minutes_left=work.minutes_left
                )
                post(AnswerAssessed(epoch=work.epoch, assessed=assessed, next_move=move))
            case _:
                await _reply(work, gateway, clock, post)
    except PrepServerError as error:
        post(TurnFailed(epoch=work.epoch, error=error))
    except Exception:
        log.exception("turn.failed", step=work.step)
        unknown = InferenceError(
            "The interviewer stopped because of an internal error. Try again.",
            code=ErrorCode.TURN_FAILED,
        )
        post(TurnFailed(epoch=work.epoch, error=unknown))


async def _transcribe_recording(work: TurnWork, gateway: Gateway) -> Transcription | None:
    """Return the transcription of the recording, or None if the live transcription has failed."""
    if work.live_transcription is None:
        return await gateway.transcribe(work.call, work.pcm, work.expected_speech)
    try:
        # Shielded: stopping the turn must not cancel the future, which the live transcription owns.
        return await asyncio.shield(work.live_transcription.result)
    except InferenceError as error:
        log.warning(
            "turn.live_transcription_failed", interview=work.call.interview, code=error.code
        )
        return None


async def _reply(work: TurnWork, gateway: Gateway, clock: Clock, post: Post) -> None:
    """Post the reply of the step, which streams if a model writes it."""
    quota, source, context = None, Source.BANK, work.prompt_context
    text = known_reply(work.step, context)
    if text is None:
        info = await gateway.model_info(work.call)
        reply, source = build_reply(work.step, info, context, work.seed)
        if isinstance(reply, Prompt) and (
            summary := await summarise_history(gateway, work.call, info, context, work.seed)
        ):
            post(HistorySummarized(epoch=work.epoch, summary=summary))
            context = msgspec.structs.replace(context, history_summary=summary)
            reply, source = build_reply(work.step, info, context, work.seed)
        if isinstance(reply, Prompt):
            text, source = await _generate_reply(work, reply, source, gateway, clock, post)
            quota = await gateway.quota(work.call.user)
        else:
            text = reply
    if quota is None:
        post(TextProduced(epoch=work.epoch, text=text))
    post(ReplyCompleted(epoch=work.epoch, text=text, source=source, quota=quota))


async def _generate_reply(
    work: TurnWork, prompt: Prompt, source: Source, gateway: Gateway, clock: Clock, post: Post
) -> tuple[str, Source]:
    """Stream the reply to `prompt` and return its text and source, which is `source` unless the
    question bank supplies the reply.

    An attempt that fails with a retryable error or gives an unacceptable reply is repeated, up to
    `MAX_ATTEMPTS` attempts. In a question step, a spare question is returned if the last
    attempt gives an unacceptable question or a prompt exceeds the model's context. Raises
    PrepServerError if there is no reply.
    """
    asked = work.prompt_context.asked_questions
    prompt = msgspec.structs.replace(prompt, conversation=work.call.interview)
    for attempt in range(MAX_ATTEMPTS):
        if attempt:
            post(ReplyRestarted(epoch=work.epoch))
        prompt = msgspec.structs.replace(prompt, seed=work.seed + attempt)
        streamed: list[str] = []
        try:
            async with (
                aclosing(gateway.generate(work.call, prompt)) as events,
                aclosing(coalesce_deltas(events, prompt.opening, clock)) as pieces,
                aclosing(first_question(pieces)) as question,
            ):
                async for piece in question if work.step is Step.QUESTION else pieces:
                    streamed.append(piece)
                    post(TextProduced(epoch=work.epoch, text=piece))
        except InferenceError as error:
            if error.code == ErrorCode.CONTEXT_OVERFLOW and work.step is Step.QUESTION:
                break  # a bank question needs no context
            if not error.retryable or attempt == MAX_ATTEMPTS - 1:
                raise
            delay = _retry_delay(error, attempt)
            log.warning("turn.reply_restarted", step=work.step, code=error.code, delay=delay)
            if delay:
                await clock.sleep(delay)
            continue
        text = "".join(streamed).rstrip()
        if is_acceptable_question(text, asked) if work.step is Step.QUESTION else text:
            return text, source
        log.info("turn.reply_rejected", step=work.step, attempt=attempt)
    if work.step is Step.QUESTION:
        for spare in spare_questions(work.prompt_context):
            if is_acceptable_question(spare, asked):
                post(ReplyRestarted(epoch=work.epoch))
                return spare, Source.BANK
    raise InferenceError("The model returned no usable reply. Try again.", code=ErrorCode.NO_REPLY)


def _retry_delay(error: InferenceError, attempt: int) -> float:
    """Return the seconds to wait before the next attempt, up to `MAX_RETRY_DELAY`.

    The result is the estimate in the error, if there is one. Without an estimate, the delay for a
    full queue doubles from `FIRST_RETRY_DELAY` with each attempt; for any other error, the result
    is 0, because the gateway has already retried the call.
    """
    estimate = error.details.get("wait") or error.details.get("retry_after")
    if estimate is None and error.code == ErrorCode.OVERLOADED:
        estimate = FIRST_RETRY_DELAY * 2**attempt
    return min(MAX_RETRY_DELAY, estimate or 0.0)

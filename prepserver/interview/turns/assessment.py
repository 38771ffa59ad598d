"""Assessment of an answer and choice of the next move, by rules and, if it can, by the model."""

from contextlib import aclosing

import msgspec
import structlog

from prepserver.engines.types import ModelInfo, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.dialogue.decision import MoveKind
from prepserver.interview.dialogue.moves import Assessed, NextMove
from prepserver.interview.prompts.build import build_decision_prompt
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.instruct import COVERED, OFF_TOPIC, QUESTION_BACK, points_of
from prepserver.wire.protocol import Intent

__all__ = ["assess"]

MIN_PROBABILITY = 0.6
"""Probability from which the model's word is taken that a message is no answer."""

MAX_PROBES = 2
"""Maximum number of follow-up questions on a topic."""

log = structlog.get_logger(__name__)


async def assess(
    gateway: Gateway, call: Call, context: PromptContext, *, in_time: bool
) -> tuple[Assessed, NextMove]:
    """Return what the last answer was and covered, and the next move.

    A model that follows instructions decides which point is missing, and whether the message is an
    answer at all, unless the rules have decided. If the model fails, the rules decide alone.
    """
    assessed = _assess_by_rules(context)
    move = _choose_move(context, assessed, in_time=in_time)
    if move.move is not MoveKind.PROBE or assessed.intent is not Intent.ANSWER:
        return assessed, move
    try:
        info = await gateway.model_info(call)
        if not info.few_shot:
            return await _ask_model(gateway, call, info, context, assessed, move)
    except InferenceError as error:
        log.warning("turn.decision_failed", interview=call.interview, code=error.code)
    return assessed, move


def _assess_by_rules(context: PromptContext) -> Assessed:
    question = context.open_question
    answer = context.messages[-1]
    points = points_of(context, question.topic if question is not None else "")
    intent = answer.intent or Intent.ANSWER
    vague = len(answer.text.split()) < 12
    return Assessed(intent=intent, vague=vague, missing=points)


def _choose_move(context: PromptContext, assessed: Assessed, *, in_time: bool) -> NextMove:
    asked = len(context.asked_questions)
    left = context.spec.questions - asked
    planned = context.agenda.planned
    if left <= 0 or not in_time:
        return NextMove(move=MoveKind.CLOSE)
    current = context.agenda.current
    on_topic = [
        each for each in context.asked.values() if current and each.topic == current.topic.id
    ]
    exhausted = len(on_topic) > MAX_PROBES or left <= len(planned)
    if planned and (exhausted or assessed.intent is Intent.SKIP):
        return NextMove(move=MoveKind.NEXT)
    if assessed.intent is Intent.DONT_KNOW:
        if any(each.move is MoveKind.EASIER for each in on_topic):
            return NextMove(move=MoveKind.NEXT if planned else MoveKind.CLOSE)
        return NextMove(move=MoveKind.EASIER)
    if assessed.vague:
        return NextMove(move=MoveKind.CONCRETE)
    if assessed.missing:
        return NextMove(move=MoveKind.PROBE, point=assessed.missing[0])
    return NextMove(move=MoveKind.DEEPER)


async def _ask_model(
    gateway: Gateway,
    call: Call,
    info: ModelInfo,
    context: PromptContext,
    assessed: Assessed,
    move: NextMove,
) -> tuple[Assessed, NextMove]:
    prompt = build_decision_prompt(info, context, assessed.missing)
    prompt = msgspec.structs.replace(prompt, conversation=call.interview)
    chosen = ""
    probabilities: tuple[float, ...] = ()
    call = msgspec.structs.replace(call, purpose="decision")
    async with aclosing(gateway.generate(call, prompt)) as events:
        async for event in events:
            match event:
                case TextDelta(text=text):
                    chosen += text
                case Usage():
                    probabilities = event.probabilities
    certain = max(probabilities, default=0.0) >= MIN_PROBABILITY
    if chosen == QUESTION_BACK and certain:
        return msgspec.structs.replace(assessed, intent=Intent.QUESTION), move
    if chosen == OFF_TOPIC and certain:
        return msgspec.structs.replace(assessed, intent=Intent.OFF_TOPIC), move
    if chosen == COVERED:
        return assessed, NextMove(move=MoveKind.DEEPER)
    question = context.open_question
    known = points_of(context, question.topic if question is not None else "")
    if chosen.isdigit() and 0 < int(chosen) <= len(known):
        return assessed, NextMove(move=MoveKind.PROBE, point=known[int(chosen) - 1])
    return assessed, move

"""Assessment of an answer and choice of the next move, by rules and, if it can, by the model."""

import asyncio
from contextlib import aclosing

import msgspec
import structlog
from msgspec import Struct

from prepserver.engines.types import ModelInfo, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.dialogue.coverage import assess_answer
from prepserver.interview.dialogue.decision import PROBES, Move, MoveKind, Situation, decide_move
from prepserver.interview.dialogue.records import AssessedAnswer
from prepserver.interview.prompts.build import asks_by_rules, build_decision_prompt
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.instruct import COVERED, OFF_TOPIC, QUESTION_BACK, points_of
from prepserver.interview.prompts.wording import follow_up_by_rules
from prepserver.wire.agenda import TopicKind
from prepserver.wire.protocol import Intent

__all__ = ["assess"]

MIN_PROBABILITY = 0.6
"""Probability from which the model's word is taken that a message is no answer."""

MIN_COMPLETE = 0.8
"""Probability from which the model's word is taken that an answer covers all points. Models of this
size find nearly every answer complete."""

log = structlog.get_logger(__name__)


class _Opinion(Struct, frozen=True):
    """What the model says about an answer."""

    intent: Intent
    missing: str = ""
    """Point that the answer leaves out; empty if the model names none."""
    complete: bool = False
    """True if the model finds that the answer covers all points."""


async def assess(
    gateway: Gateway, call: Call, context: PromptContext, *, minutes_left: float | None
) -> tuple[AssessedAnswer, Move]:
    """Return what the last answer was and covered, and the next move.

    The rules decide, and a model that follows instructions says which point is missing, and whether
    the message is an answer at all if the rules do not know. A model is asked only if its word can
    change the next move. If it fails, the rules decide alone.
    """
    answer, topic = context.messages[-1], context.agenda.current
    question, points = context.open_question, points_of(context, topic.topic.id if topic else "")
    text = question.text if question is not None else ""
    given = " ".join(context.answers_on_topic) or answer.text
    # The first assessment of a process prepares the statistics of the bank's words.
    assessment = await asyncio.to_thread(assess_answer, text, points, given)
    assessed = AssessedAnswer(intent=answer.intent or Intent.ANSWER, assessment=assessment)
    situation = _situation(context, assessed, minutes_left)
    info = await _model_info(gateway, call)
    move = _or_next(info, context, decide_move(situation))
    if move.kind is not MoveKind.PROBE and answer.intent is not None:
        return assessed, move
    opinion = None if info is None else await _ask_model(gateway, call, info, context, points)
    if opinion is None:
        return assessed, move
    if opinion.intent is not Intent.ANSWER:
        return msgspec.structs.replace(assessed, intent=opinion.intent), move
    if move.kind is MoveKind.PROBE and opinion.complete:
        return assessed, _or_next(info, context, Move(MoveKind.DEEPER))
    return assessed, _or_next(info, context, decide_move(situation, opinion.missing))


def _or_next(info: ModelInfo | None, context: PromptContext, move: Move) -> Move:
    """Return `move`, or the move to the next topic if rules make the follow-ups and have none: the
    next topic is worth more than a question that fits every answer."""
    if info is None or not context.agenda.planned or move.kind not in PROBES:
        return move
    moved = msgspec.structs.replace(context, next_move=move)
    if asks_by_rules(info, context) and follow_up_by_rules(moved) is None:
        return Move(MoveKind.NEXT)
    return move


def _situation(
    context: PromptContext, assessed: AssessedAnswer, minutes_left: float | None
) -> Situation:
    topic, intent = context.agenda.current, assessed.intent
    made = (
        context.moves[message.id]
        for message in context.messages
        if message.id in context.moves and topic is not None and message.topic == topic.topic.id
    )
    moves = tuple(move for move in made if move.kind is not MoveKind.NEXT)
    if intent not in (Intent.ANSWER, Intent.DONT_KNOW):
        intent = Intent.SKIP  # the candidate stays beside the subject, so the interview goes on
    planned = context.agenda.planned
    opening = topic is not None and topic.topic.kind is TopicKind.OPENING
    # The first follow-up on a topic is worth more than the second one on an earlier topic, or than
    # one on the opening.
    first = not opening and not moves
    later = sum(each.topic.kind is TopicKind.TOPIC for each in planned)
    return Situation(
        intent=intent,
        assessment=assessed.assessment,
        moves=moves,
        questions_left=context.spec.questions - len(context.asked_questions),
        minutes_left=minutes_left,
        topics_left=len(planned),
        reserved=0 if first else later,
    )


async def _model_info(gateway: Gateway, call: Call) -> ModelInfo | None:
    """Return what is known about the model, or None if it does not run."""
    try:
        return await gateway.model_info(call)
    except InferenceError as error:
        log.warning("turn.no_model", interview=call.interview, code=error.code)
        return None


async def _ask_model(
    gateway: Gateway, call: Call, info: ModelInfo, context: PromptContext, points: tuple[str, ...]
) -> _Opinion | None:
    """Return the model's opinion about the last answer, or None if it cannot give one."""
    if info.few_shot:
        return None
    try:
        prompt = build_decision_prompt(info, context, points)
        prompt = msgspec.structs.replace(prompt, conversation=call.interview)
        chosen, probabilities = "", {}
        async with aclosing(
            gateway.generate(msgspec.structs.replace(call, purpose="decision"), prompt)
        ) as events:
            async for event in events:
                match event:
                    case TextDelta(text=text):
                        chosen += text
                    case Usage():
                        probabilities = dict(zip(prompt.options, event.probabilities, strict=False))
    except InferenceError as error:
        log.warning("turn.decision_failed", interview=call.interview, code=error.code)
        return None
    probability = probabilities.get(chosen, 1.0)
    if chosen in (QUESTION_BACK, OFF_TOPIC) and probability >= MIN_PROBABILITY:
        return _Opinion(Intent.QUESTION if chosen == QUESTION_BACK else Intent.OFF_TOPIC)
    if chosen == COVERED and probability >= MIN_COMPLETE:
        return _Opinion(Intent.ANSWER, complete=True)
    if chosen == COVERED:
        # The most probable of the points, which the model finds covered without being sure.
        chosen = max(prompt.options[: len(points)], key=lambda each: probabilities.get(each, 0.0))
    if chosen.isdigit() and 0 < int(chosen) <= len(points):
        return _Opinion(Intent.ANSWER, missing=points[int(chosen) - 1])
    return _Opinion(Intent.ANSWER)

"""Words of the interviewer that need no model, whatever the model."""

import re

from prepserver.interview.dialogue.decision import MoveKind
from prepserver.interview.dialogue.follow_ups import Want, follow_up_candidates
from prepserver.interview.dialogue.hint_ladder import hint_text
from prepserver.interview.dialogue.phrases import phrase
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.turns.steps import Step
from prepserver.wire.languages import ENGLISH
from prepserver.wire.protocol import Intent

__all__ = [
    "bare_question",
    "canned_reply",
    "follow_up_by_rules",
    "known_reply",
    "spare_questions",
    "transition",
]

SPARE_QUESTIONS = (
    "Could you give me one concrete example of that?",
    "What was your own part in it?",
    "How did it turn out in the end?",
    "What would you do differently today?",
    "What was the hardest part of it for you?",
)
"""Questions that fit after nearly every answer."""

_REPLIES = {
    Intent.REPEAT: "repeat",
    Intent.REPHRASE: "rephrase",
    Intent.PAUSE: "pause",
    Intent.QUESTION: "question",
    Intent.OFF_TOPIC: "off_topic",
    Intent.HOSTILE: "hostile",
    Intent.UNUSABLE: "unusable",
}
"""Name in phrases.toml of the reply to each kind of request."""

_TRANSITIONS = {Intent.SKIP: "skipped", Intent.DONT_KNOW: "not_known"}
"""Name in phrases.toml of the transition after each kind of answer."""


_WANTS: dict[MoveKind, Want] = {MoveKind.EASIER: "easier", MoveKind.CONCRETE: "concrete"}
"""Kinds of follow-up that a move decides. The rules choose the others by the words of the
answer."""


def known_reply(step: Step, context: PromptContext) -> str | None:
    """Return the reply of a step if it needs no model, otherwise None."""
    english = context.spec.language == ENGLISH
    match step:
        case Step.QUESTION if english and context.opens_topic and context.topic is not None:
            return f"{transition(context)} {context.topic.topic.question}"
        case Step.QUESTION if english and context.next_move.kind is MoveKind.EASIER:
            base = context.current_question
            return None if base is None else f"{transition(context)} {base.easier}"
        case Step.REPLY:
            intent = context.messages[-1].intent or Intent.UNUSABLE
            if intent in (Intent.REPHRASE, Intent.QUESTION):
                return None
            question = context.open_question
            return canned_reply(context, intent, question.text if question is not None else "")
        case Step.HINT:
            return _hint(context)
        case _:
            return None


def follow_up_by_rules(context: PromptContext) -> str | None:
    """Return a follow-up on the last answer in the language of the bank, or None if the rules have
    none, or if the next question opens a topic."""
    if context.opens_topic:
        return None
    *earlier, answer = context.answers_on_topic or ("",)
    found = follow_up_candidates(
        answer,
        context.current_question,
        context.asked_questions,
        earlier=earlier,
        want=_WANTS.get(context.next_move.kind),
    )
    return next(iter(found), None)


def _hint(context: PromptContext) -> str:
    base, question = context.current_question, context.open_question
    is_main = base is not None and question is not None and base.text in question.text
    return hint_text(context.hint_level, base if is_main else None, "", context.spec.type)


def spare_questions(context: PromptContext) -> tuple[str, ...]:
    """Return questions to ask if the model writes no acceptable one, the best first."""
    base = context.current_question
    forms = (base.vague, base.harder, base.easier) if base is not None else ()
    return (*forms, *SPARE_QUESTIONS)


def transition(context: PromptContext) -> str:
    """Return the words before the main question of a topic: a welcome, or an acknowledgement of the
    last answer, which is never praise."""
    language, number = context.spec.language, len(context.asked_questions)
    if not number:
        return phrase(language, "welcome", 0, role=" ".join(context.spec.role.split()))
    intent = context.assessed.intent if context.assessed is not None else Intent.ANSWER
    return phrase(language, _TRANSITIONS.get(intent, "move_on"), number)


def canned_reply(context: PromptContext, intent: Intent, question: str) -> str:
    """Return the reply to a request that leaves `question` open."""
    number = sum(message.intent is intent for message in context.messages)
    return phrase(context.spec.language, _REPLIES[intent], number, question=bare_question(question))


def bare_question(text: str) -> str:
    """Return a question without the sentences before it."""
    return re.split(r"(?<=[.!])\s+", text.strip())[-1]

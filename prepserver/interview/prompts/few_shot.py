"""Replies of interviews on models below one billion parameters.

Such a model neither follows instructions nor asks sensible questions of its own. All replies are
therefore made by rules, and nothing is prefilled or summarised for the model.
"""

from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.wording import canned_reply, spare_questions, transition
from prepserver.interview.questions.plan import is_acceptable_question
from prepserver.wire.protocol import Intent, MessageKind, Source

__all__ = [
    "closing_reply",
    "question_reply",
    "request_reply",
    "summary_reply",
]

GENERAL_QUESTIONS = (
    "What have we not talked about yet that I should know about your work?",
    "Which of your answers would you like to come back to, and what would you add?",
    "What would you like to ask me about the role?",
    "Which part of this role do you look forward to most, and which least?",
    "What would your last colleagues tell me about working with you?",
    "What would you want to learn in your first three months here?",
)
"""Questions for a topic that has used up its follow-up questions."""

CLOSINGS = (
    "That was my last question. Thank you for your time and for your answers.",
    "We have reached the end of my questions. Thank you for taking the time.",
    "That is all from my side. Thank you for talking with me today.",
)


def question_reply(context: PromptContext, seed: int) -> tuple[str, Source]:
    """Return a question for a topic about which the rules have none left; or the main question of a
    topic, which stays in the language of the bank, because such a model cannot translate."""
    if context.opens_topic and context.topic is not None:
        return f"{transition(context)} {context.topic.topic.question}", Source.BANK
    asked = context.asked_questions
    spare = (*spare_questions(context), *GENERAL_QUESTIONS)
    unused = [text for text in spare if is_acceptable_question(text, asked)]
    return (*unused, *GENERAL_QUESTIONS)[0], Source.BANK


def request_reply(context: PromptContext, intent: Intent, seed: int) -> tuple[str, Source]:
    """Return the reply to a question of the candidate, or the open question in other words."""
    question = context.open_question
    text = question.text if question is not None else ""
    base = context.current_question
    if intent is Intent.REPHRASE and base is not None:
        asked = "\n".join(context.asked_questions)
        text = next((form for form in (base.easier, base.vague) if form not in asked), text)
    return canned_reply(context, intent, text), Source.BANK


def closing_reply(context: PromptContext, seed: int) -> tuple[str, Source]:
    return CLOSINGS[seed % len(CLOSINGS)], Source.BANK


def summary_reply(context: PromptContext, seed: int) -> tuple[str, Source]:
    """Return the sentence that names the topics that the candidate spoke about."""
    return f"We talked about {_name_topics(context)}.", Source.BANK


def _name_topics(context: PromptContext) -> str:
    """Return the topics of the main questions that were answered, joined for a sentence."""
    topics, current = list[str](), ""
    for message in context.messages:
        if message.kind is MessageKind.QUESTION:
            found = [q.topic for q in context.main_questions if q.text in message.text]
            current = found[0] if found else current
        elif message.kind is MessageKind.ANSWER and current and current not in topics:
            topics.append(current)
    *first, last = topics or [f"the role of {' '.join(context.spec.role.split())}"]
    return f"{', '.join(first)} and {last}" if first else last

"""Replies and prompts for models below one billion parameters.

Such a model neither follows instructions nor asks sensible questions of its own. Follow-up
questions, closings and summaries are therefore made by rules.
"""

import re

from prepserver.engines.types import Prompt
from prepserver.interview.dialogue.follow_ups import follow_up_candidates
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.wording import canned_reply, spare_questions, transition
from prepserver.interview.questions.bank import Bank
from prepserver.interview.questions.plan import is_acceptable_question
from prepserver.wire.protocol import Intent, InterviewType, MessageKind, Source

__all__ = [
    "closing_reply",
    "history_summary_prompt",
    "prefill_prompt",
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

_EXAMPLES = {
    InterviewType.BEHAVIOURAL: (
        ("Two people on my team disagreed about the deadline, so I set up a meeting and we cut "
         "one feature.", "What was the hardest part of the meeting with both of them in the room?"),
        ("A customer was angry about a late delivery. I called her, explained the delay and "
         "offered a refund.", "What did you learn from the delay?"),
        ("I was new and did not know the process, so I wrote down every step and shared the "
         "notes.", "How did other people react to the notes?"),
    ),
    InterviewType.TECHNICAL: (
        ("I rebuilt the search page so that results load in under a second. We cached the common "
         "queries and dropped two slow joins.", "How did you decide on the common queries?"),
        ("I wrote a script in Python that checks the logs every hour and sends an alert when "
         "errors go up.", "What would have happened without the alert?"),
        ("The tests were slow, so I split the suite and ran the parts in parallel.",
         "What could have gone wrong with the suite after the split?"),
    ),
    InterviewType.SYSTEM_DESIGN: (
        ("I would put a queue between the upload and the workers, so that a burst does not lose "
         "any file.", "What would you change about the queue for a much larger burst?"),
        ("Each region keeps its own copy and the writes go to one leader.",
         "What could have gone wrong with the leader during a failover?"),
        ("I would cache the home page for a minute, because most visitors see the same thing.",
         "How would you explain the cache to a new colleague?"),
    ),
}  # fmt: skip


def question_reply(bank: Bank, context: PromptContext, seed: int) -> tuple[Prompt | str, Source]:
    """Return a follow-up question; or the main question of a topic, which stays in the language of
    the bank, because such a model cannot translate."""
    if context.opens_topic and context.topic is not None:
        return f"{transition(context)} {context.topic.topic.question}", Source.BANK
    *earlier, answer = context.answers_on_topic or ("",)
    asked = context.asked_questions
    candidates = follow_up_candidates(answer, context.current_question, asked, earlier=earlier)
    spare = (*spare_questions(context), *GENERAL_QUESTIONS)
    unused = [text for text in spare if is_acceptable_question(text, asked)]
    return (*candidates, *unused, *GENERAL_QUESTIONS)[0], Source.BANK


def request_reply(
    bank: Bank, context: PromptContext, intent: Intent, seed: int
) -> tuple[Prompt | str, Source]:
    """Return the reply to a question of the candidate, or the open question in other words."""
    question = context.open_question
    text = question.text if question is not None else ""
    base = context.current_question
    if intent is Intent.REPHRASE and base is not None:
        asked = "\n".join(context.asked_questions)
        text = next((form for form in (base.easier, base.vague) if form not in asked), text)
    return canned_reply(context, intent, text), Source.BANK


def closing_reply(bank: Bank, context: PromptContext, seed: int) -> tuple[Prompt | str, Source]:
    return CLOSINGS[seed % len(CLOSINGS)], Source.BANK


def summary_reply(bank: Bank, context: PromptContext, seed: int) -> tuple[Prompt | str, Source]:
    """Return the sentence that names the topics that the candidate spoke about."""
    return f"We talked about {_name_topics(context)}.", Source.BANK


def history_summary_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    """Return a prompt whose opening, the whole reply, names the topics of the oldest exchanges."""
    return Prompt(
        purpose="history_summary",
        text=_conversation(context),
        opening=f"They talked about {_name_topics(context)}.",
        max_tokens=0,
    )


def prefill_prompt(context: PromptContext) -> Prompt:
    return Prompt(purpose="prefill", text=_conversation(context))


def _name_topics(context: PromptContext) -> str:
    """Return the topics of the main questions that were answered, joined for a sentence."""
    topics, current = list[str](), ""
    for message in context.messages:
        if message.kind is MessageKind.QUESTION:
            found = [q.topic for q in context.main_questions if q.text in message.text]
            current = found[0] if found else current
        elif message.kind is MessageKind.ANSWER and current and current not in topics:
            topics.append(current)
    *first, last = topics or [f"the role of {_single_line(context.spec.role)}"]
    return f"{', '.join(first)} and {last}" if first else last


def _conversation(context: PromptContext) -> str:
    """Return the examples and the conversation as text.

    Until old messages are summarised or omitted, each turn only appends to this text.
    """
    kind = context.spec.type
    examples = _EXAMPLES.get(kind) or [e[0] for e in _EXAMPLES.values()]
    lines = ["A job interviewer asks one short question about what the candidate just said.", ""]
    for answer, follow_up in examples:
        lines += [f"Candidate: {answer}", f"Interviewer: {follow_up}", ""]
    lines.append(f"The next interview is for the role of {_single_line(context.spec.role)}.")
    if context.history_summary.text:
        lines.append(f"So far: {_single_line(context.history_summary.text)}")
    for message in context.visible_messages:
        if message.kind is MessageKind.QUESTION:
            lines += [f"Interviewer: {_single_line(message.text)}", ""]
        elif message.kind is MessageKind.ANSWER:
            lines.append(f"Candidate: {_single_line(message.text)}")
    return "\n".join(lines)


def _single_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()

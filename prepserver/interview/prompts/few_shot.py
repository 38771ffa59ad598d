"""Prompts for models below one billion parameters.

Such a model neither follows instructions nor asks sensible questions of its own. Follow-up
questions, closings and summaries are therefore made by rules, and their prompts hold the whole
reply. The model chooses skills and main questions, among examples that it continues.
"""

import json
import re
from collections.abc import Iterable, Sequence

from prepserver.engines.types import Prompt
from prepserver.interview.dialogue.follow_ups import follow_up_candidates
from prepserver.interview.dialogue.hint_ladder import hint_text
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.questions.bank import Bank, Question
from prepserver.interview.questions.plan import MAX_SKILLS, skill_choices
from prepserver.wire.protocol import InterviewType, MessageKind, Source

__all__ = [
    "closing_prompt",
    "hint_prompt",
    "history_summary_prompt",
    "prefill_prompt",
    "question_prompt",
    "skills_prompt",
    "summary_prompt",
]

MAIN_CHOICES = 3
"""Maximum number of main questions from which the model chooses."""

TOPIC_OPENINGS = (
    "Thank you. Let us talk about {topic}.",
    "Let us move on to {topic}.",
    "I would also like to talk about {topic}.",
    "Thank you. Next, I would like to hear about {topic}.",
)
"""Openings of the main questions after the first, which take turns."""

GENERAL_QUESTIONS = (
    "What have we not talked about yet that I should know about your work?",
    "Which of your answers would you like to come back to, and what would you add?",
    "What would you like to ask me about the role?",
    "Which part of this role do you look forward to most, and which least?",
    "What would your last colleagues tell me about working with you?",
    "What would you want to learn in your first three months here?",
)
"""Questions for an interview that has used up its plan."""

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


def skills_prompt(bank: Bank, context: PromptContext) -> Prompt:
    """Return a prompt that asks which skills matter for the role. The reply is `{"skills":
    [...]}`."""
    choices = skill_choices(bank, context.spec) or sorted(bank.skills)
    text = (
        "Role: Frontend Developer\nSkills: javascript, accessibility, testing\n\n"
        "Role: Data Engineer\nSkills: sql, python, data engineering\n\n"
        f"Role: {_single_line(context.spec.role)}\nSkills as JSON: "
    )
    return Prompt(
        purpose="skills",
        text=text,
        schema={
            "type": "object",
            "properties": {
                "skills": {
                    "type": "array",
                    "items": {"type": "string", "enum": choices},
                    "minItems": min(3, len(choices)),
                    "maxItems": MAX_SKILLS,
                }
            },
            "required": ["skills"],
        },
        max_tokens=120,
        temperature=0.2,
        repeat_penalty=1.5,  # otherwise the model repeats one skill
    )


def question_prompt(bank: Bank, context: PromptContext, seed: int) -> tuple[Prompt, Source]:
    """Return the prompt for a main or a follow-up question, and the source of the question."""
    if not (context.main_question_next and context.unasked_questions):
        *earlier, answer = context.answers_on_topic or ("",)
        candidates = follow_up_candidates(
            answer, context.current_question, context.asked_questions, earlier=earlier
        )
        if candidates:
            return _fixed_prompt(context, "question", candidates[0]), Source.BANK
    if context.unasked_questions:
        return _main_question_prompt(context, seed), Source.BANK
    asked = context.asked_questions
    unused = [text for text in GENERAL_QUESTIONS if text not in asked] or GENERAL_QUESTIONS
    return _fixed_prompt(context, "question", unused[0]), Source.BANK


def _main_question_choices(context: PromptContext) -> Sequence[Question]:
    """Return up to `MAIN_CHOICES` unasked main questions.

    The choices for the first question of an interview are openers, and the choices for later
    questions are not. If the plan has no such questions left, the other unasked questions are
    returned.
    """
    fit = [q for q in context.unasked_questions if q.opener is not bool(context.asked_questions)]
    return (fit or context.unasked_questions)[:MAIN_CHOICES]


def _main_question_prompt(context: PromptContext, seed: int) -> Prompt:
    choices, asked = _main_question_choices(context), context.asked_questions
    if not asked:
        role = _single_line(context.spec.role)
        opening = f" Hello, and welcome. We will talk about the role of {role}."
        texts = [f" {q.text}" for q in choices]
    else:
        opening = ""
        number = sum(q.text in text for q in context.main_questions for text in asked) - 1
        frame = TOPIC_OPENINGS[max(number, 0) % len(TOPIC_OPENINGS)]
        texts = [f" {frame.format(topic=q.topic)} {q.text}" for q in choices]
    return Prompt(
        purpose="question",
        text=_conversation(context) + "\nInterviewer:",
        opening=opening,
        grammar=f"root ::= {_alternatives(texts)}",
        max_tokens=120,
        temperature=0.6,
        top_p=0.9,
        min_p=0.1,
        repeat_penalty=1.05,
        seed=seed,
    )


def hint_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    current, last = context.current_question, (context.asked_questions or ("",))[-1]
    main = current if current is not None and current.text in last else None
    return _fixed_prompt(
        context, "hint", hint_text(context.hint_level, main, "", context.spec.type)
    )


def closing_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    return _fixed_prompt(context, "closing", CLOSINGS[seed % len(CLOSINGS)])


def summary_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    """Return the sentence that names the topics that the candidate spoke about."""
    return _fixed_prompt(context, "summary", f"We talked about {_name_topics(context)}.")


def history_summary_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    """Return the sentence that names the topics of the oldest exchanges."""
    return _fixed_prompt(context, "history_summary", f"They talked about {_name_topics(context)}.")


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


def prefill_prompt(context: PromptContext) -> Prompt:
    return Prompt(purpose="prefill", text=_conversation(context))


def _fixed_prompt(context: PromptContext, purpose: str, reply: str) -> Prompt:
    """Return a prompt whose reply is complete, so that no model is called."""
    text = _conversation(context) + "\nInterviewer:"
    return Prompt(purpose=purpose, text=text, opening=f" {reply}", max_tokens=0)


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
        else:
            lines.append(f"Candidate: {_single_line(message.text)}")
    return "\n".join(lines)


def _single_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _alternatives(texts: Iterable[str]) -> str:
    """Return GBNF that matches any of `texts`.

    Control characters are replaced by spaces, because a JSON string without them is a valid GBNF
    literal.
    """
    return " | ".join(
        json.dumps(re.sub(r"[\x00-\x1f]+", " ", text), ensure_ascii=False) for text in texts
    )

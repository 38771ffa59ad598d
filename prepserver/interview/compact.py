"""Prompts for models below about one billion parameters.

Such a model does not follow instructions: it goes on from examples, and it holds to a subject
only if it must. So a grammar fixes the frame of what it says: it chooses the way of asking from
those not used yet, chooses a phrase that the candidate really said, and writes the rest.
"""

import json
import re
from collections.abc import Iterable, Sequence

from prepserver.ai.values import Prompt
from prepserver.interview.phrases import key_phrases
from prepserver.interview.plan import MAX_SKILLS, Brief, skill_choices
from prepserver.interview.questions.bank import Bank, Question
from prepserver.protocol import InterviewType, MessageKind, Source

__all__ = ["closing", "hint", "question", "skills", "summary"]

MAIN_CHOICES = 3
"""Main questions that the model chooses from."""

LONGEST_TURN = 1_200
"""Characters of one answer in the prompt: a small model loses itself in longer ones. The cut is
the same each time, so the prompt stays append-only."""

STEMS = (
    "What was the hardest part of",
    "What would you change about",
    "What did you learn from",
    "How did you deal with",
    "What could have gone wrong with",
    "What surprised you about",
    "How would you explain",
    "What was your own part in",
    "How did you prepare for",
    "What would have happened without",
    "How did other people react to",
    "How did you check",
    "What alternatives did you weigh against",
    "What would you do first about",
    "How long did it take to sort out",
    "Who else depended on",
    "What did you measure to judge",
    "What risks did you see in",
    "How would a beginner misunderstand",
    "What made you decide on",
)
NEUTRAL_STEMS = (
    "What do you already know about",
    "How would you find out more about",
    "What makes people struggle with",
    "Where have you come across",
    "What would you want to learn first about",
    "Who would you ask for help with",
)
HINT_STEMS = ("You could begin with", "Try to mention", "Think about", "Say a few words about")

_TAIL = r"""
tail ::= " " joint (" " word){1,6}
joint ::= "in" | "on" | "for" | "with" | "to" | "when" | "while" | "before" | "after" | where
where ::= "over" | "during" | "without" | "between" | "across"
word ::= [a-zA-Z] [a-zA-Z'-]{0,13}
"""

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


def skills(bank: Bank, brief: Brief) -> Prompt:
    """Choose the skills that matter for the role; the reply is `{"skills": [...]}`."""
    choices = skill_choices(bank, brief.spec) or sorted(bank.skills)
    text = (
        "Role: Frontend Developer\nSkills: javascript, accessibility, testing\n\n"
        "Role: Data Engineer\nSkills: sql, python, data engineering\n\n"
        f"Role: {_line(brief.spec.role)}\nSkills as JSON: "
    )
    return Prompt(
        purpose="skills",
        text=text,
        schema={
            "type": "object",
            "properties": {
                "skills": {
                    "type": "array",
                    "items": {"type": "string", "enum": choices[:40]},
                    "minItems": 1,
                    "maxItems": MAX_SKILLS,
                }
            },
            "required": ["skills"],
        },
        max_tokens=120,
        temperature=0.2,
    )


def question(bank: Bank, brief: Brief, seed: int) -> tuple[Prompt, Source]:
    """Either one of the next main questions, or a follow-up on the last answer."""
    phrases = () if brief.main_next else _phrases(bank, brief.answers[-1:])
    if brief.main_next and brief.unasked:
        return _main(brief, brief.unasked[:MAIN_CHOICES], seed), Source.BANK
    stems: Sequence[str] = _unused(STEMS, brief.asked)
    if not phrases:
        # Nothing to hold on to, as in "I don't know": stay with the topic of the main question.
        current = brief.current
        phrases = (current.topic,) if current else brief.skills[:3] or ("this role",)
        stems = _unused(NEUTRAL_STEMS, brief.asked)
    grammar = f'root ::= " " stem " " phrase tail? "?"\nstem ::= {_any(stems)}\n{_said(phrases)}'
    return _prompt(brief, "question", grammar=grammar, seed=seed), Source.MODEL


def _main(brief: Brief, choices: Sequence[Question], seed: int) -> Prompt:
    if not brief.asked:
        opening = f" Hello, and welcome. We will talk about the role of {_line(brief.spec.role)}."
        texts = [f" {q.text}" for q in choices]
    else:
        opening = " Thank you."
        texts = [f" Let us talk about {q.topic}. {q.text}" for q in choices]
    return _prompt(brief, "question", opening=opening, grammar=f"root ::= {_any(texts)}", seed=seed)


def hint(bank: Bank, brief: Brief, seed: int) -> Prompt:
    """A nudge towards what a good answer has, from the bank or from the question itself."""
    current = brief.current
    from_bank = current is not None and bool(brief.asked) and current.text in brief.asked[-1]
    if current is not None and from_bank:
        return _hint(brief, current.listen_for, "", seed)
    phrases = _phrases(bank, brief.asked[-1:]) or ("an example from your own work",)
    return _hint(brief, phrases, " tail?", seed)


def _hint(brief: Brief, phrases: Sequence[str], tail: str, seed: int) -> Prompt:
    grammar = f'root ::= " " stem " " phrase{tail} "."\nstem ::= {_any(HINT_STEMS)}\n'
    ask = "\n\nHint for the candidate:"
    return _prompt(brief, "hint", ask=ask, grammar=grammar + _said(phrases), seed=seed)


def closing(bank: Bank, brief: Brief, seed: int) -> Prompt:
    phrases = _phrases(bank, brief.answers) or ("your work",)
    return _prompt(
        brief,
        "closing",
        opening=" That was my last question. Thank you for your time. I was glad to hear about",
        grammar=f'root ::= " " phrase tail? "."\n{_said(phrases)}',
        seed=seed,
    )


def summary(bank: Bank, brief: Brief, seed: int) -> Prompt:
    phrases = _phrases(bank, brief.answers)
    if len(phrases) < 2:
        phrases = (*phrases, "this role", "your work")[:2]
    return _prompt(
        brief,
        "summary",
        ask="\n\nSummary:",
        opening=" You spoke about",
        grammar=f'root ::= " " phrase " and " phrase "."\n{_said(phrases)}',
        seed=seed,
    )


def _prompt(
    brief: Brief,
    purpose: str,
    *,
    grammar: str,
    seed: int,
    opening: str = "",
    ask: str = "\nInterviewer:",
) -> Prompt:
    return Prompt(
        purpose=purpose,
        text=_conversation(brief) + ask,
        opening=opening,
        grammar=grammar,
        max_tokens=120,
        temperature=0.4,
        top_p=0.9,
        min_p=0.1,
        repeat_penalty=1.05,
        seed=seed,
    )


def _conversation(brief: Brief) -> str:
    """Examples and what was said so far: each turn only adds to it."""
    kind = brief.spec.type
    examples = _EXAMPLES.get(kind) or [e[0] for e in _EXAMPLES.values()]
    lines = ["A job interviewer asks one short question about what the candidate just said.", ""]
    for answer, follow_up in examples:
        lines += [f"Candidate: {answer}", f"Interviewer: {follow_up}", ""]
    lines.append(f"The next interview is for the role of {_line(brief.spec.role)}.")
    for message in brief.messages:
        if message.kind is MessageKind.QUESTION:
            lines += [f"Interviewer: {_line(message.text)}", ""]
        elif message.kind is MessageKind.ANSWER:
            lines.append(f"Candidate: {_line(message.text)[:LONGEST_TURN]}")
    return "\n".join(lines)


def _phrases(bank: Bank, texts: Sequence[str]) -> tuple[str, ...]:
    text = "\n".join(texts)
    return tuple(key_phrases(text, bank.find_skills(text)))


def _unused(stems: Sequence[str], asked: Iterable[str]) -> Sequence[str]:
    text = "\n".join(asked)
    return [stem for stem in stems if stem not in text] or stems


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _any(texts: Iterable[str]) -> str:
    """GBNF alternatives; a JSON string is a GBNF literal for text without control characters."""
    return " | ".join(
        json.dumps(re.sub(r"[\x00-\x1f]+", " ", t), ensure_ascii=False) for t in texts
    )


def _said(phrases: Iterable[str]) -> str:
    return f"phrase ::= {_any(phrases)}\n{_TAIL}"

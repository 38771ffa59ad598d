"""Prompts for models below about one billion parameters.

Such a model does not follow instructions: it goes on from examples, and it holds to a subject
only if it must. So a grammar fixes the frame of what it says: it chooses the way of asking from
those not used yet, chooses a phrase that the candidate really said, and writes the rest.
"""

import json
import re
from collections.abc import Iterable, Sequence

from prepserver.engines.types import Prompt
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.phrases import key_phrases
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

SUMMARY_SUBJECTS = 4
"""Subjects that stand for the exchanges that a prompt has no room for, each time."""

MAIN_CHOICES = 3
"""Main questions that the model chooses from."""

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
    "How long did it take to sort out",
    "Who else depended on",
    "What did you measure to judge",
    "What risks did you see in",
    "How would a beginner misunderstand",
    "What made you decide on",
)
PEOPLE_STEMS = (
    "How did you work with",
    "What did you learn from",
    "What would have helped",
    "How did you come to an agreement with",
    "What did it mean for",
    "What would you say today to",
    "How did you earn the trust of",
    "What did you need from",
)
"""Ways of asking about somebody."""

NEUTRAL_STEMS = (
    "What can you say about",
    "What comes to mind about",
    "How would you describe",
    "What would you like to know about",
    "What would you tell a friend about",
)
"""Ways of asking about something that the candidate has not spoken of."""

HINT_STEMS = ("You could begin with", "Try to mention", "Think about", "Say a few words about")

MOMENT_STEMS = (
    "Give one number about",
    "Describe one moment with",
    "Begin with what was at stake with",
    "Say what you would do again about",
)
"""Hints for a question about the candidate's own story."""

_PEOPLE = frozenset(
    """
    auditor boss candidate client colleague customer designer developer director engineer head
    lead leader manager nurse owner parent partner patient people person reviewer stakeholder
    student supplier support teacher team teammate tester user vendor
    """.split()
)

_TAIL = r"""
tail ::= " " joint " " owner " " word
joint ::= "in" | "on" | "for" | "with" | "during" | "before" | "after"
owner ::= "the" | "your" | "that"
word ::= [a-z]{2,18}
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


def skills_prompt(bank: Bank, context: PromptContext) -> Prompt:
    """Choose the skills that matter for the role; the reply is `{"skills": [...]}`."""
    choices = skill_choices(bank, context.spec) or sorted(bank.skills)
    text = (
        "Role: Frontend Developer\nSkills: javascript, accessibility, testing\n\n"
        "Role: Data Engineer\nSkills: sql, python, data engineering\n\n"
        f"Role: {_line(context.spec.role)}\nSkills as JSON: "
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
        repeat_penalty=1.5,  # or it says the same skill again and again
    )


def question_prompt(bank: Bank, context: PromptContext, seed: int) -> tuple[Prompt, Source]:
    """Either one of the next main questions, or a follow-up on the last answer."""
    phrases = () if context.main_question_next else _phrases(bank, context.answers[-1:])
    if context.main_question_next and context.unasked_questions:
        return _main(context, _candidates(context), seed), Source.BANK
    if phrases:
        return _prompt(context, "question", grammar=_follow_up(context, phrases), seed=seed), (
            Source.MODEL
        )
    # Nothing to hold on to, as in "I don't know": come to the main question from its parts.
    current = context.current_question
    topics = current.listen_for if current else context.skills[:3] or ("this role",)
    stems = _any(_unused(NEUTRAL_STEMS, context.asked_questions))
    grammar = f'root ::= " " stem " " topic "?"\nstem ::= {stems}\ntopic ::= {_any(topics)}\n'
    return _prompt(context, "question", grammar=grammar, seed=seed), Source.MODEL


def _follow_up(context: PromptContext, phrases: Sequence[str]) -> str:
    """GBNF: a way of asking that fits what it asks about, people or things."""
    things = _things(phrases)
    people = [phrase for phrase in phrases if phrase not in things]
    rules, frames = [_TAIL], []
    for name, stems, subjects in (
        ("thing", STEMS, things),
        ("person", PEOPLE_STEMS, people),
    ):
        if subjects:
            frames.append(f'{name}stem " " {name}')
            rules.append(f"{name}stem ::= {_any(_unused(stems, context.asked_questions))}")
            rules.append(f"{name} ::= {_any(subjects)}")
    return f'root ::= " " ({" | ".join(frames)}) tail? "?"\n' + "\n".join(rules)


def _candidates(context: PromptContext) -> Sequence[Question]:
    """Main questions to choose from: openers to begin with, and only then."""
    fit = [q for q in context.unasked_questions if q.opener is not bool(context.asked_questions)]
    return (fit or context.unasked_questions)[:MAIN_CHOICES]


def _main(context: PromptContext, choices: Sequence[Question], seed: int) -> Prompt:
    if not context.asked_questions:
        opening = f" Hello, and welcome. We will talk about the role of {_line(context.spec.role)}."
        texts = [f" {q.text}" for q in choices]
    else:
        opening = " Thank you."
        texts = [f" Let us talk about {q.topic}. {q.text}" for q in choices]
    return _prompt(
        context, "question", opening=opening, grammar=f"root ::= {_any(texts)}", seed=seed
    )


def hint_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    """A nudge towards what a good answer has, from the bank or from the question itself."""
    current = context.current_question
    last = context.asked_questions[-1] if context.asked_questions else ""
    if current and (current.text in last or any(part in last for part in current.listen_for)):
        stems, subjects = HINT_STEMS, tuple(current.listen_for)
    else:
        stems = MOMENT_STEMS
        subjects = _phrases(bank, context.asked_questions[-1:]) or (
            "an example from your own work",
        )
    grammar = f'root ::= " " stem " " subject "."\nstem ::= {_any(stems)}\n'
    ask = "\n\nHint for the candidate:"
    rules = f"subject ::= {_any(subjects)}\n"
    return _prompt(context, "hint", ask=ask, grammar=grammar + rules, seed=seed)


def closing_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    subjects = _things(_phrases(bank, context.answers)) or ("your work",)
    return _prompt(
        context,
        "closing",
        opening=" That was my last question. Thank you for your time. I was glad to hear about",
        grammar=f'root ::= " " subject "."\nsubject ::= {_any(subjects)}\n',
        seed=seed,
    )


def summary_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    """One sentence on what was spoken about; every name in it was said by the candidate."""
    subjects = _phrases(bank, context.answers) or ("this role",)
    # Two rules without a common phrase: nothing is named twice.
    one, other = subjects[::2], subjects[1::2]
    rules = f"one ::= {_any(one)}\n"
    if other:
        rules = f'root ::= " " one " and " other "."\n{rules}other ::= {_any(other)}\n'
    else:
        rules = f'root ::= " " one "."\n{rules}'
    return _prompt(
        context, "summary", ask="\n\nSummary:", opening=" You spoke about", grammar=rules, seed=seed
    )


def history_summary_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    """What the candidate spoke about in a part of the interview, in the candidate's own phrases."""
    subjects = _phrases(bank, context.answers) or ("this role",)
    names = " ".join(f'" and " n{n}' for n in range(1, min(SUMMARY_SUBJECTS, len(subjects))))
    # Each name is chosen from phrases of its own, so that none comes twice.
    rules = "\n".join(
        f"n{n} ::= {_any(subjects[n::SUMMARY_SUBJECTS])}"
        for n in range(min(SUMMARY_SUBJECTS, len(subjects)))
    )
    return _prompt(
        context,
        "history_summary",
        ask="\n\nSummary:",
        opening=" They spoke about",
        grammar=f'root ::= " " n0 {names} "."\n{rules}\n',
        seed=seed,
    )


def prefill_prompt(context: PromptContext) -> Prompt:
    return Prompt(purpose="prefill", text=_conversation(context))


def _prompt(
    context: PromptContext,
    purpose: str,
    *,
    grammar: str,
    seed: int,
    opening: str = "",
    ask: str = "\nInterviewer:",
    penalty: float = 1.05,
) -> Prompt:
    """`penalty` is on repetition: 1 where whole sentences are given, which it would only split
    into odd tokens."""
    return Prompt(
        purpose=purpose,
        text=_conversation(context) + ask,
        opening=opening,
        grammar=grammar,
        max_tokens=120,
        temperature=0.6,
        top_p=0.9,
        min_p=0.1,
        repeat_penalty=penalty,
        seed=seed,
    )


def _conversation(context: PromptContext) -> str:
    """Examples and what was said so far: each turn only adds to it."""
    kind = context.spec.type
    examples = _EXAMPLES.get(kind) or [e[0] for e in _EXAMPLES.values()]
    lines = ["A job interviewer asks one short question about what the candidate just said.", ""]
    for answer, follow_up in examples:
        lines += [f"Candidate: {answer}", f"Interviewer: {follow_up}", ""]
    lines.append(f"The next interview is for the role of {_line(context.spec.role)}.")
    if context.history_summary.text:
        lines.append(f"So far: {_line(context.history_summary.text)}")
    for message in context.visible_messages:
        if message.kind is MessageKind.QUESTION:
            lines += [f"Interviewer: {_line(message.text)}", ""]
        else:
            lines.append(f"Candidate: {_line(message.text)}")
    return "\n".join(lines)


def _phrases(bank: Bank, texts: Sequence[str]) -> tuple[str, ...]:
    text = "\n".join(texts)
    return tuple(key_phrases(text, bank.find_skills(text)))


def _things(phrases: Sequence[str]) -> Sequence[str]:
    """The phrases that do not name people."""
    return [p for p in phrases if p.split()[-1].lower().removesuffix("s") not in _PEOPLE]


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

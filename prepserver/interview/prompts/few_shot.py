"""Few-shot prompts for models below one billion parameters.

Such a model does not follow instructions, but it continues examples, and it stays on a subject only
if it is forced to. A grammar therefore fixes the form of each reply. For a follow-up question, the
model chooses an unused question stem and a phrase from the candidate's answer, and may add a short
ending.
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
"""Maximum number of subjects in each history summary."""

MAIN_CHOICES = 3
"""Maximum number of main questions from which the model chooses."""

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
"""Question stems for phrases that name people."""

NEUTRAL_STEMS = (
    "What can you say about",
    "What comes to mind when you think about",
    "How would you describe",
    "What would you like to know about",
    "What would you tell a friend about",
)
"""Question stems for subjects that the candidate has not mentioned."""

HINT_STEMS = ("You could begin with", "Try to mention", "Think about", "Say a few words about")

MOMENT_STEMS = (
    "Give one number about",
    "Describe one moment with",
    "Begin with what was at stake with",
    "Say what you would do differently about",
)
"""Hint stems for follow-up questions, which are about the candidate's own story."""

_PEOPLE = frozenset(
    """
    auditor boss candidate client colleague customer designer developer director engineer head
    lead leader manager nurse owner parent partner patient people person reviewer stakeholder
    student supplier support teacher team teammate tester user vendor
    """.split()
)

_TAIL_RULES = r"""
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
    if context.main_question_next and context.unasked_questions:
        return _main_question_prompt(context, seed), Source.BANK
    phrases = () if context.main_question_next else _find_phrases(bank, context.answers[-1:])
    if phrases:
        grammar = _follow_up_grammar(context, phrases)
        return _prompt(context, "question", grammar=grammar, seed=seed), Source.MODEL
    # The answer names nothing, for example "I don't know": ask about a part of the main question.
    current = context.current_question
    topics = current.listen_for if current else context.skills[:3] or ("this role",)
    stems = _alternatives(_unused_stems(NEUTRAL_STEMS, context.asked_questions))
    grammar = f'root ::= " " stem " " topic "?"\nstem ::= {stems}\n'
    rules = f"topic ::= {_alternatives(topics)}\n"
    return _prompt(context, "question", grammar=grammar + rules, seed=seed), Source.MODEL


def _follow_up_grammar(context: PromptContext, phrases: Sequence[str]) -> str:
    """Return GBNF that combines a stem for people or things with a phrase of the same kind."""
    things = _exclude_people(phrases)
    people = [phrase for phrase in phrases if phrase not in things]
    rules, frames = [_TAIL_RULES], []
    for name, stems, subjects in (
        ("thing", STEMS, things),
        ("person", PEOPLE_STEMS, people),
    ):
        if subjects:
            frames.append(f'{name}stem " " {name}')
            unused = _unused_stems(stems, context.asked_questions)
            rules.append(f"{name}stem ::= {_alternatives(unused)}")
            rules.append(f"{name} ::= {_alternatives(subjects)}")
    return f'root ::= " " ({" | ".join(frames)}) tail? "?"\n' + "\n".join(rules)


def _main_question_choices(context: PromptContext) -> Sequence[Question]:
    """Return up to `MAIN_CHOICES` unasked main questions.

    The choices for the first question of an interview are openers, and the choices for later
    questions are not. If the plan has no such questions left, the other unasked questions are
    returned.
    """
    fit = [q for q in context.unasked_questions if q.opener is not bool(context.asked_questions)]
    return (fit or context.unasked_questions)[:MAIN_CHOICES]


def _main_question_prompt(context: PromptContext, seed: int) -> Prompt:
    choices = _main_question_choices(context)
    if not context.asked_questions:
        role = _single_line(context.spec.role)
        opening = f" Hello, and welcome. We will talk about the role of {role}."
        texts = [f" {q.text}" for q in choices]
    else:
        opening = " Thank you."
        texts = [f" Let us talk about {q.topic}. {q.text}" for q in choices]
    return _prompt(
        context, "question", opening=opening, grammar=f"root ::= {_alternatives(texts)}", seed=seed
    )


def hint_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    """Return a prompt for a hint about the last question.

    The hint names a part of a good answer from the bank or, if the question follows up on the
    candidate's own story, a phrase from the question.
    """
    current = context.current_question
    last = context.asked_questions[-1] if context.asked_questions else ""
    if current and (current.text in last or any(part in last for part in current.listen_for)):
        stems, subjects = HINT_STEMS, tuple(current.listen_for)
    else:
        stems = MOMENT_STEMS
        subjects = _find_phrases(bank, [last]) or ("an example from your own work",)
    grammar = f'root ::= " " stem " " subject "."\nstem ::= {_alternatives(stems)}\n'
    cue = "\n\nHint for the candidate:"
    rules = f"subject ::= {_alternatives(subjects)}\n"
    return _prompt(context, "hint", cue=cue, grammar=grammar + rules, seed=seed)


def closing_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    subjects = _exclude_people(_find_phrases(bank, context.answers)) or ("your work",)
    return _prompt(
        context,
        "closing",
        opening=" That was my last question. Thank you for your time. I was glad to hear about",
        grammar=f'root ::= " " subject "."\nsubject ::= {_alternatives(subjects)}\n',
        seed=seed,
    )


def summary_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    """Return a prompt for a sentence that names one or two subjects in phrases from the answers."""
    subjects = _find_phrases(bank, context.answers) or ("this role",)
    # The two rules share no phrase, so the model cannot name one twice.
    one, other = subjects[::2], subjects[1::2]
    rules = f"one ::= {_alternatives(one)}\n"
    if other:
        rules = f'root ::= " " one " and " other "."\n{rules}other ::= {_alternatives(other)}\n'
    else:
        rules = f'root ::= " " one "."\n{rules}'
    return _prompt(
        context, "summary", cue="\n\nSummary:", opening=" You spoke about", grammar=rules, seed=seed
    )


def history_summary_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    """Return a prompt for a summary that names subjects of the oldest exchanges in phrases from the
    answers."""
    subjects = _find_phrases(bank, context.answers) or ("this role",)
    count = min(SUMMARY_SUBJECTS, len(subjects))
    names = " ".join(f'" and " n{n}' for n in range(1, count))
    # The rules share no phrase, so the model cannot name one twice.
    rules = "\n".join(
        f"n{n} ::= {_alternatives(subjects[n::SUMMARY_SUBJECTS])}" for n in range(count)
    )
    return _prompt(
        context,
        "history_summary",
        cue="\n\nSummary:",
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
    cue: str = "\nInterviewer:",
) -> Prompt:
    return Prompt(
        purpose=purpose,
        text=_conversation(context) + cue,
        opening=opening,
        grammar=grammar,
        max_tokens=120,
        temperature=0.6,
        top_p=0.9,
        min_p=0.1,
        repeat_penalty=1.05,
        seed=seed,
    )


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


def _find_phrases(bank: Bank, texts: Sequence[str]) -> tuple[str, ...]:
    text = "\n".join(texts)
    return tuple(key_phrases(text, bank.find_skills(text)))


def _exclude_people(phrases: Sequence[str]) -> Sequence[str]:
    """Return the phrases that do not name people."""
    return [p for p in phrases if p.split()[-1].lower().removesuffix("s") not in _PEOPLE]


def _unused_stems(stems: Sequence[str], asked: Iterable[str]) -> Sequence[str]:
    text = "\n".join(asked)
    return [stem for stem in stems if stem not in text] or stems


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

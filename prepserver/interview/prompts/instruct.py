"""Chat prompts for models that follow instructions, with the texts of instruct.toml.

Each prompt of an interview extends the previous one: the system message, then each question with
its answer. What the candidate says is fenced. The line that asks for a reply stands at the end of
the last answer and is part of no later prompt, so the decision and the question share all that
comes before it.
"""

import functools
import importlib.resources
import itertools
import re
import tomllib
from collections.abc import Sequence

import msgspec

from prepserver.engines.types import ChatTurn, Prompt
from prepserver.interview.dialogue.decision import MoveKind
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.token_budget import estimate_tokens, truncate
from prepserver.interview.prompts.wording import transition
from prepserver.interview.questions.plan import is_acceptable_question
from prepserver.wire.agenda import SkillEvidence, Where
from prepserver.wire.languages import ENGLISH, LANGUAGES
from prepserver.wire.protocol import Intent, Message, MessageKind, Role, Source, speaker_of

__all__ = [
    "OFF_TOPIC",
    "QUESTION_BACK",
    "closing_reply",
    "decision_prompt",
    "history_summary_prompt",
    "prefill_prompt",
    "question_reply",
    "request_reply",
    "summary_reply",
]

GENERAL_POINTS = ("what you did yourself", "why you did it that way", "how it turned out")
"""Points of a good answer to a question whose own points are unknown."""

QUESTION_BACK, OFF_TOPIC, COVERED = "Q", "X", "0"
"""Options of the decision besides the numbers of the points."""

MAX_SKILLS = 6
"""Maximum number of skills in a prompt."""

REPLY_TOKENS = 300
"""Maximum number of tokens of a reply."""

LINE_TOKENS = 90
"""Maximum number of tokens of the last line of a prompt and of the first words of the reply,
without the text that the line quotes."""

MAX_QUOTE = 120
"""Maximum length of a quote in a prompt, in characters."""

STARTS = (
    "How did", "What made you", "Which", "When", "Why", "What would", "Who", "How do you",
    "What happened", "You said", "You mentioned", "What was", "How would", "Where", "What did",
)  # fmt: skip
"""Beginnings of questions; a beginning that was used is left out while others remain."""

SENTENCES = r'root ::= [^?\n]{10,%d} "."'
"""GBNF for sentences without a question, of a maximum length in characters."""

ONE_QUESTION = r'root ::= [^?\n]{14,%d} "?"'
"""GBNF for one question, of a maximum length in characters."""


@functools.cache
def texts() -> dict[str, str]:
    """Return the texts of instruct.toml by name."""
    file = importlib.resources.files("prepserver.interview.prompts") / "instruct.toml"
    return tomllib.loads(file.read_text("utf-8"))


def points_of(context: PromptContext, topic: str) -> tuple[str, ...]:
    """Return the points of a good answer to the main question of a topic."""
    planned = context.agenda.find(topic)
    return (planned.points if planned is not None else ()) or GENERAL_POINTS


def decision_prompt(context: PromptContext, points: Sequence[str]) -> Prompt:
    """Return the prompt that decides which of the `points` the last answer leaves out.

    `points` are some of the points of the topic. The reply is the number of the point among all
    points of the topic, `COVERED`, `QUESTION_BACK` or `OFF_TOPIC`.
    """
    known = points_of(context, _topic_of_answer(context))
    numbers = [str(number) for number, point in enumerate(known, 1) if point in points]
    return Prompt(
        purpose="decision",
        turns=_with_line(context, texts()["check"]),
        options=(*numbers, COVERED, QUESTION_BACK, OFF_TOPIC),
    )


def question_reply(context: PromptContext, seed: int) -> tuple[Prompt | str, Source]:
    """Return the prompt of a follow-up question, or of a main question in another language than
    English. A deeper question has the words of the bank, if there are any. A main question that is
    too long for the prompt stays in its language."""
    if context.opens_topic and context.topic is not None:
        question = context.topic.topic.question
        if estimate_tokens(question) > context.quote_tokens:
            return f"{transition(context)} {question}", Source.BANK
        return _translation(context, question, seed), Source.TRANSLATION
    base = context.current_question
    if (
        context.next_move.kind is MoveKind.DEEPER
        and base is not None
        and context.spec.language == ENGLISH
        and is_acceptable_question(base.harder, context.asked_questions)
    ):
        return base.harder, Source.BANK
    grammar = _question_grammar(context)
    return _chat(context, "question", _ask_line(context), grammar, seed), Source.MODEL


def request_reply(context: PromptContext, intent: Intent, seed: int) -> tuple[Prompt | str, Source]:
    """Return the prompt of the reply to a question of the candidate, or of the open question in
    other words."""
    if intent is Intent.REPHRASE:
        prompt = _chat(context, "rephrase", texts()["rephrase"], ONE_QUESTION % 300, seed)
    else:
        prompt = _chat(context, "reply", texts()["question"], SENTENCES % 300, seed)
    return prompt, Source.MODEL


def closing_reply(context: PromptContext, seed: int) -> tuple[Prompt | str, Source]:
    return _chat(context, "closing", texts()["closing"], SENTENCES % 300, seed), Source.MODEL


def summary_reply(context: PromptContext, seed: int) -> tuple[Prompt | str, Source]:
    return _chat(context, "summary", texts()["summary"], SENTENCES % 600, seed), Source.MODEL


def history_summary_prompt(context: PromptContext, seed: int) -> Prompt:
    line = texts()["history_summary"]
    return _chat(context, "history_summary", line, SENTENCES % 800, seed)


def prefill_prompt(context: PromptContext) -> Prompt:
    return Prompt(purpose="prefill", turns=tuple(_conversation(context)))


def _chat(context: PromptContext, purpose: str, line: str, grammar: str, seed: int) -> Prompt:
    return Prompt(
        purpose=purpose,
        turns=_with_line(context, line),
        grammar=grammar,
        max_tokens=REPLY_TOKENS,
        temperature=0.5,
        repeat_penalty=1.05,
        seed=seed,
    )


def _with_line(context: PromptContext, line: str) -> tuple[ChatTurn, ...]:
    """Return the conversation with `line` at the end of the last turn of the candidate."""
    turns = _conversation(context)
    if turns[-1].role == "user":
        turns[-1] = ChatTurn("user", f"{turns[-1].content}\n{line}")
    else:
        turns.append(ChatTurn("user", line))
    return tuple(turns)


def _conversation(context: PromptContext) -> list[ChatTurn]:
    turns = [ChatTurn("system", _system_text(context))]
    if context.history_summary.text:
        turns.append(
            ChatTurn("user", texts()["history"].format(history=context.history_summary.text))
        )
    shown, asked = context.visible_messages, ""
    first = shown[0].id if shown else ""
    for message in itertools.takewhile(lambda each: each.id != first, context.messages):
        if message.kind is MessageKind.QUESTION:
            asked = message.topic
    for message in shown:
        if speaker_of(message.kind) is Role.INTERVIEWER:
            turns.append(ChatTurn("assistant", message.text))
            if message.kind is MessageKind.QUESTION:
                asked = message.topic
        else:
            turns.append(ChatTurn("user", _fenced(context, message, asked)))
    return turns


def _fenced(context: PromptContext, message: Message, topic: str) -> str:
    """Return a candidate's message between marks, after the notes on its question."""
    inner = re.sub(r"<\s*(/?)\s*(answer|request)\s*>", r"(\1\2)", message.text, flags=re.I)
    if message.kind is MessageKind.REQUEST:
        return texts()["request"].format(text=inner)
    fenced = texts()["answer"].replace("{text}", inner)
    points = "; ".join(f"{n} {point}" for n, point in enumerate(points_of(context, topic), 1))
    notes = texts()["notes"].format(points=truncate(points, context.quote_tokens))
    return f"{notes}\n{fenced}"


def _topic_of_answer(context: PromptContext) -> str:
    question = context.open_question
    return question.topic if question is not None else ""


def _ask_line(context: PromptContext) -> str:
    move, bank = context.next_move, context.current_question
    match move.kind:
        case MoveKind.PROBE if move.point:
            return texts()["probe"].format(point=truncate(move.point, context.quote_tokens))
        case MoveKind.DEEPER:
            return texts()["deeper"]
        case MoveKind.EASIER if bank is not None:
            return texts()["easier"].format(question=truncate(bank.easier, context.quote_tokens))
        case _:
            return texts()["concrete"]


def _question_grammar(context: PromptContext) -> str:
    """Return GBNF for one question. In English its beginning differs from earlier ones."""
    if context.spec.language != ENGLISH:
        return ONE_QUESTION % 240
    used = context.asked_questions[-5:]
    free = [start for start in STARTS if not any(start in text for text in used)]
    starts = " | ".join(f'"{start} "' for start in free or STARTS)
    return f'root ::= start [^?\\n]{{10,200}} "?"\nstart ::= {starts}\n'


def _translation(context: PromptContext, question: str, seed: int) -> Prompt:
    """Return the prompt of a planned question in the language of the interview.

    The prompt of the first question leaves out the conversation, which the model has not read yet.
    """
    language = LANGUAGES.get(context.spec.language, context.spec.language)
    line = texts()["main"].format(language=language, question=question)
    opening = f"{transition(context)} "
    prompt = _chat(context, "translation", line, ONE_QUESTION % 400, seed)
    prompt = msgspec.structs.replace(prompt, opening=opening)
    if not context.asked_questions:
        return msgspec.structs.replace(prompt, turns=(ChatTurn("user", line),), conversation="")
    return prompt


def _system_text(context: PromptContext) -> str:
    spec, limit = context.spec, context.quote_tokens
    role = f"{spec.role} at {spec.company}" if spec.company else spec.role
    text = texts()["system"].format(
        role=truncate(" ".join(role.split()), limit),
        level=spec.level,
        type=spec.type,
        language=LANGUAGES.get(spec.language, spec.language),
    )
    # A skill for which only the role speaks says nothing new.
    named = [skill for skill in context.agenda.skills if skill.quote != spec.role]
    skills = truncate("\n".join(map(_skill_line, named[:MAX_SKILLS])), limit)
    return text + (texts()["skills"].format(skills=skills) if skills else "")


def _skill_line(skill: SkillEvidence) -> str:
    name = {Where.JOB: "skill_in_job", Where.RESUME: "skill_in_resume"}.get(
        skill.where, "skill_in_both"
    )
    quote = " ".join(skill.quote.split())[:MAX_QUOTE]
    return texts()[name].format(name=skill.spelling or skill.name, quote=quote)

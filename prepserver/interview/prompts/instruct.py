"""Chat prompts for models that follow instructions.

The system message and the conversation stay unchanged, except that old messages are summarised or
omitted in a long interview. The cached prefix therefore stays valid from question to question.
"""

from prepserver.engines.types import ChatTurn, Prompt
from prepserver.interview.documents import normalise_text
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.token_budget import truncate
from prepserver.interview.questions.bank import Bank
from prepserver.interview.questions.plan import MAX_SKILLS
from prepserver.wire.protocol import MessageKind, Source

__all__ = [
    "closing_prompt",
    "hint_prompt",
    "history_summary_prompt",
    "prefill_prompt",
    "question_prompt",
    "skills_prompt",
    "summary_prompt",
]

ONE_QUESTION = r'root ::= [^?\n]{14,350} "?"'
"""GBNF for a reply on one line that ends with its only question mark."""


def skills_prompt(bank: Bank, context: PromptContext) -> Prompt:
    """Return a prompt that asks which skills matter most. The reply is `{"skills": [...]}`."""
    return Prompt(
        purpose="skills",
        turns=(
            _system_turn(context),
            ChatTurn(
                "user",
                f"List the {MAX_SKILLS} skills that matter most in this interview, as JSON. Use "
                "words from the job description and the resume where there are any.",
            ),
        ),
        schema={
            "type": "object",
            "properties": {
                "skills": {
                    "type": "array",
                    "items": {"type": "string", "maxLength": 40},
                    "minItems": 1,
                    "maxItems": MAX_SKILLS,
                }
            },
            "required": ["skills"],
        },
        max_tokens=200,
        temperature=0.2,
    )


def question_prompt(bank: Bank, context: PromptContext, seed: int) -> tuple[Prompt, Source]:
    instruction = _question_instruction(context)
    return _chat(context, "question", instruction, ONE_QUESTION, seed), Source.MODEL


def hint_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    instruction = "(The candidate is stuck. Give one short hint: not the answer, and no question.)"
    return _chat(context, "hint", instruction, r'root ::= [^?\n]{10,300} "."', seed)


def closing_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    instruction = (
        "(The interview is over. Thank the candidate in one or two spoken sentences; do not ask.)"
    )
    return _chat(context, "closing", instruction, r'root ::= [^?\n]{10,300} "."', seed)


def summary_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    instruction = (
        "(Sum up in two or three sentences what the candidate said. Invent nothing; do not ask.)"
    )
    return _chat(context, "summary", instruction, r'root ::= [^?\n]{10,600} "."', seed)


def history_summary_prompt(bank: Bank, context: PromptContext, seed: int) -> Prompt:
    instruction = (
        "(Sum up in at most four sentences what was asked and answered above. Keep names and "
        "numbers, invent nothing, do not ask.)"
    )
    return _chat(context, "history_summary", instruction, r'root ::= [^?\n]{10,800} "."', seed)


def prefill_prompt(context: PromptContext) -> Prompt:
    return Prompt(purpose="prefill", turns=tuple(_conversation(context)))


def _chat(
    context: PromptContext, purpose: str, instruction: str, grammar: str, seed: int
) -> Prompt:
    turns = _conversation(context)
    turns.append(ChatTurn("user", instruction))
    return Prompt(
        purpose=purpose,
        turns=tuple(turns),
        grammar=grammar,
        max_tokens=300,
        temperature=0.6,
        repeat_penalty=1.05,
        seed=seed,
    )


def _conversation(context: PromptContext) -> list[ChatTurn]:
    turns = [_system_turn(context)]
    if context.history_summary.text:
        turns.append(ChatTurn("user", f"(What was said before: {context.history_summary.text})"))
    for message in context.visible_messages:
        speaker = "assistant" if message.kind is MessageKind.QUESTION else "user"
        turns.append(ChatTurn(speaker, message.text))
    return turns


def _question_instruction(context: PromptContext) -> str:
    if not context.asked_questions:
        start = f"such as: {context.unasked_questions[0].text}" if context.unasked_questions else ""
        return f"(Greet the candidate in a few words and ask the first question, {start})"
    if context.main_question_next and context.unasked_questions:
        main = context.unasked_questions[0]
        return f"(Move on to {main.topic}. Ask one question, such as: {main.text})"
    return "(Ask one follow-up question about what the candidate just said.)"


def _system_turn(context: PromptContext) -> ChatTurn:
    spec = context.spec
    lines = [
        f"You are interviewing a candidate for the role of {spec.role}"
        + (f" at {spec.company}." if spec.company else "."),
        f"It is a {spec.type} interview at {spec.level} level with {spec.questions} questions.",
        "Ask one question at a time. Never answer for the candidate. Never ask the same thing "
        "twice. Speak plainly and kindly, in at most two sentences.",
    ]
    if spec.job_description:
        text = truncate(normalise_text(spec.job_description), context.document_tokens)
        lines.append(f"Job description:\n{text}")
    if spec.resume:
        text = truncate(normalise_text(spec.resume), context.document_tokens)
        lines.append(f"The candidate's resume:\n{text}")
    return ChatTurn("system", "\n\n".join(lines))

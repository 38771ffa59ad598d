"""Construction of the model's input from the prompt context, in a form that suits the model's size.

`few_shot` builds the prompts for models below one billion parameters; `instruct` builds the prompts
for larger models and for models of unknown size.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from prepserver.engines.types import ModelInfo, Priority, Prompt
from prepserver.interview.prompts import few_shot, instruct
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.token_budget import count_omitted, estimate_tokens, truncate
from prepserver.interview.questions.bank import Bank
from prepserver.interview.turns.steps import Step
from prepserver.wire.protocol import Intent, Message, MessageKind, Role, Source

__all__ = [
    "build_decision_prompt",
    "build_history_summary_prompt",
    "build_prefill_prompt",
    "build_reply",
    "count_outgrown_messages",
]

MAX_ANSWER_TOKENS = 400
"""Maximum number of tokens per message in a prompt for a small model, which loses track of longer
messages."""

LIKELY_ANSWER_TOKENS = 600
"""Number of tokens that `estimate_tokens` returns for two minutes of speech: 300 words of six
characters each, including the space. Few answers are longer. After a longer answer, the history may
have to be summarised while the candidate waits."""

_CONVERSATION = (
    MessageKind.QUESTION,
    MessageKind.ANSWER,
    MessageKind.REQUEST,
    MessageKind.REPLY,
)
"""Kinds of messages that prompts contain."""

log = structlog.get_logger(__name__)


Reply = tuple[Prompt | str, Source]
"""Prompt of a reply, or the reply itself if no model has to write it; and the source to record."""


class Profile(Protocol):
    """Module that builds the prompts of all steps for models in one range of sizes."""

    def question_reply(self, bank: Bank, context: PromptContext, seed: int) -> Reply: ...
    def request_reply(
        self, bank: Bank, context: PromptContext, intent: Intent, seed: int
    ) -> Reply: ...
    def closing_reply(self, bank: Bank, context: PromptContext, seed: int) -> Reply: ...
    def summary_reply(self, bank: Bank, context: PromptContext, seed: int) -> Reply: ...
    def history_summary_prompt(self, bank: Bank, context: PromptContext, seed: int) -> Prompt: ...
    def prefill_prompt(self, context: PromptContext) -> Prompt: ...


def build_reply(
    step: Step, info: ModelInfo, bank: Bank, context: PromptContext, seed: int
) -> Reply:
    """Return the reply of a step, or the prompt from which a model writes it.

    The step is none of those whose reply needs no model; see `known_reply`.
    """
    context = _fit_context(context, info)
    profile = _select_profile(info)
    match step:
        case Step.QUESTION:
            return profile.question_reply(bank, context, seed)
        case Step.REPLY:
            intent = context.messages[-1].intent or Intent.QUESTION
            return profile.request_reply(bank, context, intent, seed)
        case Step.CLOSING:
            return profile.closing_reply(bank, context, seed)
        case Step.SUMMARY:
            return profile.summary_reply(bank, context, seed)
        case _:
            raise AssertionError(f"the step {step} has no reply")


def build_decision_prompt(info: ModelInfo, context: PromptContext, points: Sequence[str]) -> Prompt:
    """Build the prompt that decides which of `points` the last answer leaves out."""
    return instruct.decision_prompt(_fit_context(context, info), points)


def build_prefill_prompt(
    info: ModelInfo, context: PromptContext, draft: str, conversation: str
) -> Prompt:
    """Build the common beginning of all possible next prompts, to prefill the KV cache.

    The prompt holds the conversation and `draft`, the beginning of the answer, which may be empty.
    The model generates no tokens for this prompt.
    """
    if text := draft.strip():
        answer = Message(
            id="",
            role=Role.CANDIDATE,
            kind=MessageKind.ANSWER,
            text=text,
            source=Source.TEXT,
            position=len(context.messages),
            created_at=0.0,
            intent=Intent.ANSWER,
        )
        context = msgspec.structs.replace(context, messages=(*context.messages, answer))
    prompt = _select_profile(info).prefill_prompt(_fit_context(context, info))
    return msgspec.structs.replace(
        prompt, conversation=conversation, priority=Priority.PREFILL, max_tokens=0
    )


def build_history_summary_prompt(
    info: ModelInfo, bank: Bank, context: PromptContext, end: int, seed: int
) -> Prompt:
    """Build the prompt for a summary of the messages before `end` that no summary covers yet.

    `end` is counted in questions and answers from the beginning of the interview; see
    `count_outgrown_messages`.
    """
    messages = tuple(_exchanges(context, info)[context.history_summary.covered : end])
    part = msgspec.structs.replace(
        context,
        messages=messages,
        visible_messages=messages,
    )
    return _select_profile(info).history_summary_prompt(bank, part, seed)


def count_outgrown_messages(info: ModelInfo, context: PromptContext, *, ahead: bool = False) -> int:
    """Return the number of oldest questions and answers for which a prompt has no room.

    Messages that a summary already covers are always counted. If `ahead` is True, room is reserved
    for the next answer: `LIKELY_ANSWER_TOKENS`, or the maximum length of a message if that is less.
    """
    budget = info.context // 2
    if ahead:
        budget -= min(LIKELY_ANSWER_TOKENS, _max_message_tokens(info))
    return _count_outgrown(_exchanges(context, info), context.history_summary.covered, budget)


def _select_profile(info: ModelInfo) -> Profile:
    return few_shot if info.few_shot else instruct


def _fit_context(context: PromptContext, info: ModelInfo) -> PromptContext:
    """Return the context with `visible_messages` set for the model.

    The conversation may fill half of the model's context. Long messages are truncated, and the
    oldest messages are omitted if there is no room for them. The stored transcript stays complete.
    """
    messages = _exchanges(context, info)
    covered = context.history_summary.covered
    omitted = _count_outgrown(messages, covered, info.context // 2)
    if omitted > covered:
        log.warning("prompt.messages_omitted", messages=len(messages), omitted=omitted)
    return msgspec.structs.replace(context, visible_messages=tuple(messages[omitted:]))


def _count_outgrown(messages: Sequence[Message], covered: int, budget: int) -> int:
    """Return how many of the oldest messages to omit so that the rest fits into `budget` tokens.

    The result is at least `covered`, the number of messages that the history summary replaces.
    """
    texts = [message.text for message in messages]
    if sum(map(estimate_tokens, texts[covered:])) <= budget:
        return covered
    return max(covered, count_omitted(texts, budget))


def _exchanges(context: PromptContext, info: ModelInfo) -> list[Message]:
    """Return the messages of the conversation, each truncated to the maximum length."""
    limit = _max_message_tokens(info)
    return [
        msgspec.structs.replace(message, text=truncate(message.text, limit))
        for message in context.messages
        if message.kind in _CONVERSATION
    ]


def _max_message_tokens(info: ModelInfo) -> int:
    share = info.context // 6
    return min(MAX_ANSWER_TOKENS, share) if info.few_shot else share

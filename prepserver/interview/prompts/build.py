"""Replies of all steps, or the prompts from which a model writes them, by the model's size.

`few_shot` makes the replies for models below one billion parameters by rules; `instruct` builds the
prompts for larger models and for models of unknown size.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from prepserver.engines.types import ModelInfo, Priority, Prompt
from prepserver.interview.prompts import few_shot, instruct
from prepserver.interview.prompts.context import HistorySummary, PromptContext
from prepserver.interview.prompts.token_budget import estimate_turns, truncate
from prepserver.interview.prompts.wording import follow_up_by_rules
from prepserver.interview.turns.steps import Step
from prepserver.wire.languages import ENGLISH
from prepserver.wire.protocol import Intent, Message, MessageKind, Role, Source

__all__ = [
    "asks_by_rules",
    "build_decision_prompt",
    "build_history_summary_prompt",
    "build_prefill_prompt",
    "build_reply",
    "count_outgrown_messages",
]

LIKELY_ANSWER = "words " * 300
"""Text as long as an answer of two minutes. Few answers are longer. After a longer answer, the
history may have to be summarised while the candidate waits."""

BLOCK = 8
"""Number of messages that are omitted together, so that the beginning of the prompt rarely changes
and the cached prefix stays valid."""

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
    """Module that makes the replies of all steps, or their prompts, for models in one range of
    sizes."""

    def question_reply(self, context: PromptContext, seed: int) -> Reply: ...
    def request_reply(self, context: PromptContext, intent: Intent, seed: int) -> Reply: ...
    def closing_reply(self, context: PromptContext, seed: int) -> Reply: ...
    def summary_reply(self, context: PromptContext, seed: int) -> Reply: ...


def build_reply(step: Step, info: ModelInfo, context: PromptContext, seed: int) -> Reply:
    """Return the reply of a step, or the prompt from which a model writes it.

    The step is none of those whose reply needs no model; see `known_reply`.
    """
    if step is Step.QUESTION and asks_by_rules(info, context):
        known = follow_up_by_rules(context)
        if known is not None:
            return known, Source.BANK
    profile: Profile = few_shot if info.few_shot else instruct
    if not info.few_shot:
        context = _fit_context(context, info)
    match step:
        case Step.QUESTION:
            return profile.question_reply(context, seed)
        case Step.REPLY:
            intent = context.messages[-1].intent or Intent.QUESTION
            return profile.request_reply(context, intent, seed)
        case Step.CLOSING:
            return profile.closing_reply(context, seed)
        case Step.SUMMARY:
            return profile.summary_reply(context, seed)
        case _:
            raise AssertionError(f"the step {step} has no reply")


def asks_by_rules(info: ModelInfo, context: PromptContext) -> bool:
    """Return True if rules rather than the model make the follow-up questions of the interview."""
    english = context.spec.language == ENGLISH
    return info.few_shot or (english and not info.writes_follow_ups)


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
        context = _with_answer(context, text)
    prompt = instruct.prefill_prompt(_fit_context(context, info))
    return msgspec.structs.replace(
        prompt, conversation=conversation, priority=Priority.PREFILL, max_tokens=0
    )


def build_history_summary_prompt(
    info: ModelInfo, context: PromptContext, end: int, seed: int
) -> Prompt:
    """Build the prompt for a summary of the messages before `end` that no summary covers yet.

    `end` is counted in questions and answers from the beginning of the interview; see
    `count_outgrown_messages`.
    """
    messages = tuple(_exchanges(context, info)[context.history_summary.covered : end])
    summary = msgspec.structs.replace(context.history_summary, covered=0)
    part = msgspec.structs.replace(context, messages=messages, history_summary=summary)
    return instruct.history_summary_prompt(_fit_context(part, info), seed)


def count_outgrown_messages(info: ModelInfo, context: PromptContext, *, ahead: bool = False) -> int:
    """Return the number of oldest questions and answers for which a prompt has no room.

    Messages that a summary already covers are always counted. If `ahead` is True, room is reserved
    for the next answer, of the length of `LIKELY_ANSWER`; the last message is not counted.
    """
    if not ahead:
        return _count_outgrown(context, info, _exchanges(context, info))
    context = _with_answer(context, LIKELY_ANSWER)
    messages = _exchanges(context, info)
    outgrown = min(_count_outgrown(context, info, messages), len(messages) - 2)
    return max(context.history_summary.covered, outgrown)


def _with_answer(context: PromptContext, text: str) -> PromptContext:
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
    return msgspec.structs.replace(context, messages=(*context.messages, answer))


def _fit_context(context: PromptContext, info: ModelInfo) -> PromptContext:
    """Return the context with `visible_messages` set, and all limits set for the model.

    Long messages are truncated, and the oldest messages are omitted if there is no room for them.
    Of a long history summary, the end is kept. The stored transcript stays complete.
    """
    messages, covered = _exchanges(context, info), context.history_summary.covered
    omitted = _count_outgrown(context, info, messages)
    if omitted > covered:
        log.warning("prompt.messages_omitted", messages=len(messages), omitted=omitted)
    quote = _max_quote_tokens(info)
    history = truncate(context.history_summary.text[::-1], 2 * quote)[::-1]
    return msgspec.structs.replace(
        context,
        visible_messages=tuple(messages[omitted:]),
        history_summary=HistorySummary(covered=covered, text=history),
        quote_tokens=quote,
    )


def _count_outgrown(context: PromptContext, info: ModelInfo, messages: Sequence[Message]) -> int:
    """Return how many of the oldest `messages` to omit so that the rest fits.

    The result is the number of messages that the history summary covers, a greater multiple of
    `BLOCK` or, if all these are not enough, the number of all messages but the last.
    """
    covered = context.history_summary.covered
    bare = msgspec.structs.replace(
        context, history_summary=HistorySummary(), quote_tokens=_max_quote_tokens(info)
    )
    room = _conversation_tokens(bare, info)
    shown = msgspec.structs.replace(bare, visible_messages=tuple(messages[covered:]))
    costs = [estimate_turns([turn]) for turn in instruct.prefill_prompt(shown).turns[1:]]
    starts: list[int] = [covered, *range((covered // BLOCK + 1) * BLOCK, len(messages), BLOCK)]
    for start in starts:
        if sum(costs[start - covered :]) <= room:
            return start
    return max(covered, len(messages) - 1)


def _conversation_tokens(bare: PromptContext, info: ModelInfo) -> int:
    """Return the number of tokens for which a prompt has room after the system message of `bare`, a
    context without messages and history summary.

    At most half of the model's context is used, since a longer conversation takes long to read
    again. Nothing here depends on the conversation, so that consecutive prompts share a beginning.
    """
    system = estimate_turns(instruct.prefill_prompt(bare).turns)
    quotes = 3 * bare.quote_tokens  # the history summary and the quote in the last line
    rest = info.context - system - quotes - instruct.LINE_TOKENS - instruct.REPLY_TOKENS
    return min(info.context // 2, rest)


def _exchanges(context: PromptContext, info: ModelInfo) -> list[Message]:
    """Return the messages of the conversation, each truncated to the maximum length."""
    limit = _max_message_tokens(info)
    return [
        msgspec.structs.replace(message, text=truncate(message.text, limit))
        for message in context.messages
        if message.kind in _CONVERSATION
    ]


def _max_message_tokens(info: ModelInfo) -> int:
    return info.context // 6


def _max_quote_tokens(info: ModelInfo) -> int:
    return info.context // 16

"""Transcript -> model input, in the profile that suits the model's size."""

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
from prepserver.wire.protocol import Message, MessageKind, Role, Source

__all__ = [
    "build_history_summary_prompt",
    "build_prefill_prompt",
    "build_prompt",
    "count_outgrown_messages",
    "transcriber_vocabulary",
]

LONGEST_ANSWER = 400
"""Tokens of one answer in a prompt: a small model loses itself in longer ones."""

LIKELY_ANSWER = 600
"""Tokens, as `estimate` has them, of two minutes of speech: 300 words of six letters each, with the
space. Few answers are longer, and one that is may be condensed for while the candidate waits."""

log = structlog.get_logger(__name__)


class Profile(Protocol):
    """How to ask models of one size."""

    def skills_prompt(self, bank: Bank, context: PromptContext) -> Prompt: ...
    def question_prompt(
        self, bank: Bank, context: PromptContext, seed: int
    ) -> tuple[Prompt, Source]: ...
    def hint_prompt(self, bank: Bank, context: PromptContext, seed: int) -> Prompt: ...
    def closing_prompt(self, bank: Bank, context: PromptContext, seed: int) -> Prompt: ...
    def summary_prompt(self, bank: Bank, context: PromptContext, seed: int) -> Prompt: ...
    def history_summary_prompt(self, bank: Bank, context: PromptContext, seed: int) -> Prompt: ...
    def prefill_prompt(self, context: PromptContext) -> Prompt: ...


def build_prompt(
    step: Step, info: ModelInfo, bank: Bank, context: PromptContext, seed: int
) -> tuple[Prompt, Source]:
    """What to ask the model at this step, and whose words the reply will be."""
    context = _fitted(context, info)
    profile = _profile(info)
    match step:
        case Step.QUESTION:
            return profile.question_prompt(bank, context, seed)
        case Step.EXTRACT:
            return profile.skills_prompt(bank, context), Source.MODEL
        case Step.HINT:
            return profile.hint_prompt(bank, context, seed), Source.MODEL
        case Step.CLOSING:
            return profile.closing_prompt(bank, context, seed), Source.MODEL
        case Step.SUMMARY:
            return profile.summary_prompt(bank, context, seed), Source.MODEL
        case Step.TRANSCRIBE:
            raise AssertionError("speech needs no prompt")


def build_prefill_prompt(
    info: ModelInfo, context: PromptContext, draft: str, conversation: str
) -> Prompt:
    """What every next prompt of the interview begins with, as far as it is known: what was said,
    and the beginning of the answer, which may be empty. Nothing is to be written."""
    if words := draft.strip():
        said = Message(
            id="",
            role=Role.CANDIDATE,
            kind=MessageKind.ANSWER,
            text=words,
            source=Source.TEXT,
            position=len(context.messages),
            created_at=0.0,
        )
        context = msgspec.structs.replace(context, messages=(*context.messages, said))
    prompt = _profile(info).prefill_prompt(_fitted(context, info))
    return msgspec.structs.replace(
        prompt, conversation=conversation, priority=Priority.PREFILL, max_tokens=0
    )


def count_outgrown_messages(info: ModelInfo, context: PromptContext, *, ahead: bool = False) -> int:
    """How many of the oldest questions and answers a prompt has no room for, at least those that
    are condensed already; with `ahead`, when an answer of a likely length has come too."""
    room = info.context // 2
    if ahead:
        room -= min(LIKELY_ANSWER, _longest(info))
    return _left_out(_said(context, info), context.history_summary.covered, room)


def _left_out(said: Sequence[Message], known: int, room: int) -> int:
    """How many of the oldest do not fit into so many tokens, with the `known` that are condensed
    already left out."""
    texts = [message.text for message in said]
    if sum(map(estimate_tokens, texts[known:])) <= room:
        return known
    return max(known, count_omitted(texts, room))


def build_history_summary_prompt(
    info: ModelInfo, bank: Bank, context: PromptContext, upto: int, seed: int
) -> Prompt:
    """Ask for a short account of the questions and answers up to `upto` that none covers yet."""
    said = _said(context, info)[context.history_summary.covered : upto]
    part = msgspec.structs.replace(
        context,
        messages=tuple(said),
        visible_messages=tuple(said),
        document_tokens=info.context // 5,
    )
    return _profile(info).history_summary_prompt(bank, part, seed)


def transcriber_vocabulary(context: PromptContext) -> str:
    """Words for the ears to expect, as sentences; empty when no document names any.

    whisper.cpp goes on in the style of this text: on the bundled recordings a bare list of words
    cost capitals, commas and once the whole first sentence; a sentence did not.
    """
    if not (context.spec.job_description or context.spec.resume) or not context.skills:
        return ""
    return (
        f"A job interview for the role of {context.spec.role}. Topics: {', '.join(context.skills)}."
    )


def _profile(info: ModelInfo) -> Profile:
    return few_shot if info.few_shot else instruct


def _fitted(context: PromptContext, info: ModelInfo) -> PromptContext:
    """Half of the context is for the conversation, and a fifth for each document.

    Long answers are shown by their beginning, and the oldest exchanges by their summary. That is
    a prompt's view alone: the transcript keeps every word.
    """
    said = _said(context, info)
    left_out = _left_out(said, context.history_summary.covered, info.context // 2)
    if left_out > context.history_summary.covered:
        log.warning("prompt.shortened", messages=len(said), left_out=left_out)
    return msgspec.structs.replace(
        context, visible_messages=tuple(said[left_out:]), document_tokens=info.context // 5
    )


def _said(context: PromptContext, info: ModelInfo) -> list[Message]:
    """Questions and answers, long ones by their beginning."""
    longest = _longest(info)
    return [
        msgspec.structs.replace(message, text=truncate(message.text, longest))
        for message in context.messages
        if message.kind in (MessageKind.QUESTION, MessageKind.ANSWER)
    ]


def _longest(info: ModelInfo) -> int:
    """Tokens of one message in a prompt, at most."""
    most = info.context // 6
    return min(LONGEST_ANSWER, most) if info.few_shot else most

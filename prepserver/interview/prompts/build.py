"""Transcript -> model input, in the profile that suits the model's size."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from prepserver.engines.types import ModelInfo, Priority, Prompt
from prepserver.interview.prompts import few_shot, instruct
from prepserver.interview.prompts.token_budget import estimate, recent, shortened
from prepserver.interview.questions.bank import Bank
from prepserver.interview.questions.plan import PromptContext
from prepserver.interview.turns.steps import Step
from prepserver.wire.protocol import Message, MessageKind, Role, Source

__all__ = ["condensing_prompt", "outgrown", "prompt_for", "reading_for"]

LONGEST_ANSWER = 400
"""Tokens of one answer in a prompt: a small model loses itself in longer ones."""

LIKELY_ANSWER = 600
"""Tokens, as `estimate` has them, of two minutes of speech: 300 words of six letters each, with the
space. Few answers are longer, and one that is may be condensed for while the candidate waits."""

log = structlog.get_logger(__name__)


class Profile(Protocol):
    """How to ask models of one size."""

    def skills(self, bank: Bank, brief: PromptContext) -> Prompt: ...
    def question(self, bank: Bank, brief: PromptContext, seed: int) -> tuple[Prompt, Source]: ...
    def hint(self, bank: Bank, brief: PromptContext, seed: int) -> Prompt: ...
    def closing(self, bank: Bank, brief: PromptContext, seed: int) -> Prompt: ...
    def summary(self, bank: Bank, brief: PromptContext, seed: int) -> Prompt: ...
    def condense(self, bank: Bank, brief: PromptContext, seed: int) -> Prompt: ...
    def reading(self, brief: PromptContext) -> Prompt: ...


def prompt_for(
    step: Step, info: ModelInfo, bank: Bank, brief: PromptContext, seed: int
) -> tuple[Prompt, Source]:
    """What to ask the model at this step, and whose words the reply will be."""
    brief = _fitted(brief, info)
    profile = _profile(info)
    match step:
        case Step.QUESTION:
            return profile.question(bank, brief, seed)
        case Step.EXTRACT:
            return profile.skills(bank, brief), Source.MODEL
        case Step.HINT:
            return profile.hint(bank, brief, seed), Source.MODEL
        case Step.CLOSING:
            return profile.closing(bank, brief, seed), Source.MODEL
        case Step.SUMMARY:
            return profile.summary(bank, brief, seed), Source.MODEL
        case Step.TRANSCRIBE:
            raise AssertionError("speech needs no prompt")


def reading_for(info: ModelInfo, brief: PromptContext, draft: str, conversation: str) -> Prompt:
    """What every next prompt of the interview begins with, as far as it is known: what was said,
    and the beginning of the answer, which may be empty. Nothing is to be written."""
    if words := draft.strip():
        said = Message(
            id="",
            role=Role.CANDIDATE,
            kind=MessageKind.ANSWER,
            text=words,
            source=Source.TEXT,
            position=len(brief.messages),
            created_at=0.0,
        )
        brief = msgspec.structs.replace(brief, messages=(*brief.messages, said))
    prompt = _profile(info).reading(_fitted(brief, info))
    return msgspec.structs.replace(
        prompt, conversation=conversation, priority=Priority.PREFILL, max_tokens=0
    )


def outgrown(info: ModelInfo, brief: PromptContext, *, ahead: bool = False) -> int:
    """How many of the oldest questions and answers a prompt has no room for, at least those that
    are condensed already; with `ahead`, when an answer of a likely length has come too."""
    room = info.context // 2
    if ahead:
        room -= min(LIKELY_ANSWER, _longest(info))
    return _left_out(_said(brief, info), brief.condensed.upto, room)


def _left_out(said: Sequence[Message], known: int, room: int) -> int:
    """How many of the oldest do not fit into so many tokens, with the `known` that are condensed
    already left out."""
    texts = [message.text for message in said]
    if sum(map(estimate, texts[known:])) <= room:
        return known
    return max(known, recent(texts, room))


def condensing_prompt(
    info: ModelInfo, bank: Bank, brief: PromptContext, upto: int, seed: int
) -> Prompt:
    """Ask for a short account of the questions and answers up to `upto` that none covers yet."""
    said = _said(brief, info)[brief.condensed.upto : upto]
    part = msgspec.structs.replace(
        brief, messages=tuple(said), shown=tuple(said), document_tokens=info.context // 5
    )
    return _profile(info).condense(bank, part, seed)


def _profile(info: ModelInfo) -> Profile:
    return few_shot if info.few_shot else instruct


def _fitted(brief: PromptContext, info: ModelInfo) -> PromptContext:
    """Half of the context is for the conversation, and a fifth for each document.

    Long answers are shown by their beginning, and the oldest exchanges by their summary. That is
    a prompt's view alone: the transcript keeps every word.
    """
    said = _said(brief, info)
    left_out = _left_out(said, brief.condensed.upto, info.context // 2)
    if left_out > brief.condensed.upto:
        log.warning("prompt.shortened", messages=len(said), left_out=left_out)
    return msgspec.structs.replace(
        brief, shown=tuple(said[left_out:]), document_tokens=info.context // 5
    )


def _said(brief: PromptContext, info: ModelInfo) -> list[Message]:
    """Questions and answers, long ones by their beginning."""
    longest = _longest(info)
    return [
        msgspec.structs.replace(message, text=shortened(message.text, longest))
        for message in brief.messages
        if message.kind in (MessageKind.QUESTION, MessageKind.ANSWER)
    ]


def _longest(info: ModelInfo) -> int:
    """Tokens of one message in a prompt, at most."""
    most = info.context // 6
    return min(LONGEST_ANSWER, most) if info.few_shot else most

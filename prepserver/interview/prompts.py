"""Transcript -> model input, in the profile that suits the model's size."""

from typing import Protocol

import msgspec
import structlog

from prepserver.ai.values import ModelInfo, Prompt
from prepserver.interview import compact, full
from prepserver.interview.budget import recent, shortened
from prepserver.interview.phases import Step
from prepserver.interview.plan import Brief
from prepserver.interview.questions.bank import Bank
from prepserver.protocol import MessageKind, Source

__all__ = ["prompt_for"]

LONGEST_ANSWER = 400
"""Tokens of one answer in a prompt: a small model loses itself in longer ones."""

log = structlog.get_logger(__name__)


class Profile(Protocol):
    """How to ask models of one size."""

    def skills(self, bank: Bank, brief: Brief) -> Prompt: ...
    def question(self, bank: Bank, brief: Brief, seed: int) -> tuple[Prompt, Source]: ...
    def hint(self, bank: Bank, brief: Brief, seed: int) -> Prompt: ...
    def closing(self, bank: Bank, brief: Brief, seed: int) -> Prompt: ...
    def summary(self, bank: Bank, brief: Brief, seed: int) -> Prompt: ...


def prompt_for(
    step: Step, info: ModelInfo, bank: Bank, brief: Brief, seed: int
) -> tuple[Prompt, Source]:
    """What to ask the model at this step, and whose words the reply will be."""
    brief = _fitted(brief, info)
    profile: Profile = compact if info.compact else full
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


def _fitted(brief: Brief, info: ModelInfo) -> Brief:
    """Half of the context is for the conversation, and a fifth for each document.

    Long answers are shown by their beginning and the oldest exchanges go first. That is a prompt's
    view alone: the transcript keeps every word.
    """
    room = info.context // 2
    longest = min(LONGEST_ANSWER, room // 3) if info.compact else room // 3
    said = [
        msgspec.structs.replace(message, text=shortened(message.text, longest))
        for message in brief.messages
        if message.kind in (MessageKind.QUESTION, MessageKind.ANSWER)
    ]
    left_out = recent([message.text for message in said], room)
    if left_out:
        log.info("prompt.shortened", messages=len(said), left_out=left_out)
    return msgspec.structs.replace(
        brief, shown=tuple(said[left_out:]), document_tokens=info.context // 5
    )

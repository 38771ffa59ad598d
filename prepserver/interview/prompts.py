"""Transcript -> model input, in the profile that suits the model's size."""

from typing import Protocol

from prepserver.ai.values import ModelInfo, Prompt
from prepserver.interview import compact, full
from prepserver.interview.phases import Step
from prepserver.interview.plan import Brief
from prepserver.interview.questions.bank import Bank
from prepserver.protocol import Source

__all__ = ["prompt_for"]


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

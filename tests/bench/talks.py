"""Interviews to measure with: the product's own prompts, over questions from its bank and answers
made of what is said in the bundled recordings. The same seed gives the same interview.

What outgrows the model's context is condensed as the product does it, and with its prompts: ahead,
when the next answer might have no room."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from prepserver.engines.types import ModelInfo, Priority, Prompt
from prepserver.interview.prompts.build import (
    build_history_summary_prompt,
    build_prefill_prompt,
    build_prompt,
    count_outgrown_messages,
)
from prepserver.interview.prompts.context import HistorySummary, PromptContext
from prepserver.interview.prompts.few_shot import STEMS, SUMMARY_SUBJECTS
from prepserver.interview.prompts.phrases import key_phrases
from prepserver.interview.questions import bank
from prepserver.interview.questions.plan import select_main_questions
from prepserver.interview.turns.steps import Step
from prepserver.wire.protocol import (
    InterviewSpec,
    InterviewType,
    Message,
    MessageKind,
    Role,
    Source,
)

__all__ = ["Talk"]

TRANSCRIPTS = Path(__file__).parent.parent / "speech" / "transcripts.tsv"

TURNS = 20
"""Questions of a long interview."""
WORDS = (45, 75)
"""Of an answer: 20 to 35 s of speech."""
STEP = 6
"""Words between two looks of the server at what is being typed: 9 s at 40 words a minute."""
UNSEEN = 3
"""Words that the server has not seen when the answer is sent."""

_BANK = bank.load_bank()
_SENTENCES = [
    sentence.strip()
    for line in TRANSCRIPTS.read_text("utf-8").splitlines()
    for sentence in re.findall(r"[^.]+\.", line.split("\t")[1])
]


class Talk:
    """One interview; its n-th turn is the question behind the n-th answer."""

    def __init__(self, seed: int, info: ModelInfo) -> None:
        """`info` is of the model that prompts are made for."""
        self.name = f"talk-{seed}"
        self._info = info
        self._random = random.Random(seed)
        self._seed = seed
        spec = InterviewSpec(role="Backend Engineer", type=InterviewType.TECHNICAL, questions=TURNS)
        skills = ("python", "sql", "kafka")
        self._context = PromptContext(
            spec=spec,
            skills=skills,
            main_questions=select_main_questions(_BANK, spec, skills, seed),
            messages=(),
        )

    @property
    def turn(self) -> int:
        return len(self._context.answers)

    def until(self, turn: int) -> "Talk":
        """Let it go on to the answer of a turn, with questions and summaries that nobody had to
        write."""
        while self.turn < turn:
            if len(self._context.asked_questions) == self.turn:
                if self.condensing() is not None:
                    self.condense(self._summary())
                self.ask(self._question())
            self.answer(self.words())
        return self

    def words(self) -> str:
        """An answer."""
        wanted, said = self._random.randint(*WORDS), ""
        while len(said.split()) < wanted:
            said = f"{said} {self._random.choice(_SENTENCES)}"
        return said.strip()

    def ask(self, text: str) -> None:
        self._add(MessageKind.QUESTION, text.strip())

    def answer(self, text: str) -> None:
        self._add(MessageKind.ANSWER, text)

    def prompt(self) -> Prompt:
        """For the next question, as the interview asks for it."""
        assert (
            count_outgrown_messages(self._info, self._context)
            == self._context.history_summary.covered
        ), "condense first"
        seed = self._seed + self.turn
        prompt, _ = build_prompt(Step.QUESTION, self._info, _BANK, self._context, seed)
        return msgspec.structs.replace(prompt, conversation=self.name)

    def condensing(self) -> Prompt | None:
        """What the interview asks before the last answer comes, when that might outgrow the
        context; most times None."""
        context, covered = self._asked, self._due
        if covered == context.history_summary.covered:
            return None
        prompt = build_history_summary_prompt(
            self._info, _BANK, context, covered, self._seed + self.turn
        )
        return msgspec.structs.replace(prompt, priority=Priority.PREFILL)

    def condense(self, reply: str) -> None:
        """Continue with the reply to `condensing`, as the interview does."""
        prompt = self.condensing()
        assert prompt is not None, "there is nothing to condense"
        condensed = HistorySummary(
            covered=self._due,
            text=" ".join(f"{self._context.history_summary.text} {prompt.opening}{reply}".split()),
        )
        self._context = msgspec.structs.replace(self._context, history_summary=condensed)

    def readings(self) -> Iterator[Prompt]:
        """What the interview has read ahead while the last answer is typed."""
        context, words = self._asked, self._context.messages[-1].text.split(" ")
        last = max(0, len(words) - UNSEEN)
        for count in (*range(0, last, STEP), last):
            yield build_prefill_prompt(self._info, context, " ".join(words[:count]), self.name)

    def reading(self, draft: str) -> Prompt:
        """What the interview has read ahead of an answer that begins with `draft`."""
        return build_prefill_prompt(self._info, self._context, draft, self.name)

    @property
    def _asked(self) -> PromptContext:
        """What there was when the last answer had not come yet."""
        return msgspec.structs.replace(self._context, messages=self._context.messages[:-1])

    @property
    def _due(self) -> int:
        """How much is condensed then."""
        return count_outgrown_messages(self._info, self._asked, ahead=True)

    def _question(self) -> str:
        unasked = self._context.unasked_questions
        if self._context.main_question_next and unasked:
            return unasked[0].text
        word = self._random.choice([w for w in self._context.answers[-1].split() if w.isalpha()])
        return f"{self._random.choice(STEMS)} the {word.lower()}?"

    def _summary(self) -> str:
        """As the grammar has it: a few of the candidate's own phrases."""
        said = key_phrases("\n".join(self._context.answers), [])
        return f" {' and '.join(self._random.sample(said, SUMMARY_SUBJECTS))}."

    def _add(self, kind: MessageKind, text: str) -> None:
        position = len(self._context.messages)
        message = Message(
            id=f"m{position}",
            role=Role.CANDIDATE if kind is MessageKind.ANSWER else Role.INTERVIEWER,
            kind=kind,
            text=text,
            source=Source.TEXT,
            position=position,
            created_at=0.0,
        )
        self._context = msgspec.structs.replace(
            self._context, messages=(*self._context.messages, message)
        )

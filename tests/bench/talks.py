"""Interviews to measure with: the product's own prompts, over questions from its bank and answers
made of what is said in the bundled recordings. The same seed gives the same interview."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from prepserver.ai.values import ModelInfo, Prompt
from prepserver.interview.compact import STEMS
from prepserver.interview.phases import Step
from prepserver.interview.plan import Brief, planned
from prepserver.interview.prompts import prompt_for, reading_for
from prepserver.interview.questions import bank
from prepserver.protocol import InterviewSpec, InterviewType, Message, MessageKind, Role, Source

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

_BANK = bank.load()
_SENTENCES = [
    sentence
    for line in TRANSCRIPTS.read_text("utf-8").splitlines()
    for sentence in re.findall(r"[^.]+\.", line.split("\t")[1])
]


class Talk:
    """One interview; its n-th turn is the question behind the n-th answer."""

    def __init__(self, seed: int) -> None:
        self.name = f"talk-{seed}"
        self._random = random.Random(seed)
        self._seed = seed
        spec = InterviewSpec(role="Backend Engineer", type=InterviewType.TECHNICAL, questions=TURNS)
        skills = ("python", "sql", "kafka")
        self._brief = Brief(
            spec=spec,
            skills=skills,
            questions=planned(_BANK, spec, skills, seed),
            messages=(),
        )

    @property
    def turn(self) -> int:
        return len(self._brief.answers)

    def until(self, turn: int) -> "Talk":
        """Let it go on to the answer of a turn, with questions that nobody had to write."""
        while True:
            if len(self._brief.asked) == self.turn:
                self.ask(self._question())
            if self.turn == turn - 1:
                self.answer(self.words())
                return self
            self.answer(self.words())

    def words(self) -> str:
        """An answer."""
        wanted, said = self._random.randint(*WORDS), ""
        while len(said.split()) < wanted:
            said += self._random.choice(_SENTENCES)
        return said.strip()

    def ask(self, text: str) -> None:
        self._add(MessageKind.QUESTION, text.strip())

    def answer(self, text: str) -> None:
        self._add(MessageKind.ANSWER, text)

    def prompt(self, info: ModelInfo) -> Prompt:
        """For the next question, as the interview asks for it."""
        prompt, _ = prompt_for(Step.QUESTION, info, _BANK, self._brief, self._seed + self.turn)
        return msgspec.structs.replace(prompt, conversation=self.name)

    def readings(self, info: ModelInfo) -> Iterator[Prompt]:
        """What the interview has read ahead while the last answer is typed."""
        *before, answer = self._brief.messages
        brief = msgspec.structs.replace(self._brief, messages=tuple(before))
        words = answer.text.split(" ")
        last = max(0, len(words) - UNSEEN)
        for count in (*range(0, last, STEP), last):
            yield reading_for(info, brief, " ".join(words[:count]), self.name)

    def reading(self, info: ModelInfo, draft: str) -> Prompt:
        """What the interview has read ahead of an answer that begins with `draft`."""
        return reading_for(info, self._brief, draft, self.name)

    def _question(self) -> str:
        unasked = self._brief.unasked
        if self._brief.main_next and unasked:
            return unasked[0].text
        word = self._random.choice([w for w in self._brief.answers[-1].split() if w.isalpha()])
        return f"{self._random.choice(STEMS)} the {word.lower()}?"

    def _add(self, kind: MessageKind, text: str) -> None:
        position = len(self._brief.messages)
        message = Message(
            id=f"m{position}",
            role=Role.CANDIDATE if kind is MessageKind.ANSWER else Role.INTERVIEWER,
            kind=kind,
            text=text,
            source=Source.TEXT,
            position=position,
            created_at=0.0,
        )
        self._brief = msgspec.structs.replace(
            self._brief, messages=(*self._brief.messages, message)
        )

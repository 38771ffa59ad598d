"""Sample interviews for benchmarks, built with the product's prompts and question bank.

The answers consist of sentences from the bundled recordings. Equal seeds give equal interviews. As
in the product, the history is summarised before an answer that might not fit into the context.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from prepserver.engines.types import ModelInfo, Priority, Prompt
from prepserver.interview.agenda import plan_agenda
from prepserver.interview.dialogue.decision import Move, MoveKind
from prepserver.interview.prompts.build import (
    build_history_summary_prompt,
    build_prefill_prompt,
    build_reply,
    count_outgrown_messages,
)
from prepserver.interview.prompts.context import HistorySummary, PromptContext
from prepserver.interview.questions import bank
from prepserver.interview.turns.steps import Step
from prepserver.wire.protocol import (
    InterviewSpec,
    InterviewType,
    Message,
    MessageKind,
    Role,
    Source,
)

__all__ = ["SampleInterview"]

TRANSCRIPTS = Path(__file__).parent.parent / "speech" / "transcripts.tsv"

TURNS = 20
"""Number of questions in a long interview."""
QUESTIONS_PER_TOPIC = 3
ANSWER_WORDS = (45, 75)
"""Range of the minimum length of an answer, in words: 20 to 35 s of speech."""
WORDS_PER_PREFILL = 6
"""Number of words typed between two prefills of the draft: 9 s at 40 words a minute."""
UNSEEN_WORDS = 3
"""Number of final words of an answer that are missing from the last prefilled draft."""

_BANK = bank.load_bank()
_SENTENCES = [
    sentence.strip()
    for line in TRANSCRIPTS.read_text("utf-8").splitlines()
    for sentence in re.findall(r"[^.]+\.", line.split("\t")[1])
]


class SampleInterview:
    """Sample interview, in which turn n is the question after the n-th answer."""

    def __init__(
        self,
        seed: int,
        info: ModelInfo,
        *,
        answer_words: tuple[int, int] = ANSWER_WORDS,
        document_words: int = 0,
    ) -> None:
        """Plan an interview; `info` describes the model for which prompts are built.

        The job description and the resume have `document_words` words together.
        """
        self.name = f"sample-{seed}"
        self._info = info
        self._random = random.Random(seed)
        self._seed = seed
        self._answer_words = answer_words
        spec = InterviewSpec(
            role="Backend Engineer",
            type=InterviewType.TECHNICAL,
            questions=TURNS,
            job_description=self._make_text(document_words // 2),
            resume=self._make_text(document_words // 2),
        )
        self._context = PromptContext(
            spec=spec,
            agenda=plan_agenda(_BANK, spec, seed).advance(),
            next_move=Move(MoveKind.CONCRETE),  # a question that the model writes
            messages=(),
        )

    @property
    def turn(self) -> int:
        return len(self._context.answers)

    def advance_to(self, turn: int) -> "SampleInterview":
        """Add sample questions and answers up to the given turn, and return the interview.

        History summaries are added when they are due. No model is used.
        """
        while self.turn < turn:
            if len(self._context.asked_questions) == self.turn:
                if self.history_summary_prompt() is not None:
                    self.add_history_summary("")
                self.add_question(self._make_question())
            self.add_answer(self.make_answer())
        return self

    def make_answer(self) -> str:
        return self._make_text(self._random.randint(*self._answer_words))

    def _make_text(self, count: int) -> str:
        """Return whole sentences with at least `count` words together."""
        text = ""
        while len(text.split()) < count:
            text = f"{text} {self._random.choice(_SENTENCES)}"
        return text.strip()

    def add_question(self, text: str) -> None:
        self._add(MessageKind.QUESTION, text.strip())

    def add_answer(self, text: str) -> None:
        self._add(MessageKind.ANSWER, text)

    def question_prompt(self) -> Prompt:
        """Return the prompt for the next question, as the product builds it."""
        assert (
            count_outgrown_messages(self._info, self._context)
            == self._context.history_summary.covered
        ), "the history must be summarised first"
        seed = self._seed + self.turn
        prompt, _ = build_reply(Step.QUESTION, self._info, self._context, seed)
        assert isinstance(prompt, Prompt), "rules make the replies for such a model"
        return msgspec.structs.replace(prompt, conversation=self.name)

    def history_summary_prompt(self) -> Prompt | None:
        """Return the prompt for the history summary that is due before the last answer, or None.

        A summary is due if the conversation with the last answer might not fit into the context.
        """
        context, covered = self._before_answer, self._covered_before_answer
        if covered == context.history_summary.covered:
            return None
        prompt = build_history_summary_prompt(self._info, context, covered, self._seed + self.turn)
        return msgspec.structs.replace(prompt, priority=Priority.PREFILL)

    def add_history_summary(self, reply: str) -> None:
        """Extend the history summary with a model's reply to `history_summary_prompt`."""
        prompt = self.history_summary_prompt()
        assert prompt is not None, "no summary is due"
        summary = HistorySummary(
            covered=self._covered_before_answer,
            text=" ".join(f"{self._context.history_summary.text} {prompt.opening}{reply}".split()),
        )
        self._context = msgspec.structs.replace(self._context, history_summary=summary)

    def prefill_prompts(self) -> Iterator[Prompt]:
        """Yield the prompts that are prefilled while the last answer is being typed."""
        context, words = self._before_answer, self._context.messages[-1].text.split(" ")
        last = max(0, len(words) - UNSEEN_WORDS)
        for count in (*range(0, last, WORDS_PER_PREFILL), last):
            yield build_prefill_prompt(self._info, context, " ".join(words[:count]), self.name)

    def prefill_prompt(self, draft: str) -> Prompt:
        """Return the prompt that is prefilled for an answer that begins with `draft`."""
        return build_prefill_prompt(self._info, self._context, draft, self.name)

    @property
    def _before_answer(self) -> PromptContext:
        """Context as it was before the last answer."""
        return msgspec.structs.replace(self._context, messages=self._context.messages[:-1])

    @property
    def _covered_before_answer(self) -> int:
        """Number of messages that the history summary must cover before the last answer."""
        return count_outgrown_messages(self._info, self._before_answer, ahead=True)

    def _make_question(self) -> str:
        """Return the main question of the next topic, or a question on the last answer."""
        agenda, turn = self._context.agenda, self.turn
        if turn % QUESTIONS_PER_TOPIC == 0 and (not turn or agenda.planned):
            agenda = agenda.advance() if turn else agenda
            self._context = msgspec.structs.replace(self._context, agenda=agenda)
            assert agenda.current is not None
            return agenda.current.topic.question
        word = self._random.choice([w for w in self._context.answers[-1].split() if w.isalpha()])
        return f"What did you learn from the {word.lower()}?"

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

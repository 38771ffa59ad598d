"""Labelled messages of candidates, and the figures that a classification of them gives."""

from collections import Counter
from pathlib import Path

from msgspec import Struct

from prepserver.interview.dialogue.intents import classify_intent
from prepserver.wire.protocol import Intent

__all__ = ["Figures", "Utterance", "measure", "read_answers", "read_corpus"]

_DATA = Path(__file__).parent / "data"


class Utterance(Struct, frozen=True):
    """Message of a candidate."""

    intents: frozenset[Intent]
    """Intents that a reader accepts."""
    text: str
    question: str

    @property
    def is_answer(self) -> bool:
        """True if the message must not be taken for a request."""
        return Intent.ANSWER in self.intents

    def classify(self) -> Intent | None:
        """Return what the rules take the message for."""
        return classify_intent(self.text, self.question)


class Figures(Struct, frozen=True):
    """Agreement of the rules with the labels."""

    answers_lost: list[str]
    """Answers that were taken for requests."""
    confused: list[str]
    """Requests that were taken for another request."""
    recall: dict[Intent, float]
    """Share of the requests of each intent that were recognised."""


def read_corpus(name: str) -> list[Utterance]:
    """Return the utterances of `data/NAME.tsv`: intents separated by bars, text, question."""
    return [
        Utterance(
            frozenset(Intent(each) for each in intents.split("|")),
            text.replace("\\n", "\n"),
            "".join(question),
        )
        for intents, text, *question in _read_rows(name)
    ]


def read_answers(name: str) -> list[tuple[str, str, str, str]]:
    """Return the rows of `data/NAME.tsv`: id of the question, level of the answer, labels, text.

    A label is c, t or m for each point that the answer covers, touches or misses.
    """
    return [(id, level, labels, text) for id, level, labels, text in _read_rows(name)]


def _read_rows(name: str) -> list[list[str]]:
    lines = (_DATA / f"{name}.tsv").read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def measure(utterances: list[Utterance]) -> Figures:
    """Return how the rules agree with the labels of `utterances`."""
    lost, confused = [], []
    total: Counter[Intent] = Counter()
    found: Counter[Intent] = Counter()
    for each in utterances:
        intent = each.classify()
        if each.is_answer:
            if intent not in (None, *each.intents):
                lost.append(f"{intent}: {each.text}")
            continue
        total.update(each.intents)
        if intent in each.intents:
            found.update(each.intents)
        elif intent is not None:
            confused.append(f"{intent}: {each.text}")
    return Figures(lost, confused, {each: found[each] / total[each] for each in total})

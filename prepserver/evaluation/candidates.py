"""Scripted candidates, whose words depend only on the script, the seed and the questions."""

import random
import re
from collections.abc import Sequence
from typing import TypeVar

from msgspec import Struct

from prepserver.evaluation.scripts import Injection, RoleScript, Scripts, Story, Style
from prepserver.evaluation.words import content_stems
from prepserver.interview.prompts.wording import bare_question
from prepserver.wire.protocol import Intent, Message

__all__ = ["Candidate", "Utterance"]

T = TypeVar("T")

_DETAILS = (
    ("reason", r"\bwhy\b|reason|decid|choose|chose|made you|prefer|alternativ|instead"),
    ("learning", r"learn|differently|next time|today|looking back|again|change"),
    ("hard", r"hard|difficult|wrong|fail|risk|problem|surpris|limit|worst|break|broke"),
    ("check", r"check|know that|measure|test|verif|sure|evidence|prove|notice|judge"),
    ("result", r"result|turn out|outcome|happen|end|effect|improve|after"),
    ("part", r"your own|yourself|your part|your role|you do|you did|share|personally|who|exactly"),
)
"""Detail of a story that answers a follow-up question, by words of the question."""

_INVITES = re.compile(r"\bask (?:me|us)\b|\bquestions (?:for|to) (?:me|us)\b", re.I)
"""Question to which a question is an answer, so that no request can be told from it."""

RAMBLE_WORDS = 1_200
"""Number of words after which a candidate who rambles stops."""


class Utterance(Struct, frozen=True):
    """What a candidate says, and what it means."""

    text: str
    intent: Intent
    spoken: bool = False


class Candidate:
    """Candidate for one interview."""

    def __init__(
        self,
        scripts: Scripts,
        style: Style,
        role: RoleScript,
        seed: str,
        injections: Sequence[Injection] = (),
    ) -> None:
        """Create a candidate who says each of `injections` once, instead of an answer."""
        self._style = style
        self._groups = role.stories
        self._random = random.Random(seed)
        self._stories = [story for story in scripts.stories if story.group in role.stories]
        self._random.shuffle(self._stories)
        self._lines = _rotate(style.lines, self._random)
        self._code = _rotate(style.code, self._random)
        self._requests = _rotate(style.requests, self._random)
        self._injections = list(injections)
        self._told: list[Story] = []
        self._said: set[str] = set()
        self._topic: str | None = None
        self._requested: str | None = None
        self._count = 0

    def reply(self, question: Message) -> Utterance:
        """Return what the candidate says to the open question."""
        self._count += 1
        number = self._count - 1
        if self._injections:
            injection = self._injections.pop(0)
            return Utterance(injection.text, Intent.HOSTILE, injection.place == "spoken")
        if self._requests and self._requested != question.id and not _INVITES.search(question.text):
            self._requested = question.id
            request = self._requests.pop(0)
            self._requests.append(request)
            return Utterance(request.text, request.intent)
        if self._lines:
            return Utterance(self._lines[number % len(self._lines)], self._style.intent)
        text = self._tell(question)
        if self._style.sentences:
            parts = re.split(r"(?<=[.!?])\s+", text)
            text = " ".join(parts[: self._style.sentences])
        if self._style.rambles:
            text = self._ramble(text)
        if self._code:
            text = f"{text}\n{self._code[number % len(self._code)]}"
        return Utterance(text, Intent.ANSWER)

    def _tell(self, question: Message) -> str:
        """Return a story for a new topic, or a detail of the last story for a follow-up."""
        text = bare_question(question.text)
        follows = bool(self._told) and question.topic == self._topic
        self._topic = question.topic
        if follows:
            return self._tell_detail(text)
        story = max(self._stories, key=lambda each: self._fitness(each, text))
        self._told.append(story)
        return story.main

    def _fitness(self, story: Story, question: str) -> tuple[int, int, int]:
        """Return how well a story answers a question; a story that was told fits least."""
        asked = content_stems(question)
        about, said = content_stems(story.about), content_stems(story.main)
        score = 2 * len(asked & about) + len(asked & said)
        return -self._told.count(story), score, -self._groups.index(story.group)

    def _tell_detail(self, question: str) -> str:
        story = self._told[-1]
        folded = question.casefold()
        named = [name for name, pattern in _DETAILS if re.search(pattern, folded)]
        fitting = [getattr(story, name) for name in named]
        unsaid = [text for text in (*fitting, *story.details) if text not in self._said]
        detail = unsaid[0] if unsaid else story.main
        self._said.add(detail)
        return detail

    def _ramble(self, text: str) -> str:
        parts = [text]
        for story in self._stories:
            for each in (story.main, *story.details):
                parts.append(f"And, well, that reminds me of something else. {each}")
                if sum(len(part.split()) for part in parts) > RAMBLE_WORDS:
                    return " ".join(parts)
        return " ".join(parts)


def _rotate(items: Sequence[T], rng: random.Random) -> list[T]:
    start = rng.randrange(len(items)) if items else 0
    return [*items[start:], *items[:start]]

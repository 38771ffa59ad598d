"""The question bank: the backbone of every interview.

The questions are data beside this module, one file for each type of interview. What is picked
from them depends on the arguments alone, so an interview that is taken up again after a restart
has the same plan.
"""

import functools
import importlib.resources
import random
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from prepserver.interview.questions.skills import Skill, Vocabulary
from prepserver.wire.protocol import InterviewType, Level

__all__ = ["Bank", "Question", "load", "parse_questions", "parse_skills"]

T = TypeVar("T")

TYPES = (InterviewType.BEHAVIOURAL, InterviewType.TECHNICAL, InterviewType.SYSTEM_DESIGN)
"""The types that have questions of their own, in the order in which a mixed interview asks."""

_LEVELS = (Level.JUNIOR, Level.MID, Level.SENIOR)

_LEVEL_COST = (0, 2, 5)
"""By the distance between the level asked for and the nearest that a question suits."""

_MATCHED, _COMMON, _SPECIAL = 0, 4, 8
"""Costs by subject: a skill that was asked for, one that anybody may be asked about, another's
special field. Each earlier question on the same skill costs 1, so that no skill fills a whole
interview: a matching question of a neighbouring level (2) comes before one on a common skill (4),
and after four questions on one skill a common one is as good as a fifth."""

_LEADING = 3
"""Skills at the head of the list that are covered first; among them chance decides."""

Phrase = Annotated[str, Meta(min_length=3, max_length=60, pattern=r"^[^.?!;]*[^.?!;\s]$")]


class Question(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question that an interviewer may ask."""

    id: Annotated[str, Meta(max_length=40, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    """Never changed, as stored interviews may refer to it."""
    type: InterviewType
    text: Annotated[str, Meta(min_length=40, max_length=180, pattern=r"^[^?]+\?$")]
    """One sentence, as it is spoken."""
    topic: Annotated[str, Meta(max_length=40, pattern=r"^\S+( \S+){0,4}$")]
    """Completes "Let us talk about ..."."""
    levels: Annotated[tuple[Level, ...], Meta(min_length=1, max_length=3)]
    skills: Annotated[tuple[str, ...], Meta(min_length=1, max_length=4)]
    opener: bool = False
    """Fit to start an interview."""
    listen_for: Annotated[tuple[Phrase, ...], Meta(min_length=2, max_length=4)]
    """What a good answer contains; each completes "Think about ..."."""


class Bank:
    """All the questions there are, and the skills that they are about."""

    def __init__(self, questions: Iterable[Question], vocabulary: Vocabulary) -> None:
        """Raises ValueError for a question on an unknown skill and for an id used twice."""
        self._questions: dict[str, Question] = {}
        self._vocabulary = vocabulary
        known = frozenset(vocabulary.names)
        for question in questions:
            if question.id in self._questions:
                raise ValueError(f"two questions have the id {question.id!r}")
            if unknown := set(question.skills) - known:
                raise ValueError(
                    f"the question {question.id!r} names skills that skills.toml does not know: "
                    f"{', '.join(sorted(unknown))}"
                )
            if question.type not in TYPES:
                raise ValueError(f"the question {question.id!r} must be of one type")
            self._questions[question.id] = question

    @property
    def questions(self) -> tuple[Question, ...]:
        """Every question, in the order of the data."""
        return tuple(self._questions.values())

    @property
    def skills(self) -> tuple[str, ...]:
        """The canonical name of every skill."""
        return self._vocabulary.names

    def named(self, ids: Iterable[str]) -> tuple[Question, ...]:
        """The questions with these ids; one that has left the bank is left out."""
        return tuple(self._questions[id] for id in ids if id in self._questions)

    def find_skills(self, text: str) -> list[str]:
        """Skills that a text names, the most frequent first, then the first mentioned."""
        return self._vocabulary.find(text)

    def select(
        self, type: InterviewType, level: Level, skills: Sequence[str], count: int, seed: int
    ) -> list[Question]:
        """Different questions for an interview, the first of them fit to start it.

        `skills` are canonical names, the most important first; unknown ones are ignored.
        Questions on those skills at that level come first, spread over the skills; then
        neighbouring levels, common skills and finally anything of the type. A mixed interview
        takes turns between the types. The same arguments give the same questions. Fewer than
        `count` come only when the bank has no more of the type.
        """
        wanted = [name for name in dict.fromkeys(skills) if name in self._vocabulary.names]
        if type is not InterviewType.MIXED:
            return self._select(type, level, wanted, count, seed)
        columns = [self._select(one, level, wanted, count, seed) for one in TYPES]
        rounds = range(max(map(len, columns), default=0))
        turns = [column[turn] for turn in rounds for column in columns if turn < len(column)]
        return turns[:count] if count > 0 else []

    def _select(
        self, type: InterviewType, level: Level, wanted: Sequence[str], count: int, seed: int
    ) -> list[Question]:
        left = [
            self._candidate(question, level, wanted)
            for question in self._questions.values()
            if question.type is type
        ]
        random.Random(f"{type} {level} {seed}").shuffle(left)
        left.sort(key=lambda one: (one.cost, one.importance))
        asked: Counter[str] = Counter()
        chosen: list[Question] = []
        while left and len(chosen) < count:
            best = _best(left if chosen else _openers(left, level), asked)
            left.remove(best)
            chosen.append(best.question)
            asked.update(best.question.skills)
        return chosen

    def _candidate(self, question: Question, level: Level, wanted: Sequence[str]) -> "_Candidate":
        matched = [name for name in question.skills if name in wanted]
        if matched:
            subject = _MATCHED
        elif self._vocabulary.common.issuperset(question.skills):
            subject = _COMMON
        else:
            subject = _SPECIAL
        return _Candidate(
            question,
            cost=subject + _LEVEL_COST[_distance(question, level)],
            importance=min((wanted.index(name) for name in matched), default=0) // _LEADING,
            spread=matched or question.skills,
        )


class _Candidate(Struct, frozen=True, eq=False):
    """A question, weighed for one interview."""

    question: Question
    cost: int
    importance: int
    """0 for the leading skills, and for questions on none of the skills asked for."""
    spread: Sequence[str]
    """Skills of which not too much should be asked."""

    def rank_after(self, asked: Counter[str]) -> tuple[int, int, int]:
        """The lowest is asked next; `asked` counts the questions so far by skill."""
        repeats = max(asked[name] for name in self.spread)
        return self.cost + repeats, self.importance, self.cost


def _best(candidates: Sequence[_Candidate], asked: Counter[str]) -> _Candidate:
    """Among equals the first, so that the seeded shuffle decides; they come by rising cost, which
    no rank is below, so most of them need not be looked at."""
    best, lowest = candidates[0], candidates[0].rank_after(asked)
    for one in candidates[1:]:
        if one.cost > lowest[0]:
            break
        if (rank := one.rank_after(asked)) < lowest:
            best, lowest = one, rank
    return best


def parse_skills(data: dict[str, Any]) -> Vocabulary:
    """The vocabulary in the form of skills.toml: kind -> name -> the rest of a `Skill`.

    Raises ValueError for whatever is wrong with it.
    """
    return Vocabulary(
        _convert({**rest, "name": name, "kind": kind}, Skill, f"the skill {name!r}")
        for kind, skills in data.items()
        for name, rest in skills.items()
    )


def parse_questions(data: dict[str, Any], type: InterviewType) -> list[Question]:
    """Questions of one type in the form of its file: a list of tables named `question`.

    Raises ValueError for whatever is wrong with them.
    """
    return [
        _convert({**entry, "type": type}, Question, f"the question {entry.get('id')!r}")
        for entry in data["question"]
    ]


@functools.cache
def load() -> Bank:
    """The questions that come with the program. Raises ValueError when their data is broken."""
    vocabulary = parse_skills(_read("skills"))
    questions = [question for one in TYPES for question in parse_questions(_read(one), one)]
    return Bank(questions, vocabulary)


def _read(name: str) -> dict[str, Any]:
    file = importlib.resources.files("prepserver.interview.questions") / f"{name}.toml"
    return tomllib.loads(file.read_text("utf-8"))


def _convert(data: dict[str, Any], type: type[T], what: str) -> T:
    try:
        return msgspec.convert(data, type)
    except msgspec.ValidationError as error:
        raise ValueError(f"{what} is not well formed: {error}") from error


def _distance(question: Question, level: Level) -> int:
    asked_for = _LEVELS.index(level)
    return min(abs(_LEVELS.index(own) - asked_for) for own in question.levels)


def _openers(candidates: Sequence[_Candidate], level: Level) -> Sequence[_Candidate]:
    openers = [one for one in candidates if one.question.opener]
    return [one for one in openers if level in one.question.levels] or openers or candidates

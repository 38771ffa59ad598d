"""Question bank, from which every interview takes its main questions.

The questions are stored in the folder `data`, in a folder for each type of interview. A selection
depends only on its arguments, so an interview that resumes after a restart has the same plan.
"""

import functools
import importlib.resources
import random
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources.abc import Traversable
from typing import Any

from msgspec import Struct

from prepserver.interview.questions.evidence import MAX_EVIDENCE, find_evidence
from prepserver.interview.questions.families import (
    ANY_FAMILY,
    Families,
    Family,
    parse_families,
)
from prepserver.interview.questions.job_questions import JobQuestion, make_job_questions
from prepserver.interview.questions.question import Question, parse_question
from prepserver.interview.questions.skills import Skill, Vocabulary, parse_skills
from prepserver.wire.agenda import SkillEvidence
from prepserver.wire.protocol import InterviewType, Level

__all__ = ["Bank", "Question", "load_bank", "parse_questions"]

TYPES = (InterviewType.BEHAVIOURAL, InterviewType.TECHNICAL, InterviewType.SYSTEM_DESIGN)
"""Interview types with questions of their own, in the order in which a mixed interview alternates
between the types."""

_LEVELS = (Level.JUNIOR, Level.MID, Level.SENIOR)

_LEVEL_COST = (0, 2, 5)
"""Cost of a question for each distance between the requested level and the question's nearest
level."""

_MATCHED_COST, _UNMATCHED_COST = 0, 4
"""Cost of a question with a requested skill, and of another question that suits the role. Each
earlier question on the same skill adds 1, so that no skill fills a whole interview. A matching
question at a neighbouring level (2) comes before a question without a requested skill (4). After
four questions on one requested skill, a fifth costs as much as a question without one."""

_GROUP_SIZE = 3
"""Number of requested skills per group. Skills in a group are equally important; the groups are
covered in order."""


class Bank:
    """Set of all questions, with the vocabulary of their skills and the families of roles."""

    def __init__(
        self, questions: Iterable[Question], vocabulary: Vocabulary, families: Families
    ) -> None:
        """Index the questions by id.

        Raises ValueError if a question repeats an id, names an unknown skill or family, or has a
        type that is not in `TYPES`.
        """
        self._questions: dict[str, Question] = {}
        self._vocabulary = vocabulary
        self._families = families
        known = frozenset(vocabulary.names)
        for question in questions:
            if question.id in self._questions:
                raise ValueError(f"Two questions have the id {question.id!r}. Change one of them.")
            if unknown := set(question.skills) - known:
                raise ValueError(
                    f"The question {question.id!r} names unknown skills: "
                    f"{', '.join(sorted(unknown))}. Take a known skill or define them in a file."
                )
            if unknown := set(question.families) - {*families.names, ANY_FAMILY}:
                raise ValueError(
                    f"The question {question.id!r} names unknown families: "
                    f"{', '.join(sorted(unknown))}. Take a known family or define them in a file."
                )
            if question.type not in TYPES:
                raise ValueError(
                    f"The question {question.id!r} must have one of the types {', '.join(TYPES)}."
                )
            self._questions[question.id] = question

    @property
    def questions(self) -> tuple[Question, ...]:
        """All questions, in the order in which the questions were given."""
        return tuple(self._questions.values())

    def extend(
        self,
        questions: Sequence[Question],
        skills: Sequence[Skill] = (),
        families: Sequence[Family] = (),
    ) -> "Bank":
        """Return a bank with more questions, skills and families. Raises ValueError as the
        constructors of `Bank`, `Vocabulary` and `Families` do."""
        vocabulary = Vocabulary([*self._vocabulary.skills, *skills]) if skills else self._vocabulary
        grown = Families([*self._families.families, *families]) if families else self._families
        return Bank([*self.questions, *questions], vocabulary, grown)

    @property
    def skills(self) -> tuple[str, ...]:
        """Canonical names of all skills."""
        return self._vocabulary.names

    @property
    def families(self) -> tuple[str, ...]:
        """Names of all families of roles."""
        return self._families.names

    def get_questions(self, ids: Iterable[str]) -> tuple[Question, ...]:
        """Return the questions with these ids, in the order of `ids`. Ids of questions that are no
        longer in the bank are skipped."""
        return tuple(self._questions[id] for id in ids if id in self._questions)

    def find_skills(self, text: str) -> list[str]:
        """Return the skills that `text` names; see `Vocabulary.find_skills`."""
        return self._vocabulary.find_skills(text)

    def find_evidence(
        self, role: str, job: str, resume: str, *, limit: int = MAX_EVIDENCE
    ) -> list[SkillEvidence]:
        """Return the skills that the role and the documents name, with the words that show it; see
        `evidence.find_evidence`."""
        return find_evidence(self._vocabulary, role, job, resume, limit=limit)

    def make_job_questions(self, job: str) -> list[JobQuestion]:
        """Return questions made from the lines of a job description; see
        `job_questions.make_job_questions`."""
        return make_job_questions(self._vocabulary.clean(job))

    def typical_skills(self, role: str) -> tuple[str, ...]:
        """Return the typical skills of the role's families, the most typical first."""
        return self._families.skills_of(role)

    def select_questions(
        self,
        type: InterviewType,
        level: Level,
        skills: Sequence[str],
        count: int,
        seed: int,
        *,
        role: str = "",
    ) -> list[Question]:
        """Select distinct questions for an interview; the first is an opener if there is one.

        `skills` are canonical names, the most important first; unknown names are ignored. Questions
        on the skills in `skills` at `level` come first, spread over the skills; questions at
        neighbouring levels and on other skills of the role follow. A mixed interview alternates
        between the types. Equal arguments give equal questions.

        No question belongs to another craft than that of `role`, unless `skills` names the craft.
        If too few questions of the type suit the role, behavioural questions follow. The result has
        fewer than `count` questions only if the bank has no more questions that suit the role.
        """
        wanted = [name for name in dict.fromkeys(skills) if name in self._vocabulary.names]
        suitable = self._find_suitable(role, wanted)

        def select(one: InterviewType) -> list[Question]:
            candidates = [each for each in suitable if each.type is one]
            return self._select(candidates, level, wanted, count, f"{one} {level} {seed}")

        columns = [select(one) for one in (TYPES if type is InterviewType.MIXED else (type,))]
        rows = range(max(map(len, columns), default=0))
        selected = [column[row] for row in rows for column in columns if row < len(column)]
        if len(selected) < count and type is not InterviewType.MIXED:
            selected += [each for each in select(InterviewType.BEHAVIOURAL) if each not in selected]
        return selected[: max(count, 0)]

    def select_opener(self, seed: int) -> Question | None:
        """Select one of the usual questions with which an interview begins, about the candidate."""
        openers = [one for one in self._questions.values() if one.usual and one.opener]
        return random.Random(f"opener {seed}").choice(openers) if openers else None

    def select_closers(self, count: int, seed: int) -> list[Question]:
        """Select at most `count` of the usual questions with which an interview ends. The last one
        asks for the candidate's own questions."""
        usual = [one for one in self._questions.values() if one.usual and not one.opener]
        random.Random(f"closers {seed}").shuffle(usual)
        usual.sort(key=lambda question: not question.closer)
        return usual[: max(count, 0)][::-1]

    def _find_suitable(self, role: str, wanted: Sequence[str]) -> list[Question]:
        """Return the questions that a person in this role can be asked.

        Such a question belongs to the role's families, and its special skills are typical of them
        or wanted. Or it is about a special skill that is wanted although it is not typical, since
        the documents name it.
        """
        typical = frozenset(self._families.skills_of(role))
        families = self._families.of_role(role)

        def suits(question: Question) -> bool:
            special = set(question.skills) - self._vocabulary.common
            if not special <= typical and special <= set(wanted):
                return True
            return special <= typical.union(wanted) and not families.isdisjoint(question.families)

        return [each for each in self._questions.values() if not each.closer and suits(each)]

    def _select(
        self,
        candidates: Sequence[Question],
        level: Level,
        wanted: Sequence[str],
        count: int,
        seed: str,
    ) -> list[Question]:
        remaining = [self._weigh(question, level, wanted) for question in candidates]
        random.Random(seed).shuffle(remaining)
        remaining.sort(key=lambda each: (each.cost, each.importance))
        asked: Counter[str] = Counter()
        chosen: list[Question] = []
        while remaining and len(chosen) < count:
            best = _select_best(remaining if chosen else _openers(remaining, level), asked)
            remaining.remove(best)
            chosen.append(best.question)
            asked.update(best.question.skills)
        return chosen

    def _weigh(self, question: Question, level: Level, wanted: Sequence[str]) -> "_WeighedQuestion":
        matched = [name for name in question.skills if name in wanted]
        subject_cost = _MATCHED_COST if matched else _UNMATCHED_COST
        return _WeighedQuestion(
            question,
            cost=subject_cost + _LEVEL_COST[_level_distance(question, level)],
            importance=min((wanted.index(name) for name in matched), default=0) // _GROUP_SIZE,
            spread=matched or question.skills,
        )


class _WeighedQuestion(Struct, frozen=True, eq=False):
    """Question with its cost in one interview; questions of low cost are selected first."""

    question: Question
    cost: int
    importance: int
    """Number, counted from 0, of the group that contains the question's most important requested
    skill; also 0 if the question has no requested skill."""
    spread: Sequence[str]
    """Skills on which earlier questions are counted; the highest count is added to the cost."""

    def rank_after(self, asked: Counter[str]) -> tuple[int, int, int]:
        """Return the rank of the question in the next selection; the lowest rank is selected.

        `asked` counts the earlier questions by skill.
        """
        repeats = max(asked[name] for name in self.spread)
        return self.cost + repeats, self.importance, self.cost


def _select_best(candidates: Sequence[_WeighedQuestion], asked: Counter[str]) -> _WeighedQuestion:
    """Return the first candidate with the lowest rank.

    The candidates are sorted by cost. A rank is never lower than the cost, so the search ends at
    the first candidate whose cost exceeds the lowest rank.
    """
    best, lowest = candidates[0], candidates[0].rank_after(asked)
    for candidate in candidates[1:]:
        if candidate.cost > lowest[0]:
            break
        if (rank := candidate.rank_after(asked)) < lowest:
            best, lowest = candidate, rank
    return best


def parse_questions(data: dict[str, Any], type: InterviewType) -> list[Question]:
    """Parse the questions of one type from the data of one file, a list of `question` tables.

    Raises ValueError if an entry is invalid.
    """
    return [parse_question({**entry, "type": type}) for entry in data["question"]]


@functools.cache
def load_bank() -> Bank:
    """Load the bank from the data files of the package. Raises ValueError if a file is invalid."""
    data = importlib.resources.files("prepserver.interview.questions") / "data"
    files = [
        (one, file)
        for one in TYPES
        for file in sorted((data / one).iterdir(), key=lambda file: file.name)
    ]
    return Bank(
        [each for one, file in files for each in parse_questions(_read_toml(file), one)],
        Vocabulary(parse_skills(_read_toml(data / "skills.toml"))),
        Families(parse_families(_read_toml(data / "families.toml"))),
    )


def _read_toml(file: Traversable) -> dict[str, Any]:
    return tomllib.loads(file.read_text("utf-8"))


def _level_distance(question: Question, level: Level) -> int:
    requested = _LEVELS.index(level)
    return min(abs(_LEVELS.index(own) - requested) for own in question.levels)


def _openers(candidates: Sequence[_WeighedQuestion], level: Level) -> Sequence[_WeighedQuestion]:
    """Return the openers for `level`. If there are none, return all openers, or else all
    candidates."""
    openers = [each for each in candidates if each.question.opener]
    return [each for each in openers if level in each.question.levels] or openers or candidates

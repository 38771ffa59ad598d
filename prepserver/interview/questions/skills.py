"""The vocabulary of skills, and finding them in what people write.

Resumes name skills that are ordinary words as well: "Go", "React", "C". Such a word counts only
where its surroundings say that a skill is meant: in a list beside another skill of its kind, or,
when it is capitalised, after words such as "written in".
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta, Struct

__all__ = ["Kind", "Skill", "Vocabulary"]

Kind = Literal["technical", "professional", "personal"]
Name = Annotated[str, Meta(min_length=1, max_length=40)]


class Skill(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One skill and the names by which people call it."""

    name: Name
    kind: Kind
    aliases: tuple[Name, ...] = ()
    """Count as whole words, in any case."""
    ambiguous: tuple[Name, ...] = ()
    """Ordinary words too: they count as they are written here, if the surroundings agree."""
    common: bool = False
    """Anybody may be asked about it."""


class _Word(Struct, frozen=True):
    start: int
    end: int
    text: str


class _Mention(Struct):
    """A place in a text that names a skill, or seems to."""

    start: int
    end: int
    skill: Skill
    certain: bool


_WORD = re.compile(r"(?<!\w)\.net\b|[^\W_]+(?:\.[^\W_]+)*[+#]*", re.IGNORECASE)

_JOINT = re.compile(r"[ \t]*[-‐/ \t\n][ \t]*")
"""Between the words of one name: "code review", "code-review", "CI/CD"."""

_LIST = re.compile(r"[\s,;/|•·*+&(\-–]*(?:\b(?:and|or)\b)?[\s,/|•·*+&(\-–]*")
"""Between the entries of a list."""

_BEFORE = re.compile(
    r"(?:\b(?:in|using|with|via|write|writes|writing|wrote|know|knows|knowing|learn|learned"
    r"|learning|use|uses|used|idiomatic|modern)\s+"
    r"|\b(?:languages?|skills?|stack|tools?|technolog(?:y|ies)|frameworks?)\s*[:–-]\s*)$",
    re.IGNORECASE,
)
_BEFORE_LETTER = re.compile(
    r"\b(?:experience|experienced|proficien(?:t|cy)|programming|programs?|written|wrote|writing"
    r"|code|coded|coding|developed|developing|development|fluent|skilled|knowledge)\s"
    r"(?:\w+\s)?(?:in|with|of|using)\s+$"
    r"|\b(?:languages?|skills?|stack|tools?|technolog(?:y|ies))\s*[:–-]\s*$",
    re.IGNORECASE,
)
"""A single letter needs stronger words: "written in C", but not "a class in C"."""

_AFTER = re.compile(
    r"\s+(?:developers?|engineers?|programmers?|programming|code|codebase|(?:micro)?services"
    r"|modules?|packages?|components?|hooks|apps?|applications?|compiler|APIs?|endpoints?)\b"
)
_NOT_AFTER = re.compile(r"['’]s|-(?!based)\w|\s+(?:19|20)\d\d\b")
"""The rest of "Go-to-market", "C-level", "Spring 2021"."""

_VERB = re.compile(r"\s+to\b")
"""After a word in lower case: "react to incidents"."""

_LOOK_BACK = 3
"""Words before a word that may introduce it."""

_LONGEST_LEAD = 60
"""Characters of those words."""

_LONGEST_GAP = 20
"""Characters between two entries of a list, or two words of a name: keeps matching linear."""


class Vocabulary:
    """All the skills there are."""

    def __init__(self, skills: Iterable[Skill]) -> None:
        """Raises ValueError when two skills claim the same name."""
        known = {skill.name: skill for skill in skills}
        self.names = tuple(known)
        """Every skill, in the order of the data."""
        self.common = frozenset(skill.name for skill in known.values() if skill.common)
        """Skills that anybody may be asked about."""
        self._certain: dict[str, Skill] = {}
        self._ambiguous: dict[str, Skill] = {}
        for skill in known.values():
            for word in skill.ambiguous:
                self._claim(self._ambiguous, word, skill)
            ordinary = {word.lower() for word in skill.ambiguous}
            for alias in dict.fromkeys((skill.name, *skill.aliases)):
                if alias.lower() not in ordinary:
                    self._claim(self._certain, _normal(alias), skill)
        self._longest = max((name.count(" ") + 1 for name in self._certain), default=1)
        self._first_words = {name.split(" ")[0] for name in self._certain}

    def find(self, text: str) -> list[str]:
        """Skills that a text names, the most frequent first, then the first mentioned.

        Takes time in proportion to the length of the text.
        """
        mentions = self._mentions(text)
        _settle(mentions, text)
        counts = Counter(mention.skill.name for mention in mentions if mention.certain)
        return [name for name, _ in counts.most_common()]

    def _claim(self, names: dict[str, Skill], name: str, skill: Skill) -> None:
        owner = names.setdefault(name, skill)
        if owner is not skill:
            raise ValueError(f"both {owner.name!r} and {skill.name!r} are called {name!r}")

    def _mentions(self, text: str) -> list[_Mention]:
        words = [_Word(m.start(), m.end(), m.group()) for m in _WORD.finditer(text)]
        mentions: list[_Mention] = []
        position = 0
        while position < len(words):
            mention, length = self._longest_name(words, position, text)
            if mention:
                mentions.append(mention)
            position += length
        return mentions

    def _longest_name(
        self, words: list[_Word], position: int, text: str
    ) -> tuple[_Mention | None, int]:
        """The mention that starts at a word, if one does, and how many words to go on by."""
        first = words[position]
        if _singular(first.text.lower()) & self._first_words:
            run = [first]
            while len(run) < self._longest and position + len(run) < len(words):
                following = words[position + len(run)]
                gap = text[run[-1].end : following.start]
                if len(gap) > _LONGEST_GAP or not _JOINT.fullmatch(gap):
                    break
                run.append(following)
            for length in range(len(run), 0, -1):
                *head, last = [word.text.lower() for word in run[:length]]
                for ending in _singular(last):
                    skill = self._certain.get(" ".join([*head, ending]))
                    if skill:
                        return _Mention(first.start, run[length - 1].end, skill, True), length
        skill = self._ambiguous.get(first.text)
        if skill and _stands_alone(text, first):
            lead = words[max(0, position - _LOOK_BACK)].start
            certain = _introduced(text, first, lead)
            return _Mention(first.start, first.end, skill, certain), 1
        return None, 1


def _normal(name: str) -> str:
    return " ".join(word.lower() for word in _WORD.findall(name))


def _singular(word: str) -> set[str]:
    """The word, and what it may be the plural of."""
    return {word, word[:-1]} if len(word) > 3 and word.endswith("s") else {word}


def _stands_alone(text: str, word: _Word) -> bool:
    """Whether an ordinary word can be a name here: no part of a longer one, no verb, no date."""
    if word.start > 1 and text[word.start - 1] in "-'’" and text[word.start - 2].isalnum():
        return False
    if word.text.islower() and _VERB.match(text, word.end):
        return False
    return _NOT_AFTER.match(text, word.end) is None


def _introduced(text: str, word: _Word, lead: int) -> bool:
    """Whether what stands around a capitalised word says that it is the name of a skill.

    `lead` is where the few words before it start.
    """
    if word.text[0].islower():
        return False
    before = text[max(lead, word.start - _LONGEST_LEAD) : word.start]
    if len(word.text) == 1:
        return _BEFORE_LETTER.search(before) is not None
    if _BEFORE.search(before) or _AFTER.match(text, word.end):
        return True
    return before.endswith("(") and text.startswith(")", word.end)


def _settle(mentions: list[_Mention], text: str) -> None:
    """Believe an uncertain mention that stands in a list beside a certain one."""
    pairs = list(itertools.pairwise(mentions))
    for left, right in pairs:
        if left.certain and not right.certain:
            right.certain = _listed(left, right, right, text)
    for left, right in reversed(pairs):
        if right.certain and not left.certain:
            left.certain = _listed(left, right, left, text)


def _listed(left: _Mention, right: _Mention, doubtful: _Mention, text: str) -> bool:
    between = text[left.end : right.start]
    if len(between) > _LONGEST_GAP or not _LIST.fullmatch(between):
        return False
    if left.skill.kind != right.skill.kind:
        return False
    if not between.strip():
        if doubtful.end - doubtful.start == 1:
            return False
        if "\n" in between:
            return _alone(text, doubtful)
    return True


def _alone(text: str, mention: _Mention) -> bool:
    """Whether nothing else stands on the line of a mention."""
    line_start = text.rfind("\n", 0, mention.start) + 1
    line_end = text.find("\n", mention.end)
    line = text[line_start : line_end if line_end >= 0 else len(text)]
    return line.strip(" \t\r-–*•·,;") == text[mention.start : mention.end]

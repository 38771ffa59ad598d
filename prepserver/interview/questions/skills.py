"""Vocabulary of skills, and search for skills in resumes and job descriptions.

Some skills have ordinary words for names: "Go", "React", "C". Such a word counts only where the
context shows that a skill is meant: in a list beside another skill of the same kind, or, if the
word is capitalised, after words such as "written in" or before words such as "developer".
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from prepserver.interview.documents import normalise_text

__all__ = ["Kind", "Mention", "Skill", "Vocabulary", "parse_skills"]

Kind = Literal["technical", "professional", "personal"]
Name = Annotated[str, Meta(min_length=1, max_length=40)]


class Skill(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Skill with its names."""

    name: Name
    kind: Kind
    aliases: tuple[Name, ...] = ()
    """Names that count where they occur as whole words, in upper or lower case."""
    ambiguous: tuple[Name, ...] = ()
    """Case-sensitive names that are also ordinary words and count only where the context shows that
    the skill is meant."""
    common: bool = False
    """True if a candidate for any role may be asked about the skill."""


class _Word(Struct, frozen=True):
    start: int
    end: int
    text: str


class Mention(Struct):
    """Place in a text that certainly or possibly names a skill."""

    start: int
    end: int
    skill: Skill
    certain: bool


_LATIN = r"0-9A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ\u0300-\u036f"
"""Characters of words in Latin letters, for a character class."""

_WORD = re.compile(
    rf"(?<![{_LATIN}])\.net(?![{_LATIN}])"
    rf"|[{_LATIN}]+(?:\.[{_LATIN}]+)*[+#]*"
    rf"|[^\W_{_LATIN}]+",
    re.IGNORECASE,
)
"""Word. A word in Latin letters ends where another script begins: "精通Python和SQL"."""

_NAME_SEPARATOR = re.compile(r"[ \t]*(?:[ \t\n]|[-/_][ \t]*\n?)[ \t]*")
"""Separator between the words of one name: "code review", "code-review", "CI/CD"."""

_DIVIDED_WORD = re.compile(rf"(?<![{_LATIN}])([{_LATIN}]+)-[ \t]*\n[ \t]*([{_LATIN}]+)")
"""Word that may have been divided at the end of a line."""

_SPACED_WORD = re.compile(
    rf"(?<![{_LATIN}] )(?<![{_LATIN}])[{_LATIN}](?: [{_LATIN}](?![{_LATIN}])){{2,}}"
)
"""Word whose letters may have been spaced: "P y t h o n"."""

_NOTE_NUMBER = re.compile(r"(?<=[^\W\d_]{2})[\u00b9\u00b2\u00b3\u2070-\u2079]+")
"""Raised number after a word, which refers to a note."""

_LINE_BULLET = re.compile(r"^([ \t]*)(?:[o—]|\d{1,2}[.)])(?=[ \t])", re.MULTILINE)
"""Letter, dash or number in place of a bullet; word processors write second-level bullets as an
"o"."""

_BULLETS = "•·●‣、・*+&(\\-–\u2190-\u21ff\u25a0-\u27bf\u2b00-\u2bff\U0001f300-\U0001faff"
_LIST_SEPARATOR = re.compile(
    r"\)?(?:[ \t]*(?:[,;|][ \t]*)?\(?\d+(?:\.\d+)*\+?(?:[ \t]*(?:years?|yrs?))?\)?(?=[ \t]*[,;|/])"
    r"|[ \t]*[,;|][ \t]*\d+(?:\.\d+)*(?=[ \t]*\n))?"
    rf"[\s,;/|\"“”`{_BULLETS}]*(?:\b(?:and|or|und|oder)\b|[和与及或와과및]|と)?[\s,/|\"“”`{_BULLETS}]*"
)
"""Separator between the entries of a list, after a version or a number of years."""

_LEAD_IN = re.compile(
    r"(?:\b(?:in|using|with|via|write|writes|writing|wrote|know|knows|knowing|learn|learned"
    r"|learning|use|uses|used|idiomatic|modern)\s+"
    r"|\b(?:languages?|skills?|stack|tools?|technolog(?:y|ies)|frameworks?)\s*[:–-]\s*)$",
    re.IGNORECASE,
)
"""Text that marks the following capitalised word as a skill: "written in Go"."""

_LETTER_LEAD_IN = re.compile(
    r"\b(?:experience|experienced|proficien(?:t|cy)|programming|programs?|written|wrote|writing"
    r"|code|coded|coding|developed|developing|development|fluent|skilled|knowledge)\s"
    r"(?:\w+\s)?(?:in|with|of|using)\s+$"
    r"|kenntnisse\s(?:in|mit)\s+$"
    r"|\b(?:languages?|skills?|stack|tools?|technolog(?:y|ies))\s*[:–-]\s*$",
    re.IGNORECASE,
)
"""Text that marks the following single letter as a skill: "written in C"."""

_LEAD_OUT = re.compile(
    r"\s+(?:developers?|engineers?|programmers?|programming|code|codebase|(?:micro)?services"
    r"|modules?|packages?|components?|hooks|apps?|applications?|compiler|APIs?|endpoints?)\b"
)
"""Text that marks the preceding capitalised word as a skill: "Go developer"."""

_CONTINUATION = re.compile(r"['’]s|-(?!based)\w|\s+(?:19|20)\d\d\b")
"""Text that shows that the preceding word is not a skill: "Go-to-market", "Spring 2021"."""

_VERB_COMPLEMENT = re.compile(r"\s+to\b")
"""Text that marks the preceding word in lower case as a verb: "react to incidents"."""

_LEAD_IN_WORDS = 3
"""Number of words before a name that are searched for a lead-in."""

_MAX_LEAD_IN_LENGTH = 60
"""Maximum number of characters before a name that are searched for a lead-in."""

_FOREIGN_BEFORE = re.compile(rf"[^\W\d_{_LATIN}]\s?$")
_FOREIGN_AFTER = re.compile(rf"\s?[^\W\d_{_LATIN}]")
"""Letter of another script beside a Latin word: "使用Go开发". Texts in other scripts use Latin
letters for names, not for English words."""

_MAX_GAP_LENGTH = 20
"""Maximum number of characters between two entries of a list, or between two words of a name. This
limit keeps the search time linear in the length of the text."""


class Vocabulary:
    """Fixed set of skills whose names can be found in a text."""

    def __init__(self, skills: Iterable[Skill]) -> None:
        """Index the names of the skills. Raises ValueError if two skills have a name in common."""
        by_name = {skill.name: skill for skill in skills}
        self.skills = tuple(by_name.values())
        """All skills, in the order in which they were given."""
        self.names = tuple(by_name)
        """Canonical names of all skills, in the order in which the skills were given."""
        self.common = frozenset(skill.name for skill in by_name.values() if skill.common)
        """Names of the skills about which a candidate for any role may be asked."""
        self._certain: dict[str, Skill] = {}
        self._ambiguous: dict[str, Skill] = {}
        for skill in by_name.values():
            for word in skill.ambiguous:
                _claim_name(self._ambiguous, word, skill)
            ordinary = {word.lower() for word in skill.ambiguous}
            for alias in dict.fromkeys((skill.name, *skill.aliases)):
                if alias.lower() not in ordinary:
                    _claim_name(self._certain, _normalise(alias), skill)
        self._max_name_words = max((name.count(" ") + 1 for name in self._certain), default=1)
        self._first_words = {name.split(" ")[0] for name in self._certain}
        self._words = {word for name in self._certain for word in name.split(" ")}

    def find_skills(self, text: str) -> list[str]:
        """Return the skills that `text` names, the most frequent first.

        Skills with the same frequency are in order of first mention.
        """
        counts = Counter(mention.skill.name for mention in self.find_mentions(self.clean(text)))
        return [name for name, _ in counts.most_common()]

    def clean(self, text: str) -> str:
        """Return `text` normalised, with words joined that were divided or spaced, and with one
        kind of bullet for letters, dashes and numbers at the start of lines."""
        text = normalise_text(_NOTE_NUMBER.sub(" ", text))
        text = _DIVIDED_WORD.sub(self._join_divided_word, text)
        text = _SPACED_WORD.sub(self._join_spaced_word, text)
        return _LINE_BULLET.sub(r"\1•", text)

    def skill_named(self, name: str) -> Skill | None:
        """Return the skill with this name, which is known to name a skill, or None."""
        return self._ambiguous.get(name) or self._certain.get(_normalise(name))

    def find_mentions(self, text: str) -> list[Mention]:
        """Return the places in a clean text that certainly name a skill, in their order.

        The search takes time linear in the length of the text.
        """
        mentions = self._match_names(text)
        _resolve_uncertain(mentions, text)
        return [mention for mention in mentions if mention.certain]

    def _join_divided_word(self, match: re.Match[str]) -> str:
        """Return the divided word without its hyphen if a skill's name contains it."""
        word = match[1] + match[2]
        return word if _base_forms(word.lower()) & self._words else match[0]

    def _join_spaced_word(self, match: re.Match[str]) -> str:
        """Return the spaced word without its spaces if a skill's name contains it."""
        word = match[0].replace(" ", "")
        return word if _base_forms(word.lower()) & self._words else match[0]

    def _match_names(self, text: str) -> list[Mention]:
        words = [_Word(m.start(), m.end(), m.group()) for m in _WORD.finditer(text)]
        mentions: list[Mention] = []
        position = 0
        while position < len(words):
            mention, length = self._match_name(words, position, text)
            if mention:
                mentions.append(mention)
            position += length
        return mentions

    def _match_name(
        self, words: list[_Word], position: int, text: str
    ) -> tuple[Mention | None, int]:
        """Match the longest name that starts at the word with the index `position`.

        Return the mention, or None if there is none, and the number of words by which to advance.
        """
        first = words[position]
        if _base_forms(first.text.lower()) & self._first_words:
            run = [first]
            while len(run) < self._max_name_words and position + len(run) < len(words):
                following = words[position + len(run)]
                gap = text[run[-1].end : following.start]
                if len(gap) > _MAX_GAP_LENGTH or not _NAME_SEPARATOR.fullmatch(gap):
                    break
                run.append(following)
            for length in range(len(run), 0, -1):
                *head, last = [word.text.lower() for word in run[:length]]
                for ending in _base_forms(last):
                    skill = self._certain.get(" ".join([*head, ending]))
                    if skill:
                        return Mention(first.start, run[length - 1].end, skill, True), length
        skill = self._ambiguous.get(first.text)
        if skill and _may_be_name(text, first):
            lead_start = words[max(0, position - _LEAD_IN_WORDS)].start
            certain = _has_skill_context(text, first, lead_start)
            return Mention(first.start, first.end, skill, certain), 1
        return None, 1


def parse_skills(data: Any) -> list[Skill]:
    """Parse skills in the form of skills.toml: kind -> name -> other fields of `Skill`.

    Raises ValueError if an entry is invalid.
    """
    parsed = []
    try:
        for kind, skills in data.items():
            for name, rest in skills.items():
                parsed.append(msgspec.convert({**rest, "name": name, "kind": kind}, Skill))
    except msgspec.ValidationError as error:
        raise ValueError(f"The skill {name!r} is invalid: {error}.") from error
    except (AttributeError, TypeError):
        raise ValueError(
            "The skills are not tables. Write them as: [skills.technical], then NAME = {}."
        ) from None
    return parsed


def _claim_name(names: dict[str, Skill], name: str, skill: Skill) -> None:
    owner = names.setdefault(name, skill)
    if owner is not skill:
        raise ValueError(
            f"The skills {owner.name!r} and {skill.name!r} share the name {name!r}. "
            "Remove it from one of them."
        )


def _normalise(name: str) -> str:
    return " ".join(word.lower() for word in _WORD.findall(name))


def _base_forms(word: str) -> set[str]:
    """Return `word` and, if it looks like a plural or ends in a version, the word without that."""
    forms = {word, word.rstrip("0123456789.")} if word[:3].isalpha() else {word}
    return forms | {word[:-1]} if len(word) > 3 and word.endswith("s") else forms


def _may_be_name(text: str, word: _Word) -> bool:
    """Return True unless `word` is a verb in this context, or part of a compound or a date."""
    if word.start > 1 and text[word.start - 1] in "-'’" and text[word.start - 2].isalnum():
        return False
    if word.text.islower() and _VERB_COMPLEMENT.match(text, word.end):
        return False
    return _CONTINUATION.match(text, word.end) is None


def _has_skill_context(text: str, word: _Word, lead_start: int) -> bool:
    """Return True if `word` is capitalised and the surrounding text marks the word as a skill.

    `lead_start` is the position in `text` from which a lead-in is searched for.
    """
    if word.text[0].islower():
        return False
    before = text[max(lead_start, word.start - _MAX_LEAD_IN_LENGTH) : word.start]
    if len(word.text) == 1:
        return _LETTER_LEAD_IN.search(before) is not None
    if _LEAD_IN.search(before) or _LEAD_OUT.match(text, word.end):
        return True
    if _FOREIGN_BEFORE.search(before) or _FOREIGN_AFTER.match(text, word.end):
        return True
    return before.endswith("(") and text.startswith(")", word.end)


def _resolve_uncertain(mentions: list[Mention], text: str) -> None:
    """Make an uncertain mention certain if a certain mention of the same kind stands beside it in a
    list."""
    pairs = list(itertools.pairwise(mentions))
    for left, right in pairs:
        if left.certain and not right.certain:
            right.certain = _share_list(left, right, right, text)
    for left, right in reversed(pairs):
        if right.certain and not left.certain:
            left.certain = _share_list(left, right, left, text)


def _share_list(left: Mention, right: Mention, uncertain: Mention, text: str) -> bool:
    between = text[left.end : right.start]
    if len(between) > _MAX_GAP_LENGTH or not _LIST_SEPARATOR.fullmatch(between):
        return False
    if left.skill.kind != right.skill.kind:
        return False
    if not between.strip():
        if uncertain.end - uncertain.start == 1:
            return False
        if "\n" in between:
            return _fills_line(text, uncertain)
    return True


def _fills_line(text: str, mention: Mention) -> bool:
    """Return True if the mention is the only text on its line, apart from list punctuation."""
    line_start = text.rfind("\n", 0, mention.start) + 1
    line_end = text.find("\n", mention.end)
    line = text[line_start : line_end if line_end >= 0 else len(text)]
    return line.strip(" \t\r-–*•·,;") == text[mention.start : mention.end]

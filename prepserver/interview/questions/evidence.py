"""Skills that a role, a job description and a resume name, with the words that show it."""

import bisect
import re
from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from prepserver.interview.questions.skills import Kind, Vocabulary
from prepserver.interview.questions.statements import Section, Statement, split_statements
from prepserver.interview.questions.terms import Term, find_terms
from prepserver.wire.agenda import SkillEvidence, Where

__all__ = ["MAX_EVIDENCE", "MAX_QUOTE", "find_evidence"]

MAX_EVIDENCE = 12
"""Maximum number of skills that are returned."""

MAX_QUOTE = 140
"""Maximum length of a quote in characters."""

_WINDOW = 160
"""Number of characters around a name that are searched for its level and for other people."""

_RANKS = {
    Section.REQUIRED: 0,
    Section.SKILLS: 0,
    Section.TASKS: 1,
    Section.OTHER: 1,
    Section.PREFERRED: 2,
}
"""Importance of a statement of the job description; the lowest rank is the most important."""

_RESUME_RANK = 3

_PERSON = re.compile(
    r"(?:manager|engineer|developer|scientist|analyst|designer|director|owner|architect|executive"
    r"|officer|specialist|consultant|coordinator|recruiter|assistant|accountant|auditor|nurse"
    r"|teacher|tester|writer|agent|master|buyer|lawyer)(?:s|n|en)?\b",
    re.IGNORECASE,
)
"""Titles, which name the candidate's own work or that of others."""

_PEOPLE = re.compile(
    r"(?:managers|engineers|developers|scientists|analysts|designers|directors|owners|ownern"
    r"|architects|executives|officers|specialists|consultants|coordinators|recruiters|assistants"
    r"|accountants|auditors|nurses|teachers|testers|writers|agents|masters|buyers|partners"
    r"|colleagues|students|teams?|departments?|leadership|staff|abteilung)\b",
    re.IGNORECASE,
)
"""People or a team, which stand for the work of others."""

_WITH_OTHERS = re.compile(
    r"\b(?:(?:work|collaborat|cooperat|partner|liais|interact|coordinat|communicat|pair|align"
    r"|engag|interfac|connect|report|consult|present|support|help|serv|hand|arbeit|abstimm"
    r"|unterstütz|bericht)\w*)\b"
    r"[^.;]{0,100}?\b(?:with|to|alongside|for|between|over|mit|an|der|unsere|our|the)\b",
    re.IGNORECASE,
)
"""Text that marks the following people as others than the candidate."""

_OFFICE = re.compile(
    r"\b(?:director|head|vp|president|chief|lead|leitung) (?:of|der) $", re.IGNORECASE
)

_DEGREE = re.compile(
    r"\b(?:degree|diploma|bachelor\w*|b\.?sc|m\.?sc|registration|licen[cs]e)\b", re.I
)
"""Text of a statement about education, whose words say less than those about work."""

_OWN_TEAM = re.compile(
    r"\b(?:join|part of|member of|lead|led|leading|manag\w+)\b[^.;]{0,40}$", re.I
)

_CANDIDATE = re.compile(
    r"\b(?:you|your|must|ability|able|skills?|expect|candidate|someone|experience|du|dein\w*|ihre?)\b",
    re.IGNORECASE,
)
"""Text of a statement about the candidate rather than about the employer."""

_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "zwei": 2, "drei": 3, "vier": 4, "fünf": 5,
}  # fmt: skip
_YEARS = re.compile(
    rf"\b(\d{{1,2}}|{'|'.join(_NUMBERS)})\s*\+?\s*(?:(?:-|–|to|or|bis)\s*(?:\d{{1,2}}|more|mehr)\s*"
    r"\+?\s*)?(?:years?|yrs?|jahren?)\b",
    re.IGNORECASE,
)
_LEVEL = re.compile(
    r"\b(expert|expertise|advanced|strong|solid|deep|excellent|sound|proficient|proficiency|fluent"
    r"|basic|basics|intermediate|beginner|familiar|familiarity|working knowledge|good|very good"
    r"|in-depth|extensive|grundkenntnisse|sehr gute|gute|fundierte|sichere[rn]?)\b",
    re.IGNORECASE,
)
_CLAUSE_START = re.compile(r"(?:,| and| but| und| aber) (?:you|du|sie|we|i|ich) ", re.IGNORECASE)
_AFTERTHOUGHT = re.compile(r"\s*[(:–,-]\s*([^(),;]{2,30})\)?")
"""Level or years after a name: "Python (5 years)"."""


class _Sighting(Struct, frozen=True):
    """Place in one document that names a skill."""

    name: str
    spelling: str
    quote: str
    rank: int
    formal: bool
    """True if the words belong to a title or a degree."""
    level: str
    years: int


class _Name(Struct, frozen=True):
    start: int
    end: int
    name: str
    """Name of the skill in the vocabulary; empty for a term that it does not know."""
    kind: Kind


def find_evidence(
    vocabulary: Vocabulary,
    role: str,
    job: str,
    resume: str,
    *,
    limit: int = MAX_EVIDENCE,
) -> list[SkillEvidence]:
    """Return the skills that the role, the job description and the resume name, at most `limit`,
    the most important first.

    Requirements come before tasks, these before what is only nice to have, and the resume's other
    skills come last. Among equals, skills that both documents name come first, then the most
    frequent. Skills of other people, benefits and legal notes are left out. The search takes time
    linear in the length of the documents.
    """
    wanted = [*_read_role(vocabulary, role), *_read_document(vocabulary, job, job=True)]
    offered = list(_read_document(vocabulary, resume, job=False))
    by_skill: dict[str, tuple[list[_Sighting], list[_Sighting]]] = {}
    for index, sightings in enumerate((wanted, offered)):
        for sighting in sightings:
            by_skill.setdefault(sighting.name.casefold(), ([], []))[index].append(sighting)
    ranked = sorted(
        by_skill.values(),
        key=lambda found: (
            min((one.rank for one in found[0]), default=_RESUME_RANK),
            not (found[0] and found[1]),
            -len(found[0]) - len(found[1]),
        ),
    )
    return [_summarise(*found) for found in ranked[:limit]]


def _summarise(wanted: list[_Sighting], offered: list[_Sighting]) -> SkillEvidence:
    quoted, others = (wanted, offered) if wanted else (offered, [])
    counts = Counter(one.spelling.casefold() for one in (*wanted, *offered))
    shared = {one.spelling.casefold() for one in others}

    def order(one: _Sighting) -> tuple[int, bool, bool, int]:
        word = one.spelling.casefold()
        return one.rank, one.formal, word not in shared, -counts[word]

    ordered = [*sorted(quoted, key=order), *others]
    best = ordered[0]
    spellings = {one.spelling.casefold(): one.spelling for one in reversed(ordered)}
    same = [one for one in quoted if one.spelling.casefold() == best.spelling.casefold()]
    source = Where.BOTH if offered else Where.JOB
    return SkillEvidence(
        name=best.name,
        spelling=best.spelling,
        also=[word for word in reversed(spellings.values()) if word != best.spelling],
        quote=best.quote,
        where=source if wanted else Where.RESUME,
        level=next((one.level for one in same if one.level), ""),
        years=min((one.years for one in same if one.years), default=0),
        count=len(wanted) + len(offered),
    )


def _read_role(vocabulary: Vocabulary, role: str) -> Iterator[_Sighting]:
    text = vocabulary.clean(role)
    for mention in vocabulary.find_mentions(text):
        spelling = text[mention.start : mention.end]
        yield _Sighting(mention.skill.name, spelling, text.strip()[:MAX_QUOTE], 0, True, "", 0)


def _read_document(vocabulary: Vocabulary, document: str, *, job: bool) -> Iterator[_Sighting]:
    text = vocabulary.clean(document)
    mentions = vocabulary.find_mentions(text)
    starts = [mention.start for mention in mentions]
    for statement in split_statements(text, job=job):
        low, high = (bisect.bisect_left(starts, edge) for edge in (statement.start, statement.end))
        names = [
            _Name(one.start, one.end, one.skill.name, one.skill.kind) for one in mentions[low:high]
        ]
        for each in _merge(names, find_terms(statement, job=job), vocabulary):
            if _belongs_to_candidate(each, statement, job=job):
                start, end = each.start - statement.start, each.end - statement.start
                spelling = _squeeze(statement.text[start:end])
                level, years = _find_level(statement.text, start, end)
                yield _Sighting(
                    each.name or spelling,
                    spelling,
                    _quote(statement.text, start, end),
                    _RANKS[statement.section] if job else _RESUME_RANK,
                    _is_formal(statement.text, start, end),
                    level,
                    years,
                )


def _merge(names: list[_Name], terms: list[Term], vocabulary: Vocabulary) -> list[_Name]:
    """Return the names and the terms in their order. A term that contains a name of the vocabulary
    becomes the spelling of that skill, and a term that may be an ordinary word elsewhere names the
    vocabulary's skill."""
    merged = []
    for name in names:
        around = next((t for t in terms if t.start <= name.start and name.end <= t.end), None)
        start, end = (around.start, around.end) if around else (name.start, name.end)
        merged.append(_Name(start, end, name.name, name.kind))
    for term in terms:
        if not any(name.start < term.end and term.start < name.end for name in names):
            skill = vocabulary.skill_named(term.text)
            known, kind = (skill.name, skill.kind) if skill else ("", "technical")
            merged.append(_Name(term.start, term.end, known, kind))
    return sorted(merged, key=lambda name: name.start)


def _belongs_to_candidate(name: _Name, statement: Statement, *, job: bool) -> bool:
    """Return False if the name is part of other people's titles or describes the employer."""
    text = statement.text
    start, end = name.start - statement.start, name.end - statement.start
    before = text[max(0, start - _WINDOW) : start]
    last_word = max(start, text.rfind(" ", start, end) + 1)
    heads = (last_word, end + 1) if name.kind != "personal" else (last_word,)
    people = any(_PEOPLE.match(text, head) for head in heads)
    if people and not _OWN_TEAM.search(before):
        return False
    if people or any(_PERSON.match(text, head) for head in heads) or _OFFICE.search(before):
        return _WITH_OTHERS.search(before) is None
    if job and name.kind == "personal" and statement.section is Section.OTHER:
        return _CANDIDATE.search(text) is not None
    return True


def _is_formal(text: str, start: int, end: int) -> bool:
    last_word = max(start, text.rfind(" ", start, end) + 1)
    title = _PERSON.match(text, last_word) or _PERSON.match(text, end + 1)
    return title is not None or _DEGREE.search(text) is not None


def _find_level(text: str, start: int, end: int) -> tuple[str, int]:
    """Return the level and the years of experience that the text gives for the name between `start`
    and `end`."""
    after = _AFTERTHOUGHT.match(text, end)
    nearby = after[1] if after else ""
    before = _CLAUSE_START.split(text[max(0, start - _WINDOW) : start])[-1]
    levels = [match[1].lower() for match in _LEVEL.finditer(before)]
    years = list(_YEARS.finditer(before))
    own_level, own_years = _LEVEL.search(nearby), _YEARS.search(nearby)
    level = own_level[1].lower() if own_level else levels[-1] if levels else ""
    chosen = own_years or (years[-1] if years else None)
    if chosen is not own_years and chosen and before[: chosen.start()].rstrip().endswith("("):
        chosen = None
    return level, _parse_number(chosen[1]) if chosen else 0


def _parse_number(word: str) -> int:
    return int(word) if word.isdigit() else _NUMBERS[word.lower()]


def _quote(text: str, start: int, end: int) -> str:
    """Return the part of `text` around the name, at most `MAX_QUOTE` characters long."""
    if len(text) > MAX_QUOTE:
        first = max(0, min(start - MAX_QUOTE // 3, len(text) - MAX_QUOTE + 2))
        cut = text[first : first + MAX_QUOTE - 2]
        if first and " " in cut[: start - first]:
            cut = "…" + cut.partition(" ")[2]
        if first + MAX_QUOTE - 2 < len(text):
            cut = cut.rpartition(" ")[0] + "…" if " " in cut[end - first :] else cut + "…"
        text = cut
    return _squeeze(text)


def _squeeze(text: str) -> str:
    return " ".join(text.split())

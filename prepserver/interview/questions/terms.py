"""Search for technical terms that the vocabulary does not know, by their shape and position.

A term is a name ("Snowflake", "SAP MM", "GD&T") or, where skills are listed, a short noun phrase
("injection moulding"). Terms are searched only where people state skills: in lists of requirements
and skills, and after words such as "experience with".
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from prepserver.interview.questions.statements import Section, Statement

__all__ = ["Term", "find_terms"]

MAX_WORDS = 3
"""Maximum number of words in a term."""


class Term(Struct, frozen=True):
    """Place in a text that names a skill by a name of its own."""

    start: int
    end: int
    text: str


_SEPARATOR = re.compile(
    r"\s*[,;|•·:()\[\]\"“”]\s*|\s*/\s+|\s+/\s*|\s+[–—-]\s+|\.(?:\s|$)"
    r"|\s+(?:and|or|&|und|oder|sowie|as well as|plus|e\.g\.|such as|like|including|incl\.)\s+",
    re.IGNORECASE,
)

_LEAD_IN = re.compile(
    r"^.*?\b(?:(?:experience|experienced|background|practice|hands-on|expertise|proficien(?:t|cy)"
    r"|skills?|skilled|trained|training|versed|fluent|comfortable|familiar(?:ity)?|competen(?:t|ce)"
    r"|certified|qualified|confident|erfahrung|kenntnisse|umgang|berufserfahrung)"
    r"(?:\s+(?:with|in|of|using|on|to|working with|mit|der|des|den|im))+"
    r"|(?:knowledge|understanding|command|use|grasp|mastery)\s+of"
    r"|(?:know|knows|using|used|uses|use|via|bring)(?=\s)"
    r"|(?:\w*kenntnisse)\s+(?:in|der|des|von))\s+",
    re.IGNORECASE,
)
"""Text up to words that mark the following words as a skill."""

_TOOL_LEAD_IN = re.compile(
    r"^.*\b(?:using|with|via|introduc(?:e|ed|ing)|adopt(?:ed|ing)?|mit|load|deploy(?:ed)?)\s+",
    re.IGNORECASE,
)
"""Text up to words after which a capitalised word in a description of work is mostly a tool."""

_LEVEL = re.compile(
    r"^(?:(?:and|or|und|oder|a|an|the|our|your|some|any|other|strong|solid|good|very|sound|deep"
    r"|basic|advanced|excellent|expert|proven|practical|working|hands-on|first|extensive|relevant|at|least|current"
    r"|\d+\+?|years?|sehr|gute[sn]?|sichere[rn]?|moderne[nr]?|ideally|both|also)\s+)+",
    re.IGNORECASE,
)

"""Articles and words for a level, before the words that name a skill."""

_TAIL = re.compile(
    r"\s+(?:is|are|be|would|will|was|for|in|to|before|at|from|with|that|which|who|well|daily|on|of"
    r"|required|preferred|desirable|needed|ist|sind|von|wünschenswert|zwingend|skills?|knowledge"
    r"|experience|certificate|certification|tools?|another|every|without|into|by|not|ins?|im|so"
    r"|because|when|while|where|each)\b.*$",
    re.IGNORECASE,
)

"""Text after the words that name a skill."""

_NAME_WORD = (
    r"(?:[A-ZÄÖÜ][\w]*|[a-z]{1,3}[A-Z]\w*|[A-Z]?\d+[A-Z]\w*)(?:[&.+#/-](?=[\w+#])[\w]*)*[+#]*"
)
_NAME = re.compile(rf"{_NAME_WORD}(?:\s+(?:{_NAME_WORD}|\d[\d.-]*))*")
_STRONG_NAME = re.compile(
    r"(?=[^\s]*[A-Za-z])(?:\w*[a-z]\w*[A-Z]|\w*[A-Z]\w*[A-Z]|\w*[A-Z]\w*\d|\w+&\w|[A-Z]\w*[+#])"
)
"""Word with the shape of an acronym or a trade name: "HACCP", "FreeRTOS", "GD&T"."""

_PHRASE = re.compile(r"\w[\w&+#.-]*(?: \w[\w&+#.-]*)*")

_GENERIC = frozenset(
    """
    abgeschlossen abgeschlossene abgeschlossenes abilities ability adults advanced advantage agile
    all april area areas attitude august ausbildung bachelor bachelor's bachelors background based
    basic beginner berufserfahrung best bonus building business candidate care career certificate
    certification children chinese clear client clients code colleague colleagues college companies
    company computer concept concepts control council country customer customers databases day days
    december degree demonstrable department deutsch development diploma driver driving du dutch
    education eight employer englisch english environment environments equipment equivalent
    erfahrung etc europe european experience expert fast february field fields five flexible
    fließend fluency fluent focus four framework frameworks französisch french freude friday full
    full-time german gmbh goals good graduate hands-on hobbies hours hybrid i inc industry interest
    interests intermediate international interpersonal it italian italienisch january japanese job
    july june junior kenntnisse key knowledge language languages large law least level levels
    licence license licensed life limited living ltd manager managers mandarin march master
    master's masters may mehrjährige mid mind mindestens minimum modern modules monday month months
    motivation muss must native native-level new nine no november october office on-site one
    optional organisation organization other own parents part part-time partners passion patients
    people permit person personality phd plus polish portuguese position practice practices
    previous problems procedures product production products professional proven pupils
    qualification qualifications qualified quality reference references registration regular
    related relevant remote requirement requirements responsibility responsible results role roles
    russian saturday school scientist sector senior september setting settings seven shift shifts
    sie similar six size skill skills small software something spanisch spanish spaß stage
    stakeholders standards status student students studium success successful sunday superior
    suppliers system systems task tasks team teams technologies technology ten test tests they
    things this three thursday tool tools travel tuesday two umgang university user users vehicle
    vocational we wednesday weekend weekends willing willingness wir work working world worldwide
    writing written year years yes you
    """.split()
)
"""Words that name no skill of their own, neither as the first nor as the last word of a phrase."""

_NOT_A_SKILL = frozenset(
    """
    EU UK US USA UAE IT HR CEO CTO CFO COO VP CV PDF FTE KPI KPIs OKR OKRs PTO DEI NGO AG KG SE BV
    MSc BSc BA MA MBA PhD MD GPA GCSE GCSEs TBD FAQ AM PM CET GMT UTC EST EUR USD GBP CHF ID OK NB
    ASAP Q1 Q2 Q3 Q4 B1 B2 C1 C2 A1 A2 I DM DOB
    """.split()
)

_CLAUSE_WORDS = frozenset(
    "with what how who whom whose why when where which that their our your his her is are".split()
)
"""Words that occur in clauses, and not in names of skills."""

_ENGLISH = re.compile(r"\b(?:the|and|with|of|you|for|or|a)\b", re.IGNORECASE)
_GERMAN = re.compile(
    r"\b(?:und|mit|der|die|das|von|für|sowie|oder|du|sie|ein|eine|ist|gute[ns]?|wünschenswert"
    r"|vorteil|kenntnisse|erfahrung|ihre?|unsere?r?|zu[rm]?)\b|[äöüß]",
    re.IGNORECASE,
)
_EMPLOYER = re.compile(r"\b(?:19|20)\d\d\b|@|https?:|www\.")
_NO_SKILLS = re.compile(
    r"\b(?:degree|diploma|bachelor\w*|master's|b\.?sc|m\.?sc|ph\.?d|university|studium|ausbildung"
    r"|licen[cs]e|relocat\w+|travel|commut\w+|located|based|salary|report(?:s|ing)? to|liaise"
    r"|fließend|native|registration|shifts?)\b",
    re.IGNORECASE,
)
"""Text of a statement about a candidate's education, place or people."""


def find_terms(statement: Statement, *, job: bool) -> list[Term]:
    """Return the terms of a statement, in their order, with positions in the document.

    `job` is True for a job description and False for a resume.
    """
    text, section = statement.text, statement.section
    listed = section in (Section.REQUIRED, Section.PREFERRED, Section.SKILLS)
    if not listed and not job and _EMPLOYER.search(text):
        return []
    if not any(c.islower() for c in text) and len(text.split()) > MAX_WORDS:
        return []
    if section is not Section.SKILLS and _NO_SKILLS.search(text):
        return []
    german = _GERMAN.search(text) is not None and _ENGLISH.search(text) is None
    found: list[Term] = []
    led, listing = False, False
    for index, (start, end) in enumerate(_segments(text)):
        first, last, has_lead = _core(text, start, end, listed=listed)
        led = led or has_lead
        listing = listing or (index == 0 and text.count(" ", start, end) < MAX_WORDS)
        place = _Place(
            text,
            listed=listed,
            led=has_lead or (led and listed),
            alone=led or (listed and listing),
            german=german,
        )
        span = place.find_phrase(
            first, last, alone=first == start, skills=section is Section.SKILLS
        )
        for begin, stop in [span] if span else place.find_names(first, last, end):
            offset = statement.start
            found.append(Term(offset + begin, offset + stop, text[begin:stop]))
    return found


def _segments(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for match in _SEPARATOR.finditer(text):
        if match.start() > start:
            yield start, match.start()
        start = match.end()
    if start < len(text):
        yield start, len(text)


def _core(text: str, start: int, end: int, *, listed: bool) -> tuple[int, int, bool]:
    """Return the start and end of the words of a segment that may name a skill, and True if words
    before them say so."""
    segment = text[start:end]
    lead = (_LEAD_IN if listed else _TOOL_LEAD_IN).match(segment)
    first = lead.end() if lead else 0
    if level := _LEVEL.match(segment[first:]):
        first += level.end()
    tail = _TAIL.search(segment, first)
    last = tail.start() if tail else len(segment.rstrip(" .!?"))
    return start + first, start + max(first, last), lead is not None


class _Place(Struct, frozen=True):
    """Statement in which terms are searched, and what is known about the place of a segment."""

    text: str
    listed: bool
    """True if the statement belongs to a list of skills or requirements."""
    led: bool
    """True if words such as "experience with" stand before the segment."""
    alone: bool
    """True if a capitalised word that fills a segment is a term."""
    german: bool

    def find_names(self, start: int, core_end: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the spans of the names between `start` and `end` that may be terms. A capitalised
        word is one only before `core_end`, the end of the words that may name a skill."""
        for match in _NAME.finditer(self.text, start, end):
            first, last = match.span()
            if first and self.text[first - 1].isalnum():
                continue
            if first == 0 and not self.listed and not _is_strong(match[0].partition(" ")[0]):
                first = match[0].find(" ") + 1 or last  # the verb of a task: "Upgraded PostgreSQL"
            name = self.text[first:last]
            if not _may_be_term(name):
                continue
            strong = any(_is_strong(word) for word in name.split())
            alone = self.alone and (first, last) == (start, end) and core_end == end
            weak = not self.german and last <= core_end and (self.led or alone)
            if strong or weak:
                yield first, last

    def find_phrase(
        self, start: int, end: int, *, alone: bool, skills: bool
    ) -> tuple[int, int] | None:
        """Return the span from `start` to `end` if it is a noun phrase that is a skill by its
        position. `alone` is True if it is a whole entry, `skills` in a list of skills."""
        phrase = self.text[start:end]
        words = phrase.split()
        if not self.listed or not _may_be_term(phrase) or not _PHRASE.fullmatch(phrase):
            return None
        named = _is_strong(words[0]) and len(words) > 1
        if named or (alone and skills) or (self.led and not self.german):
            return start, end
        return None


def _is_strong(word: str) -> bool:
    return word not in _NOT_A_SKILL and _STRONG_NAME.match(word) is not None


def _may_be_term(term: str) -> bool:
    words = term.split()
    if not 1 <= len(words) <= MAX_WORDS or not 2 <= len(term) <= 40:
        return False
    lowered = {word.lower() for word in words}
    return lowered.isdisjoint(_GENERIC | _CLAUSE_WORDS) and _NOT_A_SKILL.isdisjoint(words)

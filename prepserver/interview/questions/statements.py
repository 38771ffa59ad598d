"""Division of job descriptions and resumes into statements: items of lists and sentences.

A statement knows its section, by the heading above it or by its own words ("would be a plus").
Benefits, descriptions of the employer and legal notes are left out.
"""

import enum
import re
from collections.abc import Iterator

from msgspec import Struct

__all__ = ["Section", "Statement", "split_statements"]

MAX_LENGTH = 600
"""Maximum length of a statement in characters. Longer text is divided, so that the search in a
statement takes bounded time."""

MAX_HEADING = 60
"""Maximum length of a heading in characters."""


class Section(enum.Enum):
    """Part of a document."""

    REQUIRED = enum.auto()
    SKILLS = enum.auto()
    TASKS = enum.auto()
    OTHER = enum.auto()
    PREFERRED = enum.auto()
    IGNORED = enum.auto()


class Statement(Struct, frozen=True):
    """Item of a list or sentence in a clean text."""

    start: int
    end: int
    text: str
    section: Section


_HEADINGS = [
    (
        Section.PREFERRED,
        r"(?:nice|good) to haves?|bonus|preferred|desirable|desired|optional|plus(?:es)?|ideally"
        r"|extra credit|would be a plus|von vorteil|wünschenswert|idealerweise|pluspunkte",
    ),
    (
        Section.IGNORED,
        r"benefits|perks|(?:what )?we(?:'re| are)? offer|our offer|(?:what is|what's) in it for"
        r"|why (?:join|us|you|work)|about (?!you\b|(?:the|this) (?:role|job|position))|who we are"
        r"|our (?:company|culture|values|story|team|mission)|equal opportunit|diversity"
        r"|how to apply|applica|compensation|salary|location|closing date|contact|education"
        r"|academic|interests|hobbies|references|privacy"
        r"|was wir (?:dir|ihnen)? ?biete|das bieten wir|wir bieten|unser angebot"
        r"|über uns|deine vorteile|ihre vorteile|kontakt|studium|spoken languages|sprachen",
    ),
    (
        Section.REQUIRED,
        r"(?:\w+ )?requirements?|(?:\w+ )?qualifications?|must[- ]haves?|essentials?\b"
        r"|what you(?:'ll| will)? (?:bring|need|have)|you(?:'ll| will)? (?:have|bring|need)"
        r"|your (?:profile|skills|experience|background)|about you|who you are"
        r"|what we(?:'re| are)? (?:look|expect|need|ask|seek)|we (?:expect|are looking|look)"
        r"|(?:the |our )?ideal candidate|person specification|minimum|you should"
        r"|(?:ihr|dein|unser) profil|das bring|was (?:du|sie) mitbring|(?:deine|ihre) qualifi"
        r"|anforderung|voraussetzung|wir erwarten|skills (?:and|&) (?:experience|qualifications)",
    ),
    (
        Section.SKILLS,
        r"(?:\w+ ){0,2}skills\b|(?:core |key )?competenc|(?:our )?technolog(?:y|ies)\b"
        r"|(?:our )?(?:tech(?:nical|nology)? )?stack|tools\b|(?:areas of )?expertise"
        r"|certificat|kenntnisse|fähigkeiten",
    ),
    (
        Section.TASKS,
        r"what you(?:'ll| will) (?:do|be)|what you do|(?:\w+ )?responsibilities|(?:\w+ )?duties"
        r"|(?:about )?(?:the|this|your) (?:role|position|day|job|tasks|mission)|tasks|job summary"
        r"|(?:\w+ )?experience|employment|career|projects|(?:deine|ihre) aufgaben|aufgaben"
        r"|berufserfahrung|projekte|the successful candidate will",
    ),
    (Section.OTHER, r"summary|profile|profil\b|languages?\b|objective|overview|volunteering"),
]
_HEADING = [(section, re.compile(rf"(?:{words})", re.IGNORECASE)) for section, words in _HEADINGS]

"""Beginnings of headings, and the sections that they begin. The first that matches counts."""

_BULLET = re.compile(r"[\s•·●‣*+\-–—\u2190-\u21ff\u25a0-\u27bf\u2b00-\u2bff]+")
_ENTRY = re.compile(r"[^\n]{2,40}?(?: [–—-] |: )")
"""Beginning of a line that is an entry of its own: "Timetable app - ..."."""
_LINE = re.compile(r"[^\n]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)\s+(?=[A-ZÀ-Þ])|;\s+")
_LABEL = re.compile(r"([^:.,]{3,40}):\s+(?=\S)")

"""Words before a colon, which may be a heading of their own."""

_PREFERRED_CUE = re.compile(
    r"\b(?:nice to have|good to have|(?:is|are|be) (?:an? )?(?:\w+ )?(?:plus|bonus|advantage|asset)"
    r"|an? (?:big |strong )?plus\b|ideally|preferabl[ey]|preferred|desirable|advantageous"
    r"|von vorteil|wünschenswert|idealerweise)\b",
    re.IGNORECASE,
)
_REQUIRED_CUE = re.compile(
    r"\b(?:must|required?|requires|essential|mandatory|needed|you(?:'ve| have| know| bring| need)"
    r"|you(?:'re| are) (?:fluent|proficient|comfortable|experienced|skilled)|you should"
    r"|experienced? (?:with|in|of)|proficien\w+|knowledge of|command of|fluent in|looking for"
    r"|we expect|kenntnisse|erfahrung (?:mit|in)|(?:du|sie) (?:hast|haben|kennst|kennen|bringst"
    r"|bringen))\b",
    re.IGNORECASE,
)
"""Words of a sentence that states a requirement, in a document without headings."""

_BOILERPLATE = re.compile(
    r"\b(?:equal[- ]opportunit|regardless of|discriminat|we welcome appl|right to work|criminal"
    r"|background check|we (?:value|celebrate) diversity|committed to (?:diversity|safeguarding"
    r"|creating|equal)|work permit|visa|gdpr|dsgvo|we offer\b|we pay\b|we support our|wir bieten"
    r"|benefits include|competitive salary|health insurance|stock options|please (?:apply|send)"
    r"|to apply|apply (?:now|by|via|at|on)|interviews take place|hiring manager|our recruit"
    r"|recruitment process|bewerb(?:en sie|ung)|references available"
    r"|we(?:'re| are) an? [^.]{0,60}\b(?:company|firm|start-?up|employer|agency|team)\b"
    r"|is an? [^.]{0,60}\b(?:company|firm|start-?up|employer|agency|school|hospital)\b)"
    r"|['’]s [^.]{0,30}\bteam (?:works?|uses?|builds?|is|sits?)\b",
    re.IGNORECASE,
)
"""Words of benefits, legal notes and descriptions of the employer, which stand anywhere."""


def split_statements(text: str, *, job: bool) -> list[Statement]:
    """Divide a clean text into statements, without those that concern neither the work nor the
    candidate. `job` is True for a job description and False for a resume."""
    found: list[Statement] = []
    section = Section.OTHER
    for start, end, heading in _paragraphs(text):
        if heading:
            section = heading
            continue
        for first, last in _sentences(text, start, end):
            statement = text[first:last].replace("\n", " ")
            own = section
            if label := _LABEL.match(statement):
                own = _match_heading(label[1]) or section
            if own is not Section.IGNORED and not (job and _BOILERPLATE.search(statement)):
                found.append(Statement(first, last, statement, _refine(own, statement, job)))
    return found


def _refine(section: Section, text: str, job: bool) -> Section:
    """Return the section that the statement's own words show, or else `section`."""
    if job and _PREFERRED_CUE.search(text):
        return Section.PREFERRED
    if job and section is Section.OTHER and _REQUIRED_CUE.search(text):
        return Section.REQUIRED
    return section


def _paragraphs(text: str) -> Iterator[tuple[int, int, Section | None]]:
    """Yield the start and end of each item or paragraph; for a heading also the section that it
    begins. Lines that continue the line before are joined."""
    lines = [(m.start(), m.end()) for m in _LINE.finditer(text) if m[0].strip()]
    position = 0
    while position < len(lines):
        start, end = lines[position]
        following = lines[position + 1] if position + 1 < len(lines) else (len(text), len(text))
        section = _heading_section(text, start, end, following[0])
        position += 1
        while section is None and position < len(lines) and _continues(text, end, lines[position]):
            end = lines[position][1]
            position += 1
        bullet = _BULLET.match(text, start, end)
        yield (bullet.end() if bullet else start), end, section


def _continues(text: str, end: int, line: tuple[int, int]) -> bool:
    """Return True if `line` continues the text that ends at `end`."""
    if text[end : line[0]].count("\n") > 1 or text[end - 1] in ".:!?;":
        return False
    before = text[text.rfind("\n", 0, end) + 1 : end].strip()
    first = text[line[0] : line[0] + MAX_HEADING].lstrip(" \t")
    full = len(before) > 70 and first[:1].isalnum() and not _ENTRY.match(first)
    return first[:1].islower() or full


def _heading_section(text: str, start: int, end: int, following: int) -> Section | None:
    """Return the section that a line begins as a heading, or None if the line is no heading."""
    line = text[start:end].strip(" \t#*_=")
    if not line or len(line) > MAX_HEADING or line[-1] in ".,;" or len(line.split()) > 7:
        return None
    if _BULLET.match(text[start:end]) and not text[start].isspace() and text[start] != "*":
        return None
    label = line.rstrip(":? -–—").rstrip()
    if (section := _match_heading(label)) and not {":", ","} & set(label):
        return section
    begins_list = text[end:following].count("\n") <= 2 and _is_bullet(text, following)
    alone = start < 2 or text.endswith("\n\n", 0, start)
    if line.endswith(":") or (begins_list and alone and not _is_bullet(text, start)):
        return Section.OTHER
    return None


def _is_bullet(text: str, position: int) -> bool:
    return bool(re.match(r"[ \t]*[•·●‣*+\-–—]", text[position : position + 20]))


def _match_heading(words: str) -> Section | None:
    words = words.replace("’", "'").strip(" \t#*_=•-–")
    return next((section for section, each in _HEADING if each.match(words)), None)


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each sentence, divided so that it is at most `MAX_LENGTH` long."""
    ends = [match.span() for match in _SENTENCE_END.finditer(text, start, end)]
    for last, following in [*ends, (end, end)]:
        while last - start > MAX_LENGTH:
            space = text.rfind(" ", start + MAX_LENGTH // 2, start + MAX_LENGTH)
            middle = space if space > 0 else start + MAX_LENGTH
            yield start, middle
            start = middle
        if text[start:last].strip():
            yield start, last
        start = following

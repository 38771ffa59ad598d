"""Extraction of what the candidate did from an answer, restated in the second person.

"So um I moved the writes to a queue because …" becomes "you moved the writes to a queue". A clause
starts at "I" or "we", where English puts the verb next, and ends at punctuation or a conjunction.
A clause that cannot be ended safely is not used.
"""

import enum
import re

from msgspec import Struct

from prepserver.interview.dialogue.prose import is_unfit

__all__ = ["Clause", "Tense", "find_clauses", "tells_story"]

MIN_WORDS, MAX_WORDS = 4, 12
"""Minimum and maximum number of words in a clause, with its subject."""


class Tense(enum.StrEnum):
    PAST = "past"
    """The clause tells what happened."""
    CONDITIONAL = "conditional"
    """The clause tells what the candidate would do."""
    PRESENT = "present"
    """The clause tells what the candidate does in general."""


MAX_BARE = 3
"""Maximum number of words of a clause that says nothing if its last word stands for another."""

_BARE_ENDS = frozenset("it that them these this those one ones out so there things".split())


class Clause(Struct, frozen=True, kw_only=True):
    """Action of the candidate."""

    text: str
    """Clause in the second person, without a capital or a full stop."""
    verb: str
    """Verb in lower case, in the form that the candidate used."""
    tense: Tense
    team: bool
    """True if the subject was "we"."""
    weak: bool
    """True if the clause was cut, is subordinate, or has only a pronoun as its object."""


_ADVERBS = frozenset(
    """
    actually again also always basically carefully currently deliberately even eventually finally
    first generally immediately initially just later manually mostly never normally often
    originally personally probably quickly quietly really regularly simply slowly sometimes soon
    still then therefore typically usually
    """.split()
)
_IRREGULAR = frozenset(
    """
    began bought broke brought built caught chose cut dealt did drew drove fought found gave got
    held hid kept laid led left let lost made met overcame put ran rebuilt redid rewrote sat saw
    sent set shut sold sought spent split spoke stood stuck taught threw told took went won wrote
    """.split()
)
_UNCHANGED = frozenset("cut let put set shut split".split())
"""Verbs whose past form is the base form."""

_STATES = frozenset(
    """
    became came fell felt grew had heard knew lay meant needed read rose said saw showed thought
    wanted was went were
    """.split()
)
"""Past forms that tell a story but are no action, or start a clause of their own."""

_PARTICIPLES = frozenset(
    """
    been begun blown broken chosen done drawn driven eaten fallen flown forgotten given gone gotten
    grown hidden known ridden risen seen shown spoken sung sunk taken thrown woken worn written
    """.split()
)
"""Forms after "had" that are no past forms themselves."""

_NOT_PAST = frozenset(
    """
    bleed breed embed exceed feed heed indeed need proceed seed shed speed succeed weed
    """.split()
)
_NO_ACTION = frozenset(
    """
    agree agreed am appear are apologise apologize appreciate assume be believe believed came can
    cannot can't come could couldn't did didn't do does doesn't don't ended enjoy enjoyed expect
    expected feel felt forget get go got graduated guess had hadn't happen happened has hate hated
    have haven't heard hope hoped i imagine is joined just know knew like liked live lived love
    loved may mean meant might mind must need needed never not prefer preferred read remember
    remembered said saw say see seem seemed shall should shouldn't started studied suppose
    supposed tell tend thank think thought tried try understand understood used very want wanted
    was wasn't we were will wish wished wished won't wonder worked worried would wouldn't
    """.split()
)
"""Words after "I" or "we" that name no action worth a question."""

_SECOND_PERSON = {
    "i": "you", "we": "you", "me": "you", "us": "you", "my": "your", "our": "your",
    "mine": "yours", "ours": "yours", "myself": "yourself", "ourselves": "yourselves",
    "i'm": "you're", "we're": "you're", "i've": "you've", "we've": "you've", "i'd": "you'd",
    "we'd": "you'd", "i'll": "you'll", "we'll": "you'll",
}  # fmt: skip

_CLAUSE_END = frozenset(
    """
    although as because but cos except having however if instead like once or otherwise
    plus since so than that then therefore though thus unless until when whenever where whereas
    whether which while who whom whose why
    """.split()
)
"""Words that end a clause."""

_DANGLING = frozenset(
    """
    a about after all also always an and another any around as at because before being between both
    but by each even every few for from had has have her his how if in into is its just like many
    more most much my no not of off on or other our over per really several some still such than
    that the their them then these this those three to too toward towards two very was what which
    with within without your
    """.split()
)
"""Words with which a clause cannot end."""

_NEEDS_CONTENT = frozenset(
    "asked convinced explained informed persuaded reminded showed told warned".split()
)
"""Verbs that say little without the clause that may follow their object."""

_CUT_BEFORE = frozenset(
    """
    across after against along around at before by during for from in inside into near on onto
    through under using via with within without
    """.split()
)
"""Prepositions before which a long clause may be cut."""

_SUBORDINATE = frozenset(
    """
    after although as because before how if once since than that though unless until what when
    where whether which while who why
    """.split()
)
"""Words after which a clause is an aside, not the point of its sentence."""

_FINITE = frozenset(
    """
    am are can could did do does had has have he i is it's may might she should they was we were
    will would
    """.split()
)
"""Words that show that a second clause has begun."""

_UNREADABLE = frozenset("it its this that these those them they he she him her".split())

_QUOTED = re.compile(r"[\"“”«»].*?[\"“”«»]")
_TO_INTERVIEWER = re.compile(r"\b(?:you|your|you're|yours|yourself)\b", re.IGNORECASE)
_SUBJECT = re.compile(r"\b(i|we)(?:'(d|ll))?\s", re.IGNORECASE)
_WORD = re.compile(r"[^\W_][\w'’%/.+#-]*[\w%+#]|\w|[^\w\s]")


def tells_story(text: str) -> bool:
    """Return True if the candidate tells what happened, not only what is generally done."""
    words = re.findall(r"\b(?:i|we) (?:\w+ly |then |also )?(\w+)", text.lower())
    return any(word in _STATES | _IRREGULAR or _is_regular_past(word) for word in words)


def find_clauses(text: str) -> list[Clause]:
    """Return the candidate's actions in `text`, which `clean_answer` has returned, in order."""
    clauses: list[Clause] = []
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", text):
        if is_unfit(sentence):
            continue
        sentence = _QUOTED.sub(" , ", sentence)
        for match in _SUBJECT.finditer(sentence):
            before = sentence[: match.start()].split()
            aside = bool(before) and before[-1].lower().strip("([") in _SUBORDINATE
            clause = _parse_clause(match, sentence[match.end() :], aside)
            if clause and all(clause.text != other.text for other in clauses):
                clauses.append(clause)
    return clauses


def _parse_clause(subject: re.Match[str], rest: str, aside: bool) -> Clause | None:
    words = _WORD.findall(rest[:300])
    tense, index, lead = Tense.PRESENT, 0, ["you"]
    if subject[2] == "ll":
        return None
    if subject[2] == "d":
        tense, lead = Tense.CONDITIONAL, ["you", "would"]
    elif words and words[0].lower() == "would":
        tense, index, lead = Tense.CONDITIONAL, 1, ["you", "would"]
    while index < len(words) and words[index].lower() in _ADVERBS:
        if words[index].lower() in ("always", "never", "usually", "normally", "often", "first"):
            lead.append(words[index].lower())
        index += 1
    if index >= len(words):
        return None
    verb = words[index].lower()
    past = verb in _IRREGULAR or _is_regular_past(verb)
    if tense is Tense.CONDITIONAL:
        if _is_regular_past(verb) or verb in (_IRREGULAR | _PARTICIPLES) - _UNCHANGED:
            return None  # "I'd moved" is "I had moved"
    elif past:
        tense = Tense.PAST
    elif verb.endswith("ing"):
        return None
    if verb in _NO_ACTION | _DANGLING | _CUT_BEFORE | _CLAUSE_END or not verb.isalpha():
        return None
    body = _end_clause(words[index:], MAX_WORDS - len(lead))
    end = _find_end(words[index:])
    weak = body is not None and (
        end > len(body)
        or body[1].lower() in _UNREADABLE
        or (body[1].lower() in _CUT_BEFORE and body[2].lower() in _UNREADABLE)
        or (len(body) <= MAX_BARE and body[-1].lower() in _BARE_ENDS)
        or body[1].lower() == "sure"
        or "never" in lead
        or (verb in _NEEDS_CONTENT and words[index + end : index + end + 1] != ["."])
    )
    if body is None or len(lead) + len(body) < MIN_WORDS:
        return None
    restated = [_SECOND_PERSON.get(word.lower(), word) for word in body]
    text = " ".join([*lead, verb, *restated[1:]])
    team = subject[1].lower() == "we"
    return Clause(text=text, verb=verb, tense=tense, team=team, weak=weak or aside)


def _end_clause(words: list[str], limit: int) -> list[str] | None:
    """Return the words of the clause that starts with the verb `words[0]`, or None if there is no
    safe end."""
    body = words[: _find_end(words)]
    if _FINITE.intersection(word.lower() for word in body):
        return None
    if any(_TO_INTERVIEWER.fullmatch(word) for word in body):
        return None
    if len(body) > limit:
        cuts = [n for n in range(5, limit + 1) if body[n].lower() in _CUT_BEFORE]
        if not cuts:
            return None
        body = body[: cuts[-1]]
    while body and body[-1].lower() in _DANGLING:
        body = body[:-1]
    content = [
        word
        for word in body[1:]
        if len(word) > 2 and word.lower() not in _DANGLING | _UNREADABLE | _CUT_BEFORE
    ]
    if not content or body[-1].lower() in _UNREADABLE - {"it", "them", "him"}:
        return None
    if "between" in body and "and" not in body:
        return None
    return body


def _find_end(words: list[str]) -> int:
    """Return the number of words up to punctuation, a conjunction or the start of another clause.

    "And" joins two nouns unless a verb follows before the next end.
    """
    for n, word in enumerate(words):
        lower = word.lower()
        if n and (not re.match(r"\w", word) or lower in _CLAUSE_END):
            return n
        if n and lower in ("and", "or"):
            rest = words[n + 1 :]
            joined = rest[: _find_end(["", *rest]) - 1]
            if not joined or any(_starts_clause(each) for each in joined):
                return n
    return len(words)


def _starts_clause(word: str) -> bool:
    lower = word.lower()
    return lower in _FINITE | _IRREGULAR | _STATES | _ADVERBS or _is_regular_past(lower)


def _is_regular_past(word: str) -> bool:
    return word.endswith("ed") and word not in _NOT_PAST

"""Extraction of noun phrases from an answer, as possible subjects of a follow-up question.

The rules cover only English and are deliberately shallow. A phrase starts after a determiner or a
preposition and ends before the next function word or verb, so that the phrase quotes the answer.
"""

import re
from collections.abc import Sequence

__all__ = ["key_phrases"]

MAX_WORDS = 3
"""Maximum number of words in a phrase, not counting the determiner."""

_OPENERS = frozenset(
    """
    a an the my our their his her its of with to from by in on for into through about between
    across without using
    """.split()
)
_POSSESSIVES = {"my": "your", "our": "your"}
_ARTICLES = frozenset("a an the".split())

_FUNCTION_WORDS = frozenset(
    """
    a an the my our their his her its your this that these those each every some any all both no
    not and or but nor so because since although though while when where which who whom whose
    what how why if then than as at by for from in into of off on onto out over per through to
    toward under until up upon via with within without about above across after against along
    among around before behind below beneath beside between beyond down during except inside
    like near outside past i we you he she it they me us him them myself ourselves yourself
    himself herself itself themselves is am are was were be been being do does did done doing
    have has had having will would shall should can could may might must there here very really
    quite just also too only even still again always never often sometimes maybe instead later
    soon now today tomorrow yesterday overnight monday tuesday wednesday thursday friday
    saturday sunday ago well yes thank thanks one two three four five six seven eight nine ten
    first second third last next many much more most few less least several lot lots other
    another same own such let lets got get gets went go goes come comes came make makes made
    take takes took thing things something anything everything nothing someone everyone way ways
    kind sort end ever else able sure okay ok um uh actually basically hard part
    """.split()
)

_SUPERLATIVES = frozenset("best biggest clearest easiest hardest largest most worst".split())

_VERBS = frozenset(
    """
    use used using need needed want wanted say said think thought know knew see saw find found
    give gave tell told ask asked work worked call called try tried feel felt leave left put
    keep kept begin began show showed hear heard run ran move moved live lived hold held bring
    brought write wrote build built lead led ship shipped start started reduce reduced increase
    increased choose chose agree agreed rebuild rebuilt replace replaced replaying reading
    reaching writing making getting going having
    """.split()
)


def key_phrases(text: str, known: Sequence[str] = (), *, limit: int = 6) -> list[str]:
    """Return up to `limit` phrases from `text`, the most specific first.

    `known` holds names, such as names of skills, that are phrases wherever they occur. Possessives
    are rewritten from the interviewer's point of view ("my team" becomes "your team"), and articles
    become "the" ("a monolith" becomes "the monolith").
    """
    scores: dict[str, float] = {}
    for name in known:
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE):
            scores.setdefault(name, 2.0)
    for sentence in re.split(r"[.,;:!?\n()]+", text.replace("’", "'")):
        words = re.findall(r"[^\W_][\w'-]*", sentence)
        for position, word in enumerate(words):
            if word.lower() in _OPENERS:
                phrase = _phrase_after(words, position)
                if phrase:
                    scores[phrase] = max(scores.get(phrase, 0.0), float(len(phrase.split())))
    ranked = sorted(scores, key=lambda phrase: -scores[phrase])
    kept: list[str] = []
    for phrase in ranked:
        if len(kept) == limit:
            break
        if not any(_without_determiner(phrase) in _without_determiner(other) for other in kept):
            kept.append(phrase)
    return kept


def _phrase_after(words: Sequence[str], opener: int) -> str:
    """Return the phrase after the determiner or preposition at `opener`; empty if none follows."""
    taken: list[str] = []
    for word in words[opener + 1 : opener + 1 + MAX_WORDS]:
        lower = word.lower()
        is_verb = lower in _VERBS or (taken and lower.endswith("ed"))
        if is_verb or lower in _FUNCTION_WORDS or lower in _SUPERLATIVES:
            break
        taken.append(word)
    while taken and (taken[-1].lower().endswith("ly") or len(taken[-1]) < 3):
        taken.pop()
    if (
        not taken
        or len(" ".join(taken)) < 4
        or (taken[0].lower().endswith("ing") and len(taken) < 2)
    ):
        return ""
    start = words[opener].lower()
    if start in _POSSESSIVES:
        return f"{_POSSESSIVES[start]} {' '.join(taken)}"
    if start in _ARTICLES:
        return f"the {' '.join(taken)}"
    return " ".join(taken)


def _without_determiner(phrase: str) -> str:
    return re.sub(r"^(the|your) ", "", phrase.lower())

"""Cues: words by which an answer gives a kind of information, such as a reason or a result.

Points of a good answer are often named by their kind: "how you checked it", "what you gave up".
No word of such a point has to occur in an answer that has it.
"""

import enum
import re
from collections.abc import Mapping

__all__ = ["CUES", "Cue", "find_cues", "wanted_cues"]


class Cue(enum.StrEnum):
    """Kind of information."""

    OWN_SHARE = "own share"
    REASON = "reason"
    RESULT = "result"
    CHECK = "check"
    LEARNING = "learning"
    PEOPLE = "people"
    ALTERNATIVE = "alternative"
    RISK = "risk"
    TIME = "time"
    NUMBER = "number"
    NAME = "name"


_NUMBER_WORDS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty"
    "|hundred|thousand|million|half|third|quarter|twice|dozen|zwei|drei|vier|fünf|dos|tres|deux|trois"
)
_UNITS = (
    r"seconds?|minutes?|hours?|days?|weeks?|months?|years?|quarters?|mondays?|tuesdays?|wednesdays?"
    r"|thursdays?|fridays?|o'clock|spring|summer|autumn|winter|night|morning|evening|ms|yesterday"
)

CUES: Mapping[Cue, re.Pattern[str]] = {
    Cue.OWN_SHARE: re.compile(
        r"\b(?:I|ich|yo|je|eu|io)(?:'d|'ve)?,? (?!think|guess|believe|am\b|like|want|don't|do not"
        r"|always|know|prefer|feel|mean|would say|suppose|have to|need|hope|love|follow|can|could)"
        r"(?:\w+ )?\w{3,}"
    ),
    Cue.REASON: re.compile(
        r"\b(?:because|since|so that|in order to|due to|the reason|which is why|that's why"
        r"|otherwise|weil|damit|porque|parce que|perché)\b",
        re.IGNORECASE,
    ),
    Cue.RESULT: re.compile(
        r"\b(?:reduced?|cut|increased?|improved?|saved|dropped|fell|grew|rose|doubled|halved|led to"
        r"|ended up|in the end|finally|as a result|since then|afterwards|after that|brought|became"
        r"|went (?:up|down|from)|turned out|worked|failed|instead of|succeeded|accepted|today)\b",
        re.IGNORECASE,
    ),
    Cue.CHECK: re.compile(
        r"\b(?:measur\w*|test(?:ed|s|ing)?|check(?:ed|s|ing)?|verif\w*|compar\w*|monitor\w*|metrics?"
        r"|benchmark\w*|dashboard\w*|count(?:ed|s)?|reviewed|figures?|proved|confirmed"
        r"|noticed|looked at|tried)\b",
        re.IGNORECASE,
    ),
    Cue.LEARNING: re.compile(
        r"\b(?:learn(?:ed|t|ing)?|next time|since then|lesson|differently|from then on|mistake"
        r"|nowadays|now i|today i|i would now|realis?ed|realized|taught me|ever since)\b",
        re.IGNORECASE,
    ),
    Cue.PEOPLE: re.compile(
        r"\b(?:told|tell|asked?|talk(?:ed)? (?:to|with)|spoke|call(?:ed)?|show(?:ed)?"
        r"|explain(?:ed)?|met|sat (?:down )?with|colleagues?|managers?|customers?|team|boss|lead"
        r"|doctors?|users?"
        r"|patients?|parents?|clients?|developers?|someone|somebody|buddy|mentor|he|she|together)\b",
        re.IGNORECASE,
    ),
    Cue.ALTERNATIVE: re.compile(
        r"\b(?:instead|rather than|considered|could have|alternatives?|trade-?offs?|either|or else"
        r"|at the cost|versus|other option|not worth|gave up|dropped|without|simpler|cheaper)\b",
        re.IGNORECASE,
    ),
    Cue.RISK: re.compile(
        r"\b(?:risks?|fail(?:s|ed|ure)?|goes wrong|went wrong|worst|dangers?|dangerous"
        r"|roll(?:ed)? back|fallback|limits?|break(?:s|ing)?|broke|crash\w*|lost|loses?|down"
        r"|outage|never"
        r"|stop(?:ped)?|kills?|must not)\b",
        re.IGNORECASE,
    ),
    Cue.TIME: re.compile(
        rf"\b(?:\d+|{_NUMBER_WORDS}|an?|every|each|last|first|second|next|by|at|within) "
        rf"(?:\w+ )?(?:{_UNITS})\b|\b(?:19|20)\d\d\b|\bdaily|weekly|monthly\b",
        re.IGNORECASE,
    ),
    Cue.NUMBER: re.compile(rf"\d|\b(?:{_NUMBER_WORDS}|percent)\b", re.IGNORECASE),
    Cue.NAME: re.compile(r"(?<=[a-z,;] )(?!I\b)[A-Z]\w+|\b[A-Z][a-z]*[A-Z]\w*|\b[A-Z]{3,}\b"),
}
"""Expressions that find a cue in one sentence of an answer."""

_WANTED: Mapping[Cue, re.Pattern[str]] = {
    Cue.OWN_SHARE: re.compile(
        r"\b(?:your (?:own )?(?:part|share|role)|what you (?:did|do|tried|decid))"
    ),
    Cue.REASON: re.compile(r"\b(?:why|reasons?|because|grounds)\b"),
    Cue.RESULT: re.compile(
        r"\b(?:results?|outcomes?|effects?|what happened|what changed"
        r"|what (?:it|you|this) (?:changed|brought|became)|how it (?:ended|went|turned)|afterwards"
        r"|progress|in the end|success)\b"
    ),
    Cue.CHECK: re.compile(
        r"\b(?:check\w*|test\w*|measur\w*|proof|proved|evidence|compar\w*|verif\w*|trial|tried out"
        r"|how you (?:knew|know|noticed))\b"
    ),
    Cue.LEARNING: re.compile(
        r"\b(?:learn\w*|took from|take from|next time|differently|change first|different today"
        r"|how you \w+ (?:\w+ )?now)\b"
    ),
    Cue.PEOPLE: re.compile(
        r"\b(?:who|whom|people|colleagues?|talk(?:s|ed|ing)?|told|person|asked|help(?:ed)? you)\b"
    ),
    Cue.ALTERNATIVE: re.compile(
        r"\b(?:alternatives?|options?|other ways?|instead|gave up|give up|trade|another way|simpler"
        r"|cheaper|without)\b"
    ),
    Cue.RISK: re.compile(r"\b(?:risks?|fail\w*|wrong|dangers?|worst|breaks?|lost|losing|never)\b"),
    Cue.TIME: re.compile(r"\b(?:when|how long|how often|times?|deadlines?|days?|weeks?|dates?)\b"),
    Cue.NUMBER: re.compile(r"\b(?:how (?:many|much|often|long)|numbers?|figures?|amounts?)\b"),
}
"""Expressions that find in a point the cues that an answer with this point gives."""


def find_cues(sentence: str) -> frozenset[Cue]:
    """Return the cues that a sentence of an answer gives."""
    return frozenset(cue for cue, expression in CUES.items() if expression.search(sentence))


def wanted_cues(point: str) -> frozenset[Cue]:
    """Return the cues by which an answer covers `point`; empty if only its own words can."""
    return frozenset(cue for cue, expression in _WANTED.items() if expression.search(point))

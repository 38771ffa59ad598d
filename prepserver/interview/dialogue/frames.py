"""Frames of follow-up questions: sentences that restate an action and ask for what is missing.

In a frame, `{c}` is the clause ("you moved the writes to a queue"), and `{C}` has a capital.
"""

import enum
import re

from prepserver.interview.dialogue.clauses import Clause, Tense

__all__ = ["FRAMES", "Gap", "can_restate", "find_gaps", "lacks", "rank_clause"]


class Gap(enum.StrEnum):
    """Part of a good answer that the candidate left out."""

    OWN_SHARE = "own share"
    WORDS = "words"
    REACTION = "reaction"
    FINDING = "finding"
    PREVENTION = "prevention"
    RESULT = "result"
    CHECK = "check"
    ALTERNATIVE = "alternative"
    REASON = "reason"
    LEARNING = "learning"
    RISK = "risk"
    PROOF = "proof"
    LIMIT = "limit"
    EXAMPLE = "example"
    NUMBERS = "numbers"


FRAMES: dict[Gap, tuple[str, ...]] = {
    Gap.OWN_SHARE: (
        "When you say that {c}, which part did you do yourself?",
        "{C} as a team. What was your own part in that?",
    ),
    Gap.WORDS: (
        "{C}. What did you say, as closely as you remember it?",
        "How did you begin the conversation when {c}?",
    ),
    Gap.REACTION: (
        "How did people react when {c}?",
        "{C}. How was that received?",
    ),
    Gap.FINDING: (
        "{C}. What did that show you?",
        "{C}. What would you have done if it had shown the opposite?",
    ),
    Gap.PREVENTION: (
        "{C}. How did that come to light?",
        "{C}. What keeps that from happening again?",
    ),
    Gap.RESULT: (
        "What changed after {c}?",
        "{C}. How did that turn out in the end?",
        "{C}. What came of it?",
    ),
    Gap.CHECK: (
        "After {c}, how did you check that it really worked?",
        "{C}. How did you know that it had helped?",
    ),
    Gap.ALTERNATIVE: (
        "Before {c}, what else had you considered?",
        "{C}. What was the alternative, and what spoke against it?",
    ),
    Gap.REASON: (
        "{C}. What made you go about it that way?",
        "{C}. What was your thinking behind that?",
    ),
    Gap.LEARNING: (
        "Looking back at how {c}, what would you do differently today?",
        "If you were in the same situation again, what would you do differently?",
    ),
    Gap.RISK: ("{C}. What could go wrong with that?",),
    Gap.PROOF: (
        "{C}. How would you know that it works?",
        "{C}. What would tell you early that it is not working?",
    ),
    Gap.LIMIT: (
        "{C}. What would you do if that were not enough?",
        "{C}. What would make you choose a different way?",
    ),
}

_TALK = frozenset(
    """
    announced apologised apologized called confronted contacted discussed emailed escalated
    explained informed met proposed presented raised reported sat showed spoke suggested talked told
    warned
    """.split()
)
_MEASURE = frozenset(
    """
    analysed analyzed asked audited benchmarked checked compared counted interviewed investigated
    logged looked measured monitored observed profiled read reproduced researched reviewed surveyed
    tested traced tracked tested
    """.split()
)
_SLIP = frozenset("broke deleted failed forgot lost missed overlooked underestimated".split())
_CHANGE = frozenset(
    """
    added adjusted automated began bought brought built changed chose coded combined configured
    converted created cut decided designed developed divided drew drafted extracted fixed grouped
    hired implemented improved increased installed integrated introduced launched made merged
    migrated moved negotiated optimised optimized ordered organised organized patched picked planned
    postponed prepared programmed put rebuilt rearranged redesigned redid reduced refactored
    released removed reorganised reorganized replaced restructured rewrote rolled scheduled selected
    sent separated set shipped shortened simplified split standardised standardized stopped switched
    trained turned unified updated upgraded wrote
    """.split()
)
_DECIDE = frozenset(
    """
    chose cut decided migrated moved negotiated picked postponed redesigned refactored removed
    replaced rewrote selected split switched
    """.split()
)
_LEAD = frozenset(
    "coached coordinated guided helped led managed mentored supervised supported taught".split()
)

_SAID = {
    Gap.REASON: r"because|since|so that|in order to|the reason|due to|that.s why|to avoid|"
    r"to make sure",
    Gap.RESULT: r"in the end|as a result|the result|ended up|turned out|since then|after that|"
    r"afterwards|finally|dropped|went (?:down|up)|decreased|increased|reduced|improved|faster|"
    r"saved|it worked|worked (?:well|out|fine)|happy|satisfied|thanked|success\w*|until today|"
    r"\d ?%|percent|per cent|now (?:we|it|they|the)|was able|were able|went (?:well|live|smoothly)|"
    r"passed|won|delivered|finished|recovered|approved|accepted|agreed",
    Gap.CHECK: r"measur\w+|tested|metrics?|dashboard|compared|verif\w+|checked|monitor\w*|"
    r"benchmark\w*|a/b|load test\w*|asked (?:them|him|her)|survey\w*|\d ?%|percent|logs",
    Gap.ALTERNATIVE: r"instead|alternativ\w+|options?|considered|rather than|versus|trade-?off\w*|"
    r"could have|other way|decided against",
    Gap.LEARNING: r"learn\w*|lesson|next time|since then|in hindsight|looking back|differently|"
    r"reali[sz]ed|today i|now i",
    Gap.REACTION: r"react\w*|agreed|accepted|was (?:happy|relieved|angry|surprised|grateful)|"
    r"were (?:happy|relieved|angry|surprised|grateful)|thanked|said|listened|understood|convinced|"
    r"apologi[sz]ed|refused",
    Gap.WORDS: r"\"|said|told (?:him|her|them) that|explained that|i explained (?:why|how|what)",
    Gap.FINDING: r"found|showed|turned out|discovered|noticed|saw|result\w*|reali[sz]ed|it was",
    Gap.PREVENTION: r"since then|never again|now (?:we|i)|checklist|next time|alert|prevent\w*|"
    r"learn\w*",
    Gap.RISK: r"risks?|could fail|go(?:es)? wrong|downside|drawback|trade-?off",
    Gap.PROOF: r"measur\w+|metrics?|monitor\w*|tests?|verify|alert\w*",
    Gap.OWN_SHARE: r"i \w+ed|my part|"
    r"i (?:made|wrote|built|took|found|went|told|did|chose|began|led)",
    Gap.EXAMPLE: r"for example|for instance|once|last \w+|we had|i used|"
    r"my (?:last|previous|current)",
    Gap.NUMBERS: r"\d[\d.,]*|thousands?|millions?|hundreds?|billions?",
    Gap.LIMIT: r"otherwise|if that|if it (?:does|is)|unless",
}  # fmt: skip
"""Patterns that show that the answer has this part already."""

_SAID_PATTERNS = {
    gap: re.compile(rf"\b(?:{pattern})\b" if gap is not Gap.WORDS else pattern, re.IGNORECASE)
    for gap, pattern in _SAID.items()
}

_CHANGED = (Gap.RESULT, Gap.CHECK, Gap.LEARNING)
_DECIDED = (Gap.RESULT, Gap.CHECK, Gap.ALTERNATIVE, Gap.REASON, Gap.LEARNING)
_PROPOSED = (Gap.RISK, Gap.PROOF, Gap.LIMIT)


def rank_clause(clause: Clause) -> int:
    """Return how much there is to ask about the action; 0 if there is nothing."""
    if clause.weak or clause.tense is Tense.PRESENT:
        return 0
    if clause.tense is Tense.CONDITIONAL:
        return 1
    if clause.verb in _CHANGE:
        return 3
    return 2 if clause.verb in _TALK | _MEASURE | _SLIP | _LEAD else 0


def can_restate(clause: Clause) -> bool:
    """Return True if an interviewer could repeat the action without asking about it."""
    return clause.tense is not Tense.PRESENT and not clause.weak and clause.verb not in _SLIP


def lacks(gap: Gap, text: str) -> bool:
    """Return True if the text does not have this part of an answer."""
    pattern = _SAID_PATTERNS.get(gap)
    return pattern is None or not pattern.search(text)


def find_gaps(clause: Clause, text: str) -> list[Gap]:
    """Return the parts that can be asked about the clause and that `text`, the whole answer, does
    not have yet; the most interesting first."""
    return [gap for gap in _askable(clause) if gap is Gap.OWN_SHARE or lacks(gap, text)]


def _askable(clause: Clause) -> tuple[Gap, ...]:
    if clause.tense is Tense.CONDITIONAL:
        return _PROPOSED
    share = (Gap.OWN_SHARE,) if clause.team and clause.verb in _CHANGE | _DECIDE else ()
    if clause.verb in _TALK:
        return (*share, Gap.REACTION, Gap.WORDS, Gap.RESULT, Gap.LEARNING)
    if clause.verb in _MEASURE:
        return (*share, Gap.FINDING, Gap.RESULT, Gap.REASON)
    if clause.verb in _SLIP:
        return (Gap.PREVENTION,)
    if clause.verb in _LEAD:
        return (*share, Gap.RESULT, Gap.LEARNING)
    if clause.verb in _DECIDE:
        return (*share, *_DECIDED)
    if clause.verb in _CHANGE:
        return (*share, *_CHANGED)
    return ()

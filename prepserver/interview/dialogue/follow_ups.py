"""Follow-up questions that take up what the candidate just said, without a model.

Every question is a whole sentence of a person: one that the bank has for such an answer, one that
an interviewer asks when such a thing is mentioned (triggers.toml), or one that restates what the
candidate did and asks for the part that is missing (`frames`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from prepserver.interview.dialogue.clauses import Clause, Tense, find_clauses, tells_story
from prepserver.interview.dialogue.frames import FRAMES, Gap, can_restate, find_gaps, rank_clause
from prepserver.interview.dialogue.prose import clean_answer, is_hostile, shows_code
from prepserver.interview.dialogue.triggers import find_triggered
from prepserver.interview.questions.bank import Question
from prepserver.interview.questions.plan import is_acceptable_question

__all__ = ["Want", "follow_up_candidates"]

Want = Literal["easier", "concrete", "deeper", "probe"]
"""Kind of follow-up: a smaller question, one for detail, a harder one, one for what is missing."""

MAX_CANDIDATES = 8
"""Maximum number of candidates."""

MAX_WORDS = 39
"""Maximum number of words in a question."""

THIN_ANSWER = 12
"""Number of words below which every answer is vague."""

STORY, LONG_ANSWER = 25, 32
"""Numbers of words from which an answer with a story, and every answer, gets a harder question."""

EASIER_OPENINGS = (
    "That's all right.", "No problem, let's try another way in.", "Fine, let's start smaller.",
)  # fmt: skip
SIMPLER_OPENINGS = ("", "Let me ask it another way.", "Let me come at it from another side.")
CONCRETE_OPENINGS = (
    "", "Let's make that concrete.", "I'd like to picture it.", "Let me ask for some detail.",
)  # fmt: skip
DEEPER_OPENINGS = (
    "Let me take that a step further.", "", "Let me make it harder.", "One more on that.",
)  # fmt: skip
_STAY = "Let's stay with the question."

ENGLISH_PLEASE = "Could you say that again in English, so that I can follow up on it?"
CODE_QUESTIONS = (
    "Can you walk me through that code in your own words?",
    "Which input would break that code first?",
)

_DONT_KNOW = re.compile(
    r"\b(?:(?:do not|don'?t|didn'?t) (?:really |actually )?(?:know|remember|recall)|"
    r"no idea|not sure|no clue|no experience|haven'?t (?:done|used|had)|"
    r"can(?:no|')?t (?:think of|say|remember|answer)|i(?:'ve| have) never)\b",
    re.IGNORECASE,
)
_ENGLISH = frozenset(
    """
    a about all and are as at be because been but by can could did do for from had have he her his
    how i if in is it its just like me my no not of on or our out she so some that the their them
    then there they this to up use was we were what when which will with would yes you your
    """.split()
)
_FOREIGN = frozenset(
    """
    aber als auch auf aus bei das dass dem den der die ein eine einen er es für habe haben hat ich
    ist man mein mit nach nicht noch oder sich sie sind und uns von war waren weil wenn wie wir zu
    zum zur au aux avec c'est ce ces cette dans de des du elle est et être il j'ai je la le les
    leur mais nous nos ou où par pas pour que qui sur un une con como cuando del el ella en era
    esta este estos fue hay las los más me mi muy no nos para pero por porque se ser su también una
    uno y yo che di e ho il non per sono
    """.split()
)
_EXAMPLE = re.compile(
    r"\b(?:once|for example|for instance|last (?:week|month|year|time|\w+day)|ago|one time)\b",
    re.IGNORECASE,
)
_STOP = frozenset(
    """
    about after again also another been before could does every first from have into just last like
    made make more most much once only other over same should some such than that their them then
    there these they thing this those through today very were what when where which while whom whose
    will with would your you're
    """.split()
)


def follow_up_candidates(
    answer: str,
    question: Question | None,
    asked: Sequence[str],
    *,
    earlier: Sequence[str] = (),
    want: Want | None = None,
) -> list[str]:
    """Return follow-up questions about `answer`, the best first; none if nothing sensible is left.

    `question` is the main question of the topic and `asked` holds all questions of the interview,
    in order. `earlier` holds the candidate's earlier answers on the same topic: what they say is
    not asked for. `want` is derived from the answer if it is None.
    """
    text = clean_answer(answer)
    words = len(text.split())
    clauses = find_clauses(text)
    topic = _asked_on_topic(question, asked)
    if _is_foreign(text):
        candidates: Iterable[str] = [
            ENGLISH_PLEASE,
            *_bank(question, "vague", asked, CONCRETE_OPENINGS),
        ]
    elif want is None and is_hostile(answer) and not clauses:
        candidates = [f"{_STAY} {question.vague}"] if question else []
    elif want is None and words < THIN_ANSWER and shows_code(answer):
        candidates = [*CODE_QUESTIONS, *_bank(question, "vague", asked, CONCRETE_OPENINGS)]
    else:
        whole = "\n".join([clean_answer(each) for each in earlier] + [text])
        if want is None:
            want = _derive_want(text, words)
        candidates = _rank(want, whole, clauses, question, asked, topic)
    return _select(candidates, question, asked)


def _derive_want(text: str, words: int) -> Want:
    if words < 30 and _DONT_KNOW.search(text):
        return "easier"
    if words < THIN_ANSWER:
        return "concrete"
    concrete = tells_story(text) or _EXAMPLE.search(text)
    return "deeper" if words >= (STORY if concrete else LONG_ANSWER) else "probe"


def _rank(
    want: Want,
    whole: str,
    clauses: Sequence[Clause],
    question: Question | None,
    asked: Sequence[str],
    topic: Sequence[str],
) -> Iterator[str]:
    echo = _echo(clauses, asked)
    specific = list(_interleave(_framed(clauses, whole, asked), find_triggered(whole, clauses)))
    deeper = _bank(question, "harder", asked, DEEPER_OPENINGS, echo)
    vague = _bank(question, "vague", asked, CONCRETE_OPENINGS, echo)
    thin = len(whole.split()) < 2 * THIN_ANSWER
    if want == "easier":
        yield from _bank(question, "easier", asked, EASIER_OPENINGS)
    elif thin and topic:
        yield from vague
        yield from _bank(question, "easier", asked, SIMPLER_OPENINGS)
    else:
        yield from (text for text in specific if _uses_any(Gap.OWN_SHARE, text))
        if not topic and want in ("concrete", "probe"):
            yield from vague
        yield from deeper
        yield from specific
        if not tells_story(whole):
            yield from vague


def _echo(clauses: Sequence[Clause], asked: Sequence[str]) -> str:
    """Return a sentence that restates the longest action; empty if none is fit for it."""
    fit = [clause.text for clause in reversed(clauses) if can_restate(clause)]
    if not fit:
        return ""
    text = max(fit, key=lambda each: len(each.split()))
    start = ("So ", "", "All right, ")[len(asked) // 3 % 3]
    return f"{start}{text}." if start else f"{text[0].upper()}{text[1:]}."


def _bank(
    question: Question | None,
    form: Literal["easier", "vague", "harder"],
    asked: Sequence[str],
    openings: Sequence[str],
    echo: str = "",
) -> list[str]:
    """Return the bank's own question for such an answer, after `echo` or an unused opening."""
    if question is None:
        return []
    text: str = getattr(question, form)
    if echo and len(f"{echo} {text}".split()) <= MAX_WORDS:
        return [f"{echo} {text}"]
    start = len(asked) % len(openings)
    rotated = [*openings[start:], *openings[:start]]
    unused = [each for each in rotated if not each or not any(each in one for one in asked)]
    return [f"{unused[0] if unused else ''} {text}".strip()]


def _framed(clauses: Sequence[Clause], whole: str, asked: Sequence[str]) -> Iterator[str]:
    """Yield questions that restate an action and ask for a part that the answer does not have."""
    done = [clause for clause in clauses if clause.tense is Tense.PAST]
    ours = len(done) >= 2 and all(clause.team for clause in done)
    useful = [n for n, clause in enumerate(clauses) if rank_clause(clause)]
    order = sorted(useful, key=lambda n: (-rank_clause(clauses[n]), -n))
    gaps_used: set[Gap] = set()
    recent = asked[-2:]
    for gap, frames in FRAMES.items():
        if any(_uses(frame, one) for frame in frames for one in recent):
            gaps_used.add(gap)
    for n in order[:3]:
        clause = clauses[n]
        for gap in find_gaps(clause, whole):
            if gap in gaps_used or (gap is Gap.OWN_SHARE and not ours):
                continue
            unused = [f for f in FRAMES[gap] if not any(_uses(f, one) for one in asked)]
            if not unused:
                continue
            gaps_used.add(gap)
            frame = unused[len(asked) % len(unused)]
            yield frame.format(c=clause.text, C=clause.text[0].upper() + clause.text[1:])


def _select(
    candidates: Iterable[str], question: Question | None, asked: Sequence[str]
) -> list[str]:
    selected: list[str] = []
    main = [question.text] if question else []
    for text in candidates:
        if len(text.split()) > MAX_WORDS or not is_acceptable_question(text, [*asked, *selected]):
            continue
        if any(_repeats(text, other) for other in (*asked, *selected, *main)):
            continue
        selected.append(text)
        if len(selected) == MAX_CANDIDATES:
            break
    return selected


def _repeats(text: str, other: str) -> bool:
    """Return True if the two questions ask the same thing, judged by their last sentences."""
    one, two = _content(_last(text)), _content(_last(other))
    if _last(text) in other or _last(other) in text:
        return True
    shared = len(one & two)
    return shared >= 3 and shared >= 0.6 * min(len(one), len(two))


def _last(text: str) -> str:
    return re.split(r"(?<=[.!])\s+", text.strip())[-1]


def _content(text: str) -> frozenset[str]:
    return frozenset(w[:5] for w in re.findall(r"[a-z]{4,}", text.lower()) if w not in _STOP)


def _asked_on_topic(question: Question | None, asked: Sequence[str]) -> Sequence[str]:
    """Return the follow-up questions since the main question."""
    if question is not None:
        for n in range(len(asked) - 1, -1, -1):
            if question.text in asked[n]:
                return asked[n + 1 :]
    return ()


def _uses(frame: str, text: str) -> bool:
    """Return True if `text` was made from `frame`."""
    return all(part in text for part in re.split(r"\{[cC]\}", frame) if len(part) > 1)


def _interleave(one: Iterable[str], two: Iterable[str]) -> Iterator[str]:
    first, second = list(one), list(two)
    for n in range(max(len(first), len(second))):
        yield from first[n : n + 1]
        yield from second[n : n + 1]


def _is_foreign(text: str) -> bool:
    words = re.findall(r"[^\W\d_]+", text.lower())[:200]
    if len(words) < 6:
        return False
    english = sum(word in _ENGLISH for word in words)
    foreign = sum(word in _FOREIGN for word in words)
    return foreign > 0.2 * len(words) and foreign > 2 * english


def _uses_any(gap: Gap, text: str) -> bool:
    return any(_uses(frame, text) for frame in FRAMES[gap])

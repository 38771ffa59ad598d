"""Rules that tell a request of the candidate from an answer.

An answer that is taken for a request costs the candidate the answer. So a message is a request only
if every part of it is known: a sentence that no pattern describes makes the message an answer, or
leaves it undecided. Quoted text and code are parts of an answer.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from prepserver.interview.dialogue.noise import is_noise
from prepserver.interview.dialogue.patterns import fold, load_patterns
from prepserver.wire.protocol import Intent

__all__ = ["classify_intent"]

MAX_REQUEST = 600
"""Length in code points above which only the ends of a message are examined."""

MAX_SENTENCE_WORDS = 30
"""Number of words above which a sentence is not compared with patterns."""

CERTAIN_WORDS = 20
"""Number of words outside requests from which a message is certainly an answer."""

MAX_BESIDE_REQUEST = 12
"""Maximum number of words before a request that ends a message, for example its reason."""

_PRECEDENCE = (
    Intent.HOSTILE,
    Intent.SKIP,
    Intent.REPEAT,
    Intent.REPHRASE,
    Intent.QUESTION,
    Intent.DONT_KNOW,
    Intent.PAUSE,
    Intent.OFF_TOPIC,
    Intent.UNUSABLE,
)
"""Order in which the intents of several sentences take precedence: "I don't know, can you explain?"
asks to rephrase."""

_ORDER = (
    Intent.REPEAT,
    Intent.REPHRASE,
    Intent.PAUSE,
    Intent.HOSTILE,
    Intent.DONT_KNOW,
    Intent.SKIP,
    Intent.OFF_TOPIC,
    Intent.QUESTION,
    Intent.UNUSABLE,
)
"""Order in which one sentence is compared with the patterns of the intents."""

_COMMANDS = frozenset((Intent.HOSTILE, Intent.SKIP, Intent.REPEAT, Intent.REPHRASE))
"""Intents that leave a long message undecided if it starts or ends with them."""

_QUOTED = re.compile(
    r"```.{0,20000}?```|`[^`\n]{1,400}`|\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|„[^“”\n]{1,400}[“”]"
    r"|«[^»\n]{1,400}»|(?<!\w)'[^'\n]{3,400}'(?!\w)",
    re.DOTALL,
)
_CODE = re.compile(
    r"```|[{};]\s*$|^\s*(?:def|class|for|while|import|return|const|let|SELECT)\s", re.M
)
_SENTENCE = re.compile(r"[^.?!;:\n\r…]+\??")
_CLAUSE_END = re.compile(r",|\s[-–—]+\s|[()]")
_CONJUNCTION = re.compile(
    r"\b(?:and|but|so|because|und|aber|weil|y|pero|porque|et|mais|mas|e|ma|perche)\b"
    r"|\b(?=(?:can|could|would) (?:you|we|i) |give me |let (?:us|me) |i (?:am|do|did|have) "
    r"|please |say |repeat |what (?:did|was) )"
)
_MARKUP = re.compile(
    r"^\W*(?:<\|(?:im_start|system|begin_of_text|start_header_id)|\[/?INST\]|<<SYS>>|#+\s*system\b"
    r"|(?:system|assistant|developer)\s*:\s*(?:you|the candidate|ignore|from now|new|override|end)"
    r")",
    re.IGNORECASE,
)
_REPORTED = re.compile(
    r"\b(?:told|tells?|says?|said|asked?|asks|typed?|wrote|called|injections?|attackers?|chatbots?"
    r"|he|she|they|customers?|users?|patients?|like|quotation)\b"
)
_EXCUSE = re.compile(r"i (?:have (?:never|no|not)|never|am not|do not|did not|can not)\b")
"""Beginning of a sentence that gives the reason for skipping a question."""

_ADDRESSED = re.compile(
    r"\b(?:can|could|would|may|mind|please|question|frage|konnen|bitte|pregunta|puede|puedes|vous"
    r"|pergunta|pode|domanda|puo|puoi|what was|what did)\b"
)
_SKIPS = re.compile(r"\b(?:skip|pass)", re.IGNORECASE)
"""Words in a question with which "Skip it." can be its answer."""

_ASKS_MEANING = re.compile(
    r"(what (?:is|are) |define |was ist |que es |qu est ce que |c est quoi |o que e |cos e )?"
    r"(?:(?:a|an|the|ein|eine|un|une|una|um|uma) )?((?:\S+ ){1,3})"
)


class _Clause(Struct, frozen=True):
    """Part of a message, with the intent that its patterns give."""

    intent: Intent | None
    """Intent of a request, or None if no pattern describes the part."""
    words: str


def classify_intent(text: str, question: str = "") -> Intent | None:
    """Return what a candidate's message is, or None if the rules cannot decide.

    `question` is the open question. A message that asks for the meaning of one of its words asks to
    rephrase it. A message that the rules cannot decide is an answer unless a model says otherwise.
    The time is proportional to the length of `text`.
    """
    if is_noise(text):
        return Intent.UNUSABLE
    if _MARKUP.match(text):
        return Intent.HOSTILE
    if len(text) > MAX_REQUEST:
        start, end = _read(text[:MAX_REQUEST]), _read(text[-MAX_REQUEST:])
        commanded = {part.intent for part in (*start[:1], *end[-1:])} & _COMMANDS
        return None if commanded else Intent.ANSWER
    if _CODE.search(text):
        return Intent.ANSWER
    parts = _read(text)
    if not parts:
        return _read_courtesy(text)
    if len(parts) == 1 and parts[0].intent is not Intent.HOSTILE and question:
        if _asks_meaning(parts[0].words, text, question):
            return Intent.REPHRASE
        if parts[0].intent is Intent.SKIP and _SKIPS.search(question):
            return None
    return _combine(parts)


def _combine(parts: Sequence[_Clause]) -> Intent | None:
    """Return the intent of a message from the intents of its parts."""
    requests = [part.intent for part in parts if part.intent is not None]
    rest = " ".join(part.words for part in parts if part.intent is None)
    size = len(rest.split())
    if not size:
        return next((each for each in _PRECEDENCE if each in requests), None)
    if Intent.HOSTILE in requests and size <= MAX_BESIDE_REQUEST and not _REPORTED.search(rest):
        return Intent.HOSTILE
    last = parts[-1]
    if (
        last.intent in (Intent.REPEAT, Intent.REPHRASE, Intent.SKIP)
        and size <= MAX_BESIDE_REQUEST
        and _ADDRESSED.search(last.words)
        and not _REPORTED.search(rest)
    ):
        return last.intent
    if parts[0].intent is Intent.SKIP and len(parts) == 2 and _EXCUSE.match(rest):
        return Intent.SKIP
    return Intent.ANSWER if size >= CERTAIN_WORDS and not requests else None


def _read(text: str) -> list[_Clause]:
    """Return the parts of a message of at most `MAX_REQUEST` code points."""
    sentences = _SENTENCE.findall(_QUOTED.sub(" quotation ", text))
    return [part for each in sentences for part in _read_sentence(each)]


def _read_sentence(sentence: str) -> list[_Clause]:
    """Return the parts of a sentence: the whole, or else its clauses."""
    if sentence.count(" ") > MAX_SENTENCE_WORDS:
        return [_Clause(None, sentence)]
    patterns = load_patterns()
    asked = sentence.endswith("?")
    folded = fold(sentence)
    whole = _match(patterns.split_words(folded), asked)
    if whole and not ("," in folded and _REPORTED.search(folded)):
        return whole
    parts: list[_Clause] = []
    for clause in _CLAUSE_END.split(folded):
        words = patterns.split_words(clause)
        matched = _match(words, asked)
        if matched is None:
            split = (each.strip() for each in _CONJUNCTION.split(words))
            pieces = [_match(f"{each} ", asked) for each in split if each]
            unknown = [_Clause(None, patterns.drop_first(patterns.drop_polite(words)))]
            matched = (
                unknown if None in pieces else [part for each in pieces for part in each or ()]
            )
        parts += matched
    return parts


def _match(words: str, asked: bool) -> list[_Clause] | None:
    """Return the part that `words` are; none if they mean nothing; None if they are not known.

    `asked` is True if the words belong to a sentence with a question mark.
    """
    patterns = load_patterns()
    plain = patterns.drop_polite(words)
    bare = patterns.drop_first(plain)
    if not bare:
        return []
    for each in dict.fromkeys((plain, words, bare)):
        for intent in _ORDER:
            expression = patterns.of_intent[intent]
            if expression.fullmatch(each) or (asked and expression.fullmatch(f"{each}? ")):
                return [_Clause(intent, words)]
    return [] if patterns.of_intent["neutral"].fullmatch(bare) else None


def _asks_meaning(words: str, text: str, question: str) -> bool:
    """Return True if `words` ask what a term of the question means."""
    patterns = load_patterns()
    match = _ASKS_MEANING.fullmatch(patterns.drop_first(patterns.drop_polite(words)))
    if match is None or (match[1] is None and not text.rstrip().endswith("?")):
        return False
    return f" {match[2]}" in f" {patterns.split_words(fold(question))}"


def _read_courtesy(text: str) -> Intent | None:
    """Return the intent of a message of polite words alone: "Sorry?", but not "Yes, thanks."."""
    patterns = load_patterns()
    words = patterns.split_words(fold(text))
    return Intent.REPEAT if patterns.of_intent[Intent.REPEAT].fullmatch(words) else None

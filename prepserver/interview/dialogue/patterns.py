"""Patterns of requests: a notation of words that is compiled to regular expressions.

The patterns are data, one file for each language in the folder `requests`. A pattern describes a
whole sentence, without case, accents and punctuation:

- `word` is that word, `(a b|c)` one of several phrases, `[a b]` a phrase that may be missing;
- `_` is any one word, and `*` any `MAX_OPEN` words or fewer; `?` is the question mark at the end;
- `NAME` stands for the phrases of that name in the table `macros`.

A file also lists polite words, which are ignored wherever they stand, words that are ignored only
where they begin a sentence, and spellings that are replaced.
"""

import difflib
import functools
import importlib.resources
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping

from msgspec import Struct

__all__ = ["MAX_OPEN", "Patterns", "fold", "load_patterns"]

MAX_OPEN = 14
"""Maximum number of words that `*` matches."""

_TOKEN = re.compile(r"[()|\[\]*]|[^()|\[\]*\s]+")
_SYNTAX = {"(": "(?:", "[": "(?:", ")": ")", "]": ")?", "|": "|", "*": rf"(?:\S+ ){{0,{MAX_OPEN}}}"}

_CONTRACTIONS = (
    (re.compile(r"\bcan't\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"\blet's\b"), "let us"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\bi'm\b"), "i am"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"\b(i|we|you|it|that)'d\b"), r"\1 would"),
    (re.compile(r"'s\b"), " is"),
)

_STUTTER = re.compile(r"\b(\w+ )\1+")

_MISSPELLED = """
again answer another clarify could explain ignore instructions minute moment please pregunta
question repeat rephrase second sorry understand wiederholen would
""".split()
"""Words that are recognised although one or two of their letters are wrong."""

_SIMILARITY = 0.8
"""Minimum similarity of a misspelled word to the word that was meant (`difflib`'s ratio)."""


class Patterns(Struct, frozen=True):
    """Compiled patterns of all languages."""

    of_intent: Mapping[str, re.Pattern[str]]
    """Expression for each name in the tables `patterns`; it matches words that each end with a
    space."""
    polite: re.Pattern[str]
    first: re.Pattern[str]
    spelling: Mapping[str, str]
    words: frozenset[str]
    """Words that occur in a pattern."""

    def split_words(self, sentence: str) -> str:
        """Return the words of a folded sentence, spelled as the patterns spell them.

        Each word ends with a space. Polite words are kept.
        """
        for expression, replacement in _CONTRACTIONS:
            sentence = expression.sub(replacement, sentence)
        words = re.findall(r"[\w+#]+", sentence)
        return "".join(f"{self._correct(word)} " for word in words)

    def drop_polite(self, words: str) -> str:
        """Return `words` without fillers and courtesies."""
        return _STUTTER.sub(r"\1", self.polite.sub("", words))

    def drop_first(self, words: str) -> str:
        """Return `words` without those that only open a sentence."""
        return self.first.sub("", words)

    def _correct(self, word: str) -> str:
        if word in self.spelling:
            return self.spelling[word]
        if len(word) < 5 or len(word) > 15 or word in self.words:
            return word
        for meant in difflib.get_close_matches(word, _MISSPELLED, n=1, cutoff=_SIMILARITY):
            if word[0] == meant[0] and not word.startswith(meant):
                return meant
        return word


def fold(text: str) -> str:
    """Return `text` in lower case, without accents, and with plain apostrophes."""
    decomposed = unicodedata.normalize("NFKD", text.replace("’", "'").replace("´", "'").casefold())
    return "".join(each for each in decomposed if not unicodedata.combining(each))


@functools.cache
def load_patterns() -> Patterns:
    """Load and compile the patterns of all languages.

    Raises ValueError if a pattern is not well-formed.
    """
    phrases: dict[str, list[str]] = {}
    polite: list[str] = []
    first: list[str] = []
    spelling: dict[str, str] = {}
    folder = importlib.resources.files("prepserver.interview.dialogue") / "requests"
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        language = tomllib.loads(file.read_text("utf-8"))
        polite += language["polite"]
        first += language["first"]
        spelling |= language.get("spelling", {})
        for name, patterns in language["patterns"].items():
            compiled = (compile_pattern(each, language["macros"]) for each in patterns)
            phrases.setdefault(name, []).extend(compiled)
    words = frozenset(
        word for each in phrases.values() for one in each for word in re.findall(r"\w+", one)
    )
    return Patterns(
        of_intent={name: re.compile("|".join(each)) for name, each in phrases.items()},
        polite=re.compile(rf"(?<!\S)(?:{_alternatives(polite)})"),
        first=re.compile(rf"\A(?:{_alternatives(first)})+"),
        spelling=spelling,
        words=words,
    )


def compile_pattern(pattern: str, macros: Mapping[str, str]) -> str:
    """Return the regular expression for `pattern`, for words that each end with a space.

    Raises ValueError if a bracket has no partner, or if every word is optional.
    """
    expression = _expand(pattern, macros)
    try:
        matches_nothing = re.fullmatch(expression, "")
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} is not well-formed: {error}") from error
    if matches_nothing:
        raise ValueError(f"the pattern {pattern!r} needs a word that is not optional")
    return f"(?:{expression})"


def _expand(pattern: str, macros: Mapping[str, str]) -> str:
    parts = []
    for token in _TOKEN.findall(pattern):
        if token in _SYNTAX:
            parts.append(_SYNTAX[token])
        elif token in macros:
            parts.append(f"(?:{_expand(macros[token], macros)})")
        elif token == "_":
            parts.append(r"\S+ ")
        else:
            parts.append(re.escape(token) + " ")
    return "".join(parts)


def _alternatives(phrases: Iterable[str]) -> str:
    longest_first = sorted(set(phrases), key=len, reverse=True)
    return "|".join(re.escape(phrase) + " " for phrase in longest_first)

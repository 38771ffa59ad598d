"""Names in a candidate's documents, in the documents' own spelling.

Whisper writes an unknown name as words that sound like it unless its prompt holds the name. A name
is a word with the shape of one ("PostgreSQL", "gRPC", "HACCP", "S3"), or capitalised words within a
sentence ("Martha Jensen").
"""

import re
from collections import Counter
from collections.abc import Iterable

from prepserver.interview.documents import normalise_text

__all__ = ["find_names", "spell_as_in"]

MAX_WORD, MAX_WORDS = 30, 3
"""Maximum number of characters in a word of a name, and of words in a name."""

_SHAPE = re.compile(r"\w*[a-z]\w*[A-Z]|[A-Z&/]{2,5}s?$|\w*[A-Z]\w*\d|\d+[A-Z]|\w+[.&]\w|\w+[+#]+$")
"""Beginning of a word with the shape of a name."""
_EDGES = "\"'“”‘’„()[]{}<>,;:!?.…*•·"
_SENTENCE_ENDS = (".", "!", "?", ":", "•", "·", "-", "–", "—", "*", "|")
_ORDINARY = frozenset(
    """
    i a msc bsc ba ma mba phd cv pdf ceo cto cfo coo hr vp uk us usa eu am pm ok e.g i.e etc gmbh
    january february march april may june july august september october november december monday
    tuesday wednesday thursday friday saturday sunday english german french spanish university
    bachelor master degree company team senior junior lead engineer developer manager
    """.split()
)
"""Words with the shape of a name whose spelling everybody knows."""


def find_names(texts: Iterable[str], *, nouns_capitalised: bool = False) -> list[str]:
    """Return the names in the texts: first the words with the shape of a name, then capitalised
    words, each group by frequency.

    `nouns_capitalised` is True for a language such as German, in which a capital letter does not
    show a name. The search takes time linear in the length of the texts.
    """
    shaped: Counter[str] = Counter()
    capitalised: Counter[str] = Counter()
    for text in texts:
        for line in normalise_text(text).splitlines():
            _count_names(line.split(), shaped, capitalised)
    names = [name for name, _ in shaped.most_common()]
    if not nouns_capitalised:
        names += [name for name, _ in capitalised.most_common()]
    return names


def spell_as_in(text: str, name: str) -> str:
    """Return `name` as the text spells it most often, or unchanged if the text does not contain
    it."""
    pattern = rf"(?<!\w){re.escape(name)}(?!\w)"
    spellings = Counter(match[0] for match in re.finditer(pattern, text, re.IGNORECASE))
    return spellings.most_common(1)[0][0] if spellings else name


def _count_names(tokens: list[str], shaped: Counter[str], capitalised: Counter[str]) -> None:
    """Add the names of one line to the counters."""
    heading = not any(token[0].islower() for token in tokens)
    run: list[str] = []
    sentence_start = True
    for token in [*tokens, ""]:
        word = token.strip(_EDGES).removesuffix("'s").removesuffix("’s")
        is_name = _is_name(word)
        if is_name and not heading and not sentence_start and not _SHAPE.match(word):
            run.append(word)
        elif is_name and _SHAPE.match(word) and not (heading and word.isupper() and tokens[1:]):
            shaped[word] += 1  # a line in capitals is a heading
        if run and (run[-1] != word or not token.endswith(word) or len(run) == MAX_WORDS):
            capitalised[" ".join(run)] += 1
            run = []
        sentence_start = token.endswith(_SENTENCE_ENDS)


def _is_name(word: str) -> bool:
    """Return True if a word may be a name rather than an address, a number or an ordinary word."""
    return (
        1 < len(word) <= MAX_WORD
        and word.casefold() not in _ORDINARY
        and not any(mark in word for mark in ("@", "://", "www.", "\\"))
        and (word[0].isupper() or _SHAPE.match(word) is not None)
        and any(c.isalpha() for c in word)
    )

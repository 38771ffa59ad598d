"""Check that a text of the model names only what the candidate said."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["keep_supported"]

_NUMBER_WORDS = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|"
    "seventy|eighty|ninety|hundred|thousand|million|half|twice"
)
_NAME = re.compile(
    r"(?<![\w'’])(?:[A-Z][\w'’+#./-]*[\w+#]|\w*\d[\w%.,:]*|[a-z]+[A-Z]\w*|[A-Z])(?![\w'’])"
)
_NUMBER = re.compile(rf"\b(?:{_NUMBER_WORDS})\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_NO_NAMES = frozenset("i i'm i'd i've i'll a".split())


def keep_supported(text: str, said: Sequence[str], skills: Iterable[str] = ()) -> str:
    """Return the sentences of `text` whose names, numbers and skills all occur in `said`.

    The first word of a sentence is a name only if it contains a digit or a capital after its first
    letter. `skills` are words that count as names although they are written in lower case.
    """
    source = "\n".join(said).lower().replace("’", "'")
    names = [skill.lower() for skill in skills]
    return " ".join(
        sentence
        for sentence in _SENTENCE.split(text.strip())
        if all(_occurs(name, source) for name in _find_names(sentence, names))
    )


def _find_names(sentence: str, skills: Sequence[str]) -> set[str]:
    lower = sentence.lower()
    found = {skill for skill in skills if _occurs(skill, lower)}
    found |= {match[0].lower() for match in _NUMBER.finditer(sentence)}
    for match in _NAME.finditer(sentence):
        name = match[0].rstrip(".,:")
        if match.start() or re.search(r"\d|\w[A-Z]", name):
            found.add(re.sub(r"['’]s$", "", name).lower())
    return found - _NO_NAMES


def _occurs(name: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None

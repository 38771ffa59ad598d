"""Word error rate of a transcript."""

import re
from collections.abc import Sequence

__all__ = ["normalise", "wer"]

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


def wer(reference: str, hypothesis: str) -> float:
    """Return the Levenshtein distance in words divided by the number of reference words.

    0 is perfect, and values above 1 are possible. Raise ValueError if the reference has no words.
    """
    expected, actual = normalise(reference), normalise(hypothesis)
    if not expected:
        raise ValueError("the reference has no words")
    return _distance(expected, actual) / len(expected)


def normalise(text: str) -> list[str]:
    """Split text into lower-case words without punctuation. Numbers are spelt out, so that "40%"
    equals "forty percent"."""
    text = text.lower().replace("’", "'").replace("%", " percent ")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"\d+", lambda match: f" {_spell_out(int(match[0]))} ", text)
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text)


def _spell_out(number: int) -> str:
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f" {_ONES[number % 10]}" if number % 10 else "")
    for size, name in ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand")):
        if number >= size:
            head, rest = divmod(number, size)
            return f"{_spell_out(head)} {name}" + (f" {_spell_out(rest)}" if rest else "")
    head, rest = divmod(number, 100)
    return f"{_ONES[head]} hundred" + (f" {_spell_out(rest)}" if rest else "")


def _distance(expected: Sequence[str], actual: Sequence[str]) -> int:
    row = list(range(len(actual) + 1))
    for i, reference in enumerate(expected, 1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(actual, 1):
            diagonal, row[j] = (
                row[j],
                min(row[j] + 1, row[j - 1] + 1, diagonal + (reference != word)),
            )
    return row[-1]

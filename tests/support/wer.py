"""Word error rate: how much of what was said was written down wrong."""

import re
from collections.abc import Sequence

__all__ = ["normalised", "wer"]

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


def wer(said: str, written: str) -> float:
    """Words to substitute, insert and delete, over the words that were said.

    Levenshtein's distance on words; 0 is perfect, and above 1 is possible. Raises ValueError
    when nothing was said.
    """
    reference, hypothesis = normalised(said), normalised(written)
    if not reference:
        raise ValueError("nothing was said")
    return _distance(reference, hypothesis) / len(reference)


def normalised(text: str) -> list[str]:
    """Words in small letters without punctuation; numbers are spelt out, so that "40%" and
    "forty percent" are the same."""
    text = text.lower().replace("’", "'").replace("%", " percent ")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"\d+", lambda found: f" {_spelt(int(found[0]))} ", text)
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text)


def _spelt(number: int) -> str:
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f" {_ONES[number % 10]}" if number % 10 else "")
    for size, name in ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand")):
        if number >= size:
            head, rest = divmod(number, size)
            return f"{_spelt(head)} {name}" + (f" {_spelt(rest)}" if rest else "")
    head, rest = divmod(number, 100)
    return f"{_ONES[head]} hundred" + (f" {_spelt(rest)}" if rest else "")


def _distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    row = list(range(len(hypothesis) + 1))
    for i, said in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, written in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (said != written))
    return row[-1]

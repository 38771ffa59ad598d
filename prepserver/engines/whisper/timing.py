"""When each word was said, from the tokens that whisper.cpp writes."""

from collections.abc import Iterable

from msgspec import Struct

from prepserver.engines.types import Word
from prepserver.engines.whisper.transcriber import geometric_mean

__all__ = ["TimedToken", "spread", "words"]


class TimedToken(Struct, frozen=True):
    """A piece of a word, or a word and the space before it."""

    text: bytes
    """UTF-8, which may begin or end within a character."""
    start: float
    """Seconds. Whisper guesses these from the timestamps it did not write and from how loud it
    was: good to a few tenths of a second."""
    end: float
    probability: float


def words(tokens: Iterable[TimedToken]) -> tuple[Word, ...]:
    """Tokens put together up to the next space; times never run backwards."""
    groups: list[list[TimedToken]] = []
    for token in tokens:
        if groups and not token.text.startswith(b" "):
            groups[-1].append(token)
        else:
            groups.append([token])
    found: list[Word] = []
    clock = 0.0
    for group in groups:
        text = b"".join(token.text for token in group).decode("utf-8", "replace").strip()
        if not text:
            continue
        start = max(clock, group[0].start)
        clock = max(start, group[-1].end)
        found.append(
            Word(
                start=start,
                end=clock,
                text=text,
                probability=geometric_mean([token.probability for token in group]),
            )
        )
    return tuple(found)


def spread(text: str, start: float, end: float) -> tuple[Word, ...]:
    """For a binding that does not say when: each word's share of the time goes by its length."""
    written = text.split()
    letters = sum(len(word) for word in written)
    found, before = [], 0
    for word in written:
        begins = start + (end - start) * before / letters
        before += len(word)
        ends = start + (end - start) * before / letters
        found.append(Word(start=round(begins, 3), end=round(ends, 3), text=word))
    return tuple(found)

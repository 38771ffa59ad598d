"""Word times from whisper.cpp's tokens."""

from collections.abc import Iterable

from msgspec import Struct

from prepserver.engines.transcripts import geometric_mean
from prepserver.engines.types import Word

__all__ = ["TimedToken", "join_tokens"]


class TimedToken(Struct, frozen=True):
    """Token of a transcript: a whole word or a part of one. A leading space starts a new word."""

    text: bytes
    """UTF-8 text that may begin or end within a character."""
    start: float
    """Start of the token, in seconds from the beginning of the samples.

    whisper.cpp estimates token times from the probabilities of timestamps and from the loudness.
    The estimates are accurate to a few tenths of a second.
    """
    end: float
    probability: float


def join_tokens(tokens: Iterable[TimedToken]) -> tuple[Word, ...]:
    """Join tokens into words: a leading space starts a new word. Each word starts no earlier than
    the previous word ends."""
    groups: list[list[TimedToken]] = []
    for token in tokens:
        if groups and not token.text.startswith(b" "):
            groups[-1].append(token)
        else:
            groups.append([token])
    words: list[Word] = []
    previous_end = 0.0
    for group in groups:
        text = b"".join(token.text for token in group).decode("utf-8", "replace").strip()
        if not text:
            continue
        start = max(previous_end, group[0].start)
        previous_end = max(start, group[-1].end)
        words.append(
            Word(
                start=start,
                end=previous_end,
                text=text,
                probability=geometric_mean([token.probability for token in group]),
            )
        )
    return tuple(words)

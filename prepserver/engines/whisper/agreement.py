"""Agreement between consecutive passes over an open span.

The algorithm is LocalAgreement-2 by Macháček, Dabre and Bojar, "Turning Whisper into Real-Time
Transcription System" (2023): the longest common prefix of the last two passes is committed.
"""

import re

from msgspec import Struct

__all__ = ["Agreement"]

_PUNCTUATION = re.compile(r"[^\w]+")


class Agreement(Struct, frozen=True):
    """Text of the last pass, split into a committed and an interim part."""

    words: tuple[str, ...] = ()
    """Words of the last pass."""
    agreed: int = 0
    """Number of leading words that the last two passes have in common."""

    def after_pass(self, text: str) -> "Agreement":
        """Return the agreement after another pass, which recognised `text`.

        Case and punctuation are ignored when words are compared.
        """
        words = tuple(text.split())
        agreed = 0
        for before, now in zip(self.words, words, strict=False):
            if _normalise(before) != _normalise(now):
                break
            agreed += 1
        return Agreement(words, agreed)

    @property
    def committed(self) -> str:
        return " ".join(self.words[: self.agreed])

    @property
    def interim(self) -> str:
        return " ".join(self.words[self.agreed :])


def _normalise(word: str) -> str:
    return _PUNCTUATION.sub("", word).casefold() or word

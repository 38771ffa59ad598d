"""What two passes over a segment that is being spoken agree on.

LocalAgreement-2 of Machacek, Dabre and Bojar, "Turning Whisper into Real-Time Transcription System"
(2023): the longest common beginning of what was heard last and what was heard before that.
"""

import re

from msgspec import Struct

__all__ = ["Agreement"]

_MARKS = re.compile(r"[^\w]+")


class Agreement(Struct, frozen=True):
    """The text of the last pass, cut in two."""

    words: tuple[str, ...] = ()
    """Of the last pass."""
    agreed: int = 0
    """How many of them, from the first, the pass before it heard too."""

    def heard(self, text: str) -> "Agreement":
        """After one more pass. The case of a letter and a comma are no disagreement."""
        words = tuple(text.split())
        agreed = 0
        for before, now in zip(self.words, words, strict=False):
            if _bare(before) != _bare(now):
                break
            agreed += 1
        return Agreement(words, agreed)

    @property
    def committed(self) -> str:
        return " ".join(self.words[: self.agreed])

    @property
    def interim(self) -> str:
        return " ".join(self.words[self.agreed :])


def _bare(word: str) -> str:
    return _MARKS.sub("", word).casefold() or word

"""From a model's bytes to text that may be shown: whole characters, and no stop string."""

import codecs
from collections.abc import Sequence

__all__ = ["Detokenizer"]


class Detokenizer:
    """Holds back what may turn out to be half a character or the beginning of a stop string."""

    def __init__(self, stop: Sequence[str]) -> None:
        """Empty stop strings are ignored."""
        self._stop = tuple(text for text in stop if text)
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False
        """Whether a stop string was met; nothing comes after it."""

    def feed(self, data: bytes) -> str:
        """The text that is certain by now, and was not given before."""
        if self.stopped:
            return ""
        text = self._held + self._bytes.decode(data)
        ends = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped = True
            self._held = ""
            return text[: min(ends)]
        certain = len(text) - self._doubtful(text)
        self._held = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """What was held back although it was no stop string; half a character is dropped."""
        text, self._held = self._held, ""
        return text

    def _doubtful(self, text: str) -> int:
        """Code points at the end of `text` that a stop string begins with."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0

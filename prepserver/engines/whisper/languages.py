"""Language of one answer, detected from its spans by a multilingual model."""

from collections.abc import Mapping

from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["DETECTION_SAMPLES", "ENGLISH", "LanguageEvidence"]

ENGLISH = "en"

EXPECTED_PRIOR = 5.0
"""Weight of the expected language before anything is heard, where every other language has 1. A
single word such as "no" sounds like many languages."""
CERTAIN = 0.7
"""Probability from which the language of an answer is no longer detected, so that it stays the same
to the end."""
MIN_PROBABILITY = 1e-3
"""Minimum probability of a language, so that one odd span does not exclude it."""
DETECTION_SAMPLES = round(3.8 * SAMPLE_RATE)
"""Number of samples at the beginning of a span from which its language is detected. They fit into
the smallest encoder window, so a detection costs the same for a span of any length."""


class LanguageEvidence:
    """Probabilities of the languages of one answer, combined from its spans."""

    def __init__(self, expected: str = "") -> None:
        """Start with the expected language, an ISO 639 code; empty if any is as likely."""
        self.language = ""
        """Language that is certain, as an ISO 639 code; empty before."""
        self._expected = expected
        self._weights: dict[str, float] = {}
        """Weight of each language after the finished spans."""
        self._open: dict[str, float] = {}
        """Weight of each language with the open span included."""

    def weigh_span(self, probabilities: Mapping[str, float]) -> str:
        """Return the most probable language, given the probabilities for the open span."""
        before = self._weights or {self._expected: EXPECTED_PRIOR}
        weights = {
            code: before.get(code, 0.0 if self._weights else 1.0)
            * max(MIN_PROBABILITY, probability)
            for code, probability in probabilities.items()
        }
        total = sum(weights.values()) or 1.0
        self._open = {code: weight / total for code, weight in weights.items()}
        return max(self._open, key=self._open.__getitem__)

    def finish_span(self) -> None:
        """Let the open span, if it was weighed, count for the rest of the answer."""
        if not self._open:
            return
        self._weights, self._open = self._open, {}
        best = max(self._weights, key=self._weights.__getitem__)
        if self._weights[best] >= CERTAIN:
            self.language = best

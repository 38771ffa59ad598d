"""Decision whether a transcription is an answer, or the candidate has to be asked first."""

from prepserver.engines.types import Transcription
from prepserver.errors import InterviewError
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.limits import MAX_ANSWER

__all__ = ["MIN_CONFIDENCE", "MIN_CONFIDENCE_ABROAD", "find_problem"]

MIN_CONFIDENCE = 0.53
"""Confidence below which a transcription is doubtful. Speech into a bad microphone, over the
telephone or in noise reaches 0.58 or more. A language that the model does not know, speech played
backwards and several voices at once reach 0.5 at most (decision 0026)."""
MIN_CONFIDENCE_ABROAD = 0.48
"""The same for a language other than English that a multilingual model has detected. The model is
less sure of its words there: clear Spanish reaches 0.53 with Whisper base, and Spanish played
backwards 0.29."""

_ENGLISH = ("", "en", "english")
"""Names of English, and of an unknown language, in lower case."""


def find_problem(transcription: Transcription) -> InterviewError | None:
    """Return the reason why a transcription is not an answer, or None if it is one.

    The code is `nothing_heard` if there was no speech. It is `speech_doubtful` if there was speech
    whose words are uncertain; `details.text` then holds the words that may have been said.
    """
    speech = [
        segment
        for segment in (*transcription.segments, *transcription.dropped)
        if segment.drop_reason != "silence"
    ]
    if not transcription.text.strip() and not speech:
        return InterviewError(
            "The recording contains no speech. Speak closer to the microphone and record again, or "
            "type the answer.",
            code=ErrorCode.NOTHING_HEARD,
        )
    english = transcription.language.lower() in _ENGLISH
    required = MIN_CONFIDENCE if english else MIN_CONFIDENCE_ABROAD
    if transcription.text.strip() and transcription.confidence >= required:
        return None
    words = [each for each in speech if each.drop_reason in ("", "unlikely")]
    words.sort(key=lambda segment: segment.start)
    text = " ".join(segment.text for segment in words)[:MAX_ANSWER]
    message = (
        "The words may be wrong, so the answer was not sent. Check the text and send it, or record "
        "again."
        if text
        else "The words could not be understood. Record again, or type the answer."
    )
    if transcription.english_only:
        message += " This speech model knows only English."
    return InterviewError(
        message,
        code=ErrorCode.SPEECH_DOUBTFUL,
        details={"text": text, "confidence": round(transcription.confidence, 2)},
    )

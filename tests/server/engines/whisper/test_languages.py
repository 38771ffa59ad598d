"""Language of an answer, detected by a multilingual model and kept to the end."""

from collections.abc import Callable

import numpy as np
import pytest

from prepserver.engines.whisper.engine import WhisperEngine
from prepserver.engines.whisper.languages import DETECTION_SAMPLES, LanguageEvidence
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.whisper.fakes import (
    FakeDetector,
    FakeTime,
    FakeTranscriber,
    Speaker,
    run_live,
    run_until_idle,
    silence,
    speech,
)

SPANISH = {"en": 0.05, "es": 0.9, "it": 0.05}
ENGLISH = {"en": 0.9, "es": 0.05, "it": 0.05}
UNSURE = {"en": 0.2, "es": 0.35, "it": 0.45}
TELEPHONE = {"en": 0.01, "es": 0.35, "it": 0.64}


def run(
    languages: Callable[[int], dict[str, float]] | None,
    *,
    live: bool = False,
    expected: str = "en",
) -> tuple[Speaker, FakeTranscriber]:
    """Transcribe three spans, which begin with the words 1, 11 and 21."""
    clock = FakeTime()
    transcriber = FakeTranscriber(clock, languages=languages)
    engine = WhisperEngine(transcriber, FakeDetector, clock)
    speaker = Speaker(engine, drafts=live, language=expected)
    samples = [speech(1, 5), silence(1), speech(11, 5), silence(1), speech(21, 5)]
    if live:
        run_live(engine, clock, [(speaker, np.concatenate(samples))])
    else:
        speaker.send(*samples)
        speaker.stop()
        run_until_idle(engine)
    return speaker, transcriber


@pytest.mark.parametrize("live", [False, True])
def test_the_language_is_detected_once(live: bool) -> None:
    """Once the language is certain, every later pass uses it without another detection, even if a
    later span sounds different."""
    speaker, transcriber = run(lambda word: SPANISH if word == 1 else ENGLISH, live=live)
    assert set(transcriber.used_languages) == {"es"}
    assert speaker.transcription.language == "es"
    assert not speaker.transcription.english_only


def test_a_certain_language_needs_one_detection() -> None:
    """A complete recording whose first span is certain costs one detection."""
    certain = {"en": 0.001, "es": 0.999}
    _, transcriber = run(lambda word: certain)
    assert len(transcriber.detections) == 1
    assert transcriber.used_languages == ["es"] * 3


@pytest.mark.parametrize(
    ("expected", "probabilities", "used"),
    [
        ("en", UNSURE, "en"),
        ("es", UNSURE, "es"),
        ("es", TELEPHONE, "es"),
        ("", UNSURE, "it"),
        ("fr", UNSURE, "it"),
        ("de", ENGLISH, "en"),
        ("en", SPANISH, "es"),
        ("tlh", UNSURE, "it"),
    ],
)
def test_the_expected_language_needs_less_evidence(
    expected: str, probabilities: dict[str, float], used: str
) -> None:
    """Speech that sounds like several languages counts as the expected one, and speech that is
    certainly of another language keeps that language."""
    _, transcriber = run(lambda word: probabilities, expected=expected)
    assert transcriber.used_languages[0] == used


def test_the_beginning_of_a_span_is_examined_once() -> None:
    """While the candidate speaks without a pause, only the beginning of the span is examined, and
    no longer once that is complete."""
    clock = FakeTime()
    transcriber = FakeTranscriber(clock, languages=lambda word: UNSURE)
    engine = WhisperEngine(transcriber, FakeDetector, clock)
    run_live(engine, clock, [(Speaker(engine), speech(1, 33))])
    assert len(transcriber.used_languages) > len(transcriber.detections) > 1
    assert max(transcriber.detections) == transcriber.detections[-1] == DETECTION_SAMPLES
    assert transcriber.detections.count(DETECTION_SAMPLES) == 1


def test_spans_add_up() -> None:
    """Several spans that each sound more like another language than English make it certain."""
    evidence = LanguageEvidence("en")
    found = []
    for _ in range(3):
        found.append(evidence.weigh_span({"en": 0.2, "fr": 0.6, "de": 0.2}))
        evidence.finish_span()
    assert found == ["en", "fr", "fr"]
    assert evidence.language == "fr"


def test_captions_do_not_count_twice() -> None:
    """Drafts of one span count once, however many there are."""
    evidence = LanguageEvidence("en")
    for _ in range(50):
        assert evidence.weigh_span({"en": 0.3, "fr": 0.7}) == "en"
    evidence.finish_span()
    evidence.finish_span()
    assert evidence.language == ""


@pytest.mark.parametrize("expected", ["", "en"])
def test_an_english_only_model_says_so(expected: str) -> None:
    """A model without languages transcribes as English, is never asked for a language, and marks
    the transcription."""
    speaker, transcriber = run(None, expected=expected)
    assert (transcriber.detections, set(transcriber.used_languages)) == ([], {"en"})
    assert speaker.transcription.english_only
    assert speaker.transcription.language == "en"


@pytest.mark.parametrize("probabilities", [{}, {"en": 0.0, "es": 0.0}, {"es": 1.0}])
def test_odd_probabilities_are_survived(probabilities: dict[str, float]) -> None:
    """A model with one language, and probabilities of zero, give a language rather than an
    error."""
    evidence = LanguageEvidence()
    if probabilities:
        assert evidence.weigh_span(probabilities) in probabilities
        evidence.finish_span()
        assert evidence.weigh_span(SPANISH) in SPANISH


@pytest.mark.parametrize("language", ["de", "ja", "yue"])
@pytest.mark.parametrize("live", [False, True])
def test_an_english_model_refuses_another_language(language: str, live: bool) -> None:
    """An English-only model transcribes nothing in an interview in another language, and the error
    says what to do."""
    with pytest.raises(InferenceError, match=r"Type the answer.*prep models use") as caught:
        run(None, live=live, expected=language)
    assert caught.value.code == ErrorCode.SPEECH_LANGUAGE
    assert not caught.value.retryable

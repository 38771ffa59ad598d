"""Languages that an interview may have."""

import json
import subprocess
import sys

import pytest

from prepserver.wire.languages import LANGUAGES, check_language


def test_the_languages_are_those_of_whisper() -> None:
    """Every language that whisper.cpp knows may be chosen, and no other."""
    script = (
        "import json, _pywhispercpp as lib; "
        "print(json.dumps([lib.whisper_lang_str(n) for n in range(lib.whisper_lang_max_id() + 1)]))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert sorted(json.loads(run.stdout)) == list(LANGUAGES)


@pytest.mark.parametrize("code", ["en", "de", "es", "fr", "zh", "haw", "yue"])
def test_a_known_language_passes(code: str) -> None:
    """A code of two or three letters that Whisper knows is accepted."""
    check_language(code)


@pytest.mark.parametrize("code", ["", "xx", "EN", "english", "en-US", "e n", "zzz"])
def test_an_unknown_language_is_named(code: str) -> None:
    """The error repeats the unknown code and names codes to use."""
    with pytest.raises(ValueError, match="Unknown language") as caught:
        check_language(code)
    assert repr(code) in str(caught.value)
    assert "de" in str(caught.value)

"""Sentences that the interviewer says without a model, in several languages."""

import functools
import importlib.resources
import tomllib

__all__ = ["LANGUAGES", "phrase"]

_DEFAULT = "en"


@functools.cache
def _load_phrases() -> dict[str, dict[str, list[str]]]:
    folder = importlib.resources.files("prepserver.interview.dialogue")
    return tomllib.loads((folder / "phrases.toml").read_text("utf-8"))


LANGUAGES = tuple(_load_phrases())
"""ISO 639-1 codes of the languages with sentences of their own. In any other language, the model
translates the English sentences."""


def phrase(language: str, name: str, number: int, **values: str) -> str:
    """Return a sentence by its name in phrases.toml, with `values` in place of its fields.

    `number` selects one of the sentences with this name, in turn. A language without sentences gets
    the English ones. Raises KeyError if no sentence has this name.
    """
    phrases = _load_phrases()
    choices = phrases.get(language, phrases[_DEFAULT])[name]
    text = choices[number % len(choices)]
    for field, value in values.items():
        text = text.replace(f"{{{field}}}", value)
    return text

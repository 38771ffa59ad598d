"""What an interview knows about the candidate's speech before it is heard."""

from prepserver.engines.types import ExpectedSpeech
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.speech.names import find_names, spell_as_in

__all__ = ["expect_speech"]

MAX_SPELLINGS = 400
"""Maximum length of all names in the vocabulary, in characters. Rare names take a token for every
two or three characters, and Whisper's prompt holds 224 tokens."""

NOUNS_CAPITALISED = ("de", "lb")
"""Languages that capitalise every noun."""


def expect_speech(context: PromptContext) -> ExpectedSpeech:
    """Return the interview's language, and sentences with the names in its documents.

    The vocabulary is empty if the interview has no document. whisper.cpp imitates the style of the
    text: on the bundled recordings, a bare list of words removed capitals, commas and once the
    whole first sentence from the transcript, whereas a sentence removed nothing. In a language
    other than English the text has only names, because English words would be imitated too.
    """
    spec = context.spec
    documents = [text for text in (spec.job_description, spec.resume) if text]
    if not documents:
        return ExpectedSpeech(language=spec.language)
    text = "\n".join(documents)
    names = [
        *([spec.company] if spec.company else []),
        *(spell_as_in(text, skill) for skill in context.skills),
        *find_names(documents, nouns_capitalised=spec.language in NOUNS_CAPITALISED),
    ]
    topics = ", ".join(_fit(names))
    if spec.language == "en":
        vocabulary = f"A job interview for the role of {spec.role}."
        vocabulary += f" Topics: {topics}." if topics else ""
    else:
        vocabulary = f"{spec.role}: {topics}." if topics else f"{spec.role}."
    return ExpectedSpeech(vocabulary=vocabulary, language=spec.language)


def _fit(names: list[str]) -> list[str]:
    """Return the names without repetitions, up to `MAX_SPELLINGS` characters."""
    kept: dict[str, str] = {}
    length = 0
    for name in names:
        length += len(name) + 2
        if length > MAX_SPELLINGS:
            break
        kept.setdefault(name.casefold(), name)
    return list(kept.values())

"""Prose of an answer, without code, links, fillers and repeated words."""

import re

__all__ = ["clean_answer", "is_hostile", "is_unfit", "shows_code"]

MAX_CHARACTERS = 6_000
"""Number of characters of an answer that are read, half of them from its end."""

_FILLERS = re.compile(
    r"\b(?:u+h+m*|u+m+|e+r+m*|a+h+|h+m+)\b[,.…]*\s*"
    r"|,?\s*\b(?:you know|i mean|sort of|kind of|let's say|so to speak)\b,?(?=\s)"
    r"|(?<=,)\s*like\s*,"
    r"|(?<![,.;:!?])…",
    re.IGNORECASE,
)
_STUTTER = re.compile(r"\b([\w']+)(?:[\s,.…-]+\1\b)+", re.IGNORECASE)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_CODE_LINE = re.compile(
    r"[{};]\s*$|=>|->|==|\w\(\w*\)|\w=\w|</?\w+>"
    r"|^\s*(?:def|class|import|from|return|for|if|while|SELECT|#|//)\b.*[:;(]"
)
_FENCE = re.compile(r"<\s*/?\s*(?:answer|request)\s*>", re.IGNORECASE)
"""Marks around messages in prompts, which a candidate may type to give the model orders."""

_LINK = re.compile(r"\b(?:https?://|www\.)\S+|\S+@\S+\.\S+|\b\S+\.(?:com|org|net|io)\b\S*")
_ORDER = (
    r"ignore|disregard|instructions?|prompts?|system message|jailbreak|language model|chatgpt|"
    r"interviewer|pretend|role-?play"
)
_INSULT = (
    r"ass|asshole|bastard|bitch\w*|bollocks|bot|bullshit|crap\w*|damn\w*|dumb\w*|fuck\w*|hell|"
    r"idiot\w*|moron\w*|piss\w*|shit\w*|stupid\w*|suck(?:s|ed)?|wank\w*"
)
_UNFIT = re.compile(rf"\b(?:{_INSULT}|{_ORDER})\b", re.IGNORECASE)
"""Words that bar a sentence from being restated: insults, and orders to the interviewer."""

_HOSTILE = re.compile(
    r"\b(?:ignore|disregard|forget)\b[^.!?]*\b(?:instructions?|prompts?|rules)\b"
    r"|\b(?:system prompt|jailbreak)\b"
    rf"|\b(?:you|your|you're|this|question)\b[^.!?]*\b(?:{_INSULT})\b",
    re.IGNORECASE,
)


def clean_answer(answer: str) -> str:
    """Return the prose of an answer: no code, links, quotations, fillers or repeated words."""
    if len(answer) > MAX_CHARACTERS:
        half = MAX_CHARACTERS // 2
        answer = f"{answer[:half]}\n{answer[-half:]}"
    text = answer.replace("’", "'").replace("\x00", " ")
    text = _CODE.sub(" . ", _FENCE.sub(" . ", text))
    lines = [line for line in text.splitlines() if not _CODE_LINE.search(line)]
    text = _LINK.sub(" . ", "\n".join(lines))
    text = _FILLERS.sub(" ", text)
    text = _STUTTER.sub(r"\1", text)
    if sum(map(str.isupper, text)) > 2 * sum(map(str.islower, text)):
        text = text.lower()
    return re.sub(r"[^\S\n]+", " ", text).strip()


def shows_code(answer: str) -> bool:
    """Return True if a part of the answer is code."""
    text = _FENCE.sub(" ", answer)
    return bool(_CODE.search(text)) or any(map(_CODE_LINE.search, text.splitlines()))


def is_unfit(sentence: str) -> bool:
    """Return True if the sentence must not be restated: it has an insult or words of an order."""
    return _UNFIT.search(sentence) is not None


def is_hostile(text: str) -> bool:
    """Return True if the text insults the interviewer or gives it orders."""
    return _HOSTILE.search(text) is not None

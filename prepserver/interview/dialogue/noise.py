"""Text without meaning: sounds, fillers and keys struck at random."""

import re

from prepserver.interview.dialogue.patterns import fold

__all__ = ["is_noise"]

MAX_NOISE, MAX_NOISE_LETTERS = 200, 5
"""Length in code points above which a message is noise if it has at most so many characters."""

_SOUND = re.compile(
    r"[\[(*♪][a-z_ ]{0,40}(?:applause|audio|beep|breath|click|cough|foreign|inaudible|laugh|music"
    r"|noise|sigh|silence|throat|typing|unintelligible)[a-z_ ]{0,40}[\])*♪]",
    re.IGNORECASE,
)
"""Sound as a speech model writes it down: "[BLANK_AUDIO]", "(coughs)"."""

_FILLER = re.compile(r"(?:u+h*m*|e+h*m*|e+r+m*|h+m+|m+h*|a+h*m*|o+h*|e+u+h*|a+e?hm?|huh)", re.I)
_KEYBOARD = "qwertyuiop qwertzuiop asdfghjkl zxcvbnm yxcvbnm azertyuiop qsdfghjklm"


def is_noise(text: str) -> bool:
    """Return True if `text` has no word that was meant: only noises, fillers or random keys."""
    bare = text.strip()
    if _SOUND.fullmatch(bare):
        return True
    if len(bare) > MAX_NOISE:
        return len(set(bare)) <= MAX_NOISE_LETTERS
    words = re.findall(r"[\w+*=<>#]+", bare)
    return all(_is_random(word) and (len(word) > 1 or len(words) == 1) for word in words)


def _is_random(word: str) -> bool:
    """Return True if `word` is a filler, one repeated letter, or keys that stand side by side."""
    folded = fold(word)
    if folded.isdigit() or (word.isupper() and len(word) > 1):
        return False
    letters = set(folded)
    if len(folded) == 1:
        return folded.isascii() and folded not in "cr"
    if _FILLER.fullmatch(folded) or len(letters) == 1:
        return True
    latin = folded.isalpha() and folded.isascii() and word.islower()
    if latin and len(folded) >= 6 and not letters & set("aeiouy"):
        return True
    half = folded[: max(3, len(folded) // 2)]
    doubled = len(folded) >= 6 and folded == half * (len(folded) // len(half))
    return any(
        folded in row or (doubled and half in row) for row in _KEYBOARD.split() if len(folded) > 2
    )

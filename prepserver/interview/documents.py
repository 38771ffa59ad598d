"""Normalisation of the texts that candidates bring.

Programs write the same words with different characters: PDF readers keep ligatures and soft
hyphens, word processors use no-break spaces, East Asian keyboards write full-width letters. An
interview is stored with its texts as they were given; the search for skills and the prompts use
normalised texts.
"""

import re
import unicodedata

__all__ = ["normalise_text"]

_SOFT_BREAK = re.compile("\u00ad[ \t]*(?:\r\n|[\r\n])[ \t]*")
"""Soft hyphen at the end of a line, which divides a word."""

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Characters without a shape of their own, by Unicode's property Default_Ignorable_Code_Point, and
annotation marks."""

_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")

_SAME_SHAPE = str.maketrans({"\u2010": "-", "\u2043": "-", "\u2212": "-", "\uf0b7": "•"})
"""Hyphens, and the bullet of the font Symbol, that NFKC leaves as they are."""


def normalise_text(text: str) -> str:
    """Return `text` in Unicode's form NFKC, without invisible characters, with `-` for every hyphen
    and with `\\n` for every line end."""
    text = _INVISIBLE.sub("", _SOFT_BREAK.sub("", text))
    text = unicodedata.normalize("NFKC", text)
    return _LINE_END.sub("\n", text).translate(_SAME_SHAPE)

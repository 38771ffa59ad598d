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
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
    "\u0305\u0332\u0333\u033f\u2120\u2122]"
)
"""Characters without a shape of their own, by Unicode's property Default_Ignorable_Code_Point,
annotation marks, lines under and over letters, and the signs of trademarks."""

_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")

_SAME_SHAPE = str.maketrans(
    dict.fromkeys("\u2010\u2043\u2212", "-")
    | dict.fromkeys(map(chr, range(0xF000, 0xF100)), "•")
    | dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯǫʀꜱᴛᴜᴠᴡʏᴢ", "ABCDEFGHIJKLMNOPQQRSTUVWYZ", strict=True))
    | {"\u266f": "#", "\uf020": " "}
)
"""Characters that NFKC leaves as they are: hyphens, the bullets of the fonts Symbol and Wingdings,
small capitals and the musical sharp."""

_LOOKALIKES = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABESIJKMHOPCTYXaesijopcyxABEZHIKMNOPTYXo"
)
_LOOKALIKE_RUN = re.compile(
    r"(?<![\u0370-\u052f])[АВЕЅІЈКМНОРСТУХаеѕіјорсухΑΒΕΖΗΙΚΜΝΟΡΤΥΧο]+(?=[A-Za-z]|\+\+|#)"
)
"""Cyrillic or Greek letters in a Latin word, which they do not end; also those of "C++" and "C#",
which people type without changing the keyboard layout."""


def normalise_text(text: str) -> str:
    """Return `text` in Unicode's form NFKC, without invisible characters, with `-` for every
    hyphen, `\\n` for every line end, and Latin letters in Latin words."""
    text = _INVISIBLE.sub("", _SOFT_BREAK.sub("", text))
    text = unicodedata.normalize("NFKC", text)
    text = _LINE_END.sub("\n", text).translate(_SAME_SHAPE)
    return _LOOKALIKE_RUN.sub(lambda match: match[0].translate(_LOOKALIKES), text)

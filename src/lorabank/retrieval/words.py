"""Words and how many a text has, in scripts with and without blanks between them.

A character of Chinese or Japanese counts as a word, and so do five of Thai, Lao, Khmer or Burmese.
A run of sixteen other characters counts as one: code, a link or a picture in letters is never taken
for a single word, however long it is.
"""

import re
import unicodedata

CHINESE_JAPANESE = (
    "\u3040-\u30ff\u3100-\u312f\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U000323af"
)
"""Characters that are words of their own, as ranges of a regular expression."""
CAPITALS = "A-Z" + "".join(c for c in map(chr, range(0xC0, 0x590)) if c.isupper())
"""Capital letters of Latin, Greek, Cyrillic and Armenian, likewise."""
_SOUTHEAST_ASIAN = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf"
    "\u1b00-\u1b7f\ua980-\ua9ff\uaa60-\uaa7f"
)
_UNSPACED = CHINESE_JAPANESE + _SOUTHEAST_ASIAN
_SPANS = ((0x300, 0x370), (0x900, 0x1C00), (0x1DC0, 0x1E00), (0x20D0, 0x2100), (0xA980, 0xAC00))
_MARKS = "".join(
    chr(code)
    for span in _SPANS
    for code in range(*span)
    if unicodedata.category(chr(code)).startswith("M")
)
# What belongs to the character before it: accents, vowels, joiners, variants, skin tones, and what
# follows a joiner, a consonant sign or a vowel that is written first.
_FOLLOWERS = (
    f"(?:[{_MARKS}\u0e30\u0e32\u0e33\u0eb0\u0eb2\u0eb3\u200d\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]"
    "|(?<=[\u200d\u0e40-\u0e44\u0ec0-\u0ec4\u1039\u17d2])\\S)*"
)
CHARACTER = re.compile(rf"\S{_FOLLOWERS}")
"""A character with the accents, joiners and skin tones that belong to it."""
WORD = re.compile(
    rf"[{CHINESE_JAPANESE}]{_FOLLOWERS}|[{_SOUTHEAST_ASIAN}]{{1,5}}{_FOLLOWERS}"
    rf"|[^\s{_UNSPACED}]{{1,16}}{_FOLLOWERS}"
)
"""A word, or the part of a longer run that counts as one."""


def count_words(text: str) -> int:
    """Return the number of words; a long run without blanks is several."""
    return sum(1 for _ in WORD.finditer(text))

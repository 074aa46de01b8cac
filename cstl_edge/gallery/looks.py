"""How a name looks: names that are easily taken for each other have the same key.

Letters of other scripts that look like Latin ones count as these; marks, case, spaces and
punctuation (but between digits) count nothing. The letters are chosen by eye; Unicode's own list
is far longer.
"""

from __future__ import annotations

import re
import unicodedata

_LOOKS_LIKE = {  # Latin letter: letters that look like it, after case folding and without marks
    "a": "аαɑ",
    "b": "ьβв",
    "c": "сϲⅽ",
    "d": "ԁɗⅾ",
    "e": "еєεҽ",
    "g": "ɡց",
    "h": "һհн",
    "i": "іιıļӏ|1!lǀⅼ",
    "j": "јϳ",
    "k": "кκ",
    "m": "мⅿ",
    "n": "пηոռ",
    "o": "оοσօ0օ",
    "p": "рρ",
    "q": "ԛգ",
    "r": "гᴦ",
    "s": "ѕʂ5ꜱ",
    "t": "тτ",
    "u": "υսцʋ",
    "v": "ѵνᴠ",
    "w": "ѡԝωա",
    "x": "хχ×",
    "y": "уγүყ",
    "z": "ᴢ2",
}
_LATIN = {ord(letter): latin for latin, letters in _LOOKS_LIKE.items() for letter in letters}
_MARKS = range(0x0300, 0x0370)  # accents of Latin, Greek and Cyrillic; other scripts need theirs


def look_key(name: str) -> str:
    """Return the key of a name's looks.

    >>> look_key("Аda  Lovelace") == look_key("ada-lovelace")  # the first A is Cyrillic
    True
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    letters = "".join(c for c in plain if ord(c) not in _MARKS and not c.isspace())
    bare = "".join(c if c.isalnum() or unicodedata.category(c)[0] in "MS" else "-" for c in letters)
    joined = re.sub(r"(?<!\d)-+|-+(?!\d)", "", bare)  # 1-12 is not 11-2
    return (joined or letters).translate(_LATIN).replace("rn", "m")

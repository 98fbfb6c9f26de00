"""Names of classes: one canonical spelling, and texts that look the same distinguished.

The canonical name is in Unicode's form NFC, with white space folded to single spaces and none at
the ends. A name that is canonical already is returned as it is, byte for byte.
"""

from __future__ import annotations

import re
import unicodedata

# They decide how letters join, in Persian, Hindi and emoji: a part of the name.
JOINERS = "\u200c\u200d"

# Letters of Cyrillic and Greek, dashes and quotes that fonts draw like the one before them.
_LIKENESSES = (
    "'2018+2019+02BC+2032 -2010+2011+2012+2013+2014+2212 A0410+0391 B0412+0392 C0421 E0415+0395 "
    "G050C H041D+0397 I0406+0399 J0408 K041A+039A M041C+039C N039D O041E+039F P0420+03A1 Q051A "
    "S0405 T0422+03A4 W051C X0425+03A7 Y04AE+03A5 Z0396 a0430+03B1 c0441 d0501 e0435 h04BB "
    "i0456+03B9+0131 j0458 k03BA o043E+03BF p0440+03C1 q051B s0455 u03C5 v03BD w051D x0445+03C7 "
    "y0443 "
)
# Letters without a sign of their own: fillers, the blank of Braille; not those of ``_SELECTORS``.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180e\u2800\u3164\uffa0")
# They choose between two looks of the letter before them: a part of the name, as in most emoji.
_SELECTORS = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")

_LIKE = {int(code, 16): entry[0] for entry in _LIKENESSES.split() for code in entry[1:].split("+")}


def canonical_name(name: str) -> str:
    """Return the canonical spelling of a class name."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def name_fault(name: str) -> str | None:
    """Say what keeps a text from being a class name, or None.

    Line breaks, control characters and invisible ones (bidirectional marks, U+200B, fillers) are
    refused: nobody can see or type them. White space at the ends is not part of the name.
    """
    letters = unicodedata.normalize("NFC", name).strip()
    if not _SELECTORS.sub("", letters).strip(JOINERS):
        return "blank"
    for letter in letters:
        category = unicodedata.category(letter)
        if category == "Cf" and letter not in JOINERS:
            return f"with the invisible control character U+{ord(letter):04X}"
        if letter in _UNSEEN:
            return f"with the invisible character U+{ord(letter):04X}"
        if category == "Cs":
            return "with bytes that are not UTF-8"
        if category in ("Cc", "Zl", "Zp") and letter != "\t":
            return "with control characters"
    return None


def spelt(text: str) -> str:
    """Return a text in quotes, coded where a letter is not plain ASCII or is easily missed."""
    return re.sub(" {2,}", lambda run: r"\x20" * len(run[0]), ascii(text))


def look_alike(one: str, other: str) -> bool:
    """Return whether two texts look the same on a screen (equal ones do)."""
    return _outline(one) == _outline(other)


def distinguished(one: str, other: str) -> tuple[str, str]:
    """Return two texts in quotes, by their code points where they look the same, or nearly so.

    Nearly: they differ in letters of another script among Latin ones, whatever these look like.
    """
    odd = {letter for letter in {*one} ^ {*other} if not _is_latin(letter)}
    mixed = odd and any(letter.isascii() and letter.isalpha() for letter in one + other)
    if mixed or look_alike(one, other):
        return spelt(one), spelt(other)
    return repr(one), repr(other)


def _is_latin(letter: str) -> bool:
    """Return whether a letter is ASCII or one of Europe's with its accent, as in German."""
    return letter.isascii() or ("\u00c0" <= letter <= "\u017f" and ord(letter) not in _LIKE)


def outline_key(name: str) -> str:
    """Return a text that names share which differ in case, or not to the eye."""
    return _outline(name).casefold()


def _outline(text: str) -> str:
    """Return what is left of a text for the eye."""
    folded = canonical_name(unicodedata.normalize("NFKC", text))
    hidden = ("Cf", "Cc")
    seen = (letter for letter in folded if unicodedata.category(letter) not in hidden)
    return _SELECTORS.sub("", "".join(c for c in seen if c not in _UNSEEN)).translate(_LIKE)

"""Strings and comments in the text of code, and the words of what is left without them."""

from __future__ import annotations

import re

PROSE = re.compile(
    r"\"{3}[^\"\\]*(?:(?:\\.|\"(?!\"\"))[^\"\\]*)*\"{3}"
    r"|'{3}[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'{3}"
    r"|\"[^\"\\\n]*(?:\\.[^\"\\\n]*)*\"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'|#[^\n]*",
    re.DOTALL,
)
"""Strings and comments; it begins with what is rare in code, for which regular expressions scan."""
_FORMATS = tuple(f + quote for f in ("f", "F", "fr", "fR", "Fr", "FR") for quote in "'\"")
_WORD = re.compile(r"\w+")
_BETWEEN_WORDS = {place: " " for place in range(128) if not _WORD.fullmatch(chr(place))}


def without_prose(text: str) -> str:
    """Return a text without strings and comments; what is formatted into a string is kept."""
    if not any(map(text.__contains__, _FORMATS)):
        return PROSE.sub(" ", text)
    torn = False

    def kept(found: re.Match[str]) -> str:
        nonlocal torn
        if not is_formatted(found):
            return " "
        # A string with quotes in its braces ends elsewhere than it seems to.
        torn |= found[0].count("{") != found[0].count("}")
        return f" {found[0].strip(found[0][0])} "

    code = PROSE.sub(kept, text)
    return text if torn else code


def words(code: str) -> set[str]:
    """Return the words of a text, numbers among them."""
    if code.isascii():
        return set(code.translate(_BETWEEN_WORDS).split())
    return set(_WORD.findall(code))


def is_formatted(found: re.Match[str]) -> bool:
    """Tell whether a match of `PROSE` is a string with an `f` before it."""
    start = found.start()
    before = found.string[max(0, start - 2) : start].lower()
    return found[0][0] != "#" and (before.endswith("f") or before == "fr")

"""What texts say of a switch or a number: its default, and whether anything sets another value.

What is asked often finds each occurrence of a name as it is written, and reads only what stands
around it: a pattern that begins with anything else goes through whole texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bncheck.kept_modes import COMMENTS

_VALUE = re.compile(rb"['\"]?\s*(?::[^=\n,)]*)?[=:]\s*(True|False)\b(?!['\"])")
"""A setting in code: one that ends with a quote is in a text, which tells how to set it."""
_STORE_TRUE = re.compile(rb"['\"][^()]{0,200}\bstore_true\b")
_ON_BY_DEFAULT = re.compile(rb"['\"][^\n]*default\s*=\s*True\b")
_CALLED_WITH_TRUE = re.compile(rb"\((?:\)|[^)\n]*True)")
_ARGUMENTS = re.compile(rb"\(((?:[^()]|\([^()]*\))*)\)")
_BASES = re.compile(rb"\s*class \w+\([^)]*$")
_WORD = re.compile(rb"\w")


def is_turned_on(texts: Iterable[bytes], switch: str) -> bool:
    """Tell whether texts set a switch that is off by default, or a setting of its name."""
    name = re.escape(switch.encode())
    option = name.replace(b"_", b"[_-]")
    said = re.compile(
        rb"\b%s\s*[=:]\s*[Tt]rue\b|['\"-]%s\b|\w(?<!\bself)\.%s\b(?!\s*=[^=])"
        % (name, option, name)
    )
    longest = _longest_word(switch)
    return any(longest in text and said.search(COMMENTS.sub(b"", text)) for text in texts)


def is_left_at_one(texts: Iterable[bytes], number: str) -> bool:
    """Tell whether a text gives a number that is 1, as by default, and none another one."""
    name, longest = re.escape(number.encode()).replace(b"_", b"[_-]"), _longest_word(number)
    given = re.compile(
        rb"\b%s\b['\"]?\s*(?::[^=\n,)]*=|[=:])\s*(\d+)\b"
        rb"|['\"-]%s['\"][^\n]*default\s*=\s*(\d+)\b" % (name, name)
    )
    found = {
        one or other
        for text in texts
        if longest in text
        for one, other in given.findall(COMMENTS.sub(b"", text))
    }
    return found == {b"1"}


def is_left_off(texts: Iterable[bytes], switch: str) -> bool:
    """Tell whether a text says that a switch is off, as by default, and none that it is on.

    A method that sets it counts, `set_grad_checkpointing(True)`; where a command line asks for it,
    the method is called for those who do.
    """
    off = asked = called = False
    name = switch.encode()
    for text in texts:
        for spelled in {name, name.replace(b"_", b"-")}:
            for place, end in _code_places(text, spelled):
                before = text[place - 1 : place]
                if before in (b"'", b'"', b"-"):
                    if _ON_BY_DEFAULT.match(text, end):
                        return False
                    asked = asked or _STORE_TRUE.match(text, end) is not None
                if text[:place].endswith((b".set_", b".enable_")):
                    called = called or _CALLED_WITH_TRUE.match(text, end) is not None
                elif not _WORD.match(before) and spelled == name:
                    value = _VALUE.match(text, end)
                    if value is not None and value[1] == b"True":
                        return False
                    off = off or value is not None
    return asked or (off and not called)


def is_turned_off(texts: Iterable[bytes], name: str, option: str) -> bool:
    """Tell whether an option of a class is off by default, and all that give it say False.

    A class that another derives from, or that a string names, may be told in other ways.
    """
    own, given = name.encode(), re.escape(option.encode())
    told = re.compile(rb"\b%s\s*=\s*([^,\s)]+)" % given)
    default = re.compile(rb"\b[\s\S]*?\bdef __init__\([^)]*\b%s\b[^,=)]*=\s*(\w+)" % given)
    values: set[bytes] = set()
    for text in texts:
        for place, end in _places(text, own):
            before, after = text[place - 1 : place], text[end : end + 1]
            if _WORD.match(before) or _WORD.match(after):
                continue
            if before in (b"'", b'"') and after in (b"'", b'"'):
                return False
            line = text[text.rfind(b"\n", 0, place) + 1 : place]
            if line == b"class ":
                found = default.match(text, end)
                if found is not None and found[1] != b"False":
                    return False
            elif _BASES.match(line):
                return False
            elif (arguments := _ARGUMENTS.match(text, end)) is not None:
                values.update(told.findall(arguments[1]))
    return values == {b"False"}


def _longest_word(name: str) -> bytes:
    """Return what a text holds that names something, however that joins its words."""
    return max(name.split("_"), key=len).encode()


def _code_places(text: bytes, name: bytes) -> Iterator[tuple[int, int]]:
    """Yield where a name stands whole to its right, and behind no `#` in its line."""
    for place, end in _places(text, name):
        commented = b"#" in text[text.rfind(b"\n", 0, place) + 1 : place]
        if not commented and not _WORD.match(text, end):
            yield place, end


def _places(text: bytes, name: bytes) -> Iterator[tuple[int, int]]:
    place = text.find(name)
    while place >= 0:
        yield place, place + len(name)
        place = text.find(name, place + len(name))

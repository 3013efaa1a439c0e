"""Reads the plain settings of JSON and YAML files: nested `key: value` lines of numbers and texts.

What is written in any other way is UNKNOWN. That is no YAML reader: anchors, merges, several
documents and all that spans lines are left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from bncheck.graph import UNKNOWN

_LONGEST = 200_000
"""Characters of a file that is looked into: settings that somebody writes are shorter."""

_ENTRY = re.compile(r"""([\w.\-/]+|"[^"\\]*"|'[^']*')\s*:(?:\s+(.*))?$""")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_QUOTED = re.compile(r"""(?:"[^"\\]*"|'[^']*')\s*(?:\s#.*)?$""")
_WORDS = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("null", "~", "none", ""), None),
}


def read(text: str, *, is_json: bool) -> dict[object, object] | None:
    """Return the settings in a text, nested; None where it is no mapping that is understood."""
    if len(text) > _LONGEST:
        return None
    return _json(text) if is_json else _yaml(text)


def _json(text: str) -> dict[object, object] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _plain(found) if isinstance(found, dict) else None


def _plain(found: dict[object, object]) -> dict[object, object]:
    return {
        key: _plain(value)
        if isinstance(value, dict)
        else UNKNOWN
        if isinstance(value, list)
        else value
        for key, value in found.items()
    }


@dataclass(frozen=True)
class _Line:
    indent: int
    text: str


def _yaml(text: str) -> dict[object, object] | None:
    lines = list(_lines(text))
    if any(line.text.startswith(("<<", "---", "...", "%")) for line in lines[1:]):
        return None
    if lines and lines[0].text == "---":
        del lines[0]
    return _block(lines, 0, len(lines)) if lines else None


def _lines(text: str) -> Iterator[_Line]:
    for raw in text.splitlines():
        stripped = raw.strip()
        if stripped and not stripped.startswith("#"):
            yield _Line(len(raw) - len(raw.lstrip()), stripped)


def _block(lines: list[_Line], start: int, end: int) -> dict[object, object] | None:
    """Read the entries from one line up to another; None where one of them is no entry."""
    found: dict[object, object] = {}
    indent = lines[start].indent
    position = start
    while position < end:
        line = lines[position]
        after = position + 1
        while after < end and (
            lines[after].indent > indent
            or (lines[after].indent == indent and lines[after].text.startswith("- "))
        ):
            after += 1
        entry = _ENTRY.match(line.text)
        if entry is None or line.indent != indent:
            return None
        value: object = _scalar(entry[2] or "")
        if after > position + 1:
            inner = _block(lines, position + 1, after) if value is None else None
            value = UNKNOWN if inner is None else inner
        found[entry[1].strip("\"'")] = value
        position = after
    return found


def _scalar(text: str) -> object:
    if _QUOTED.match(text):
        return text[1 : text.index(text[0], 1)]
    text = _COMMENT.sub("", text).strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text[0] in "&*!|>{[\"'`@%":
        return UNKNOWN
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text

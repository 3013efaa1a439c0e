"""Reads settings in JSON and YAML files, as far as they are nested mappings of plain values."""

from __future__ import annotations

import json

from bncheck.graph import UNKNOWN

LONGEST = 200_000
"""Characters of a file that is looked into: settings are shorter."""
_LONGEST_YAML = 50_000
"""The same of YAML, which takes longer to read."""
_MOST_ENTRIES = 10_000
"""Of all mappings together: anchors may stand for a tree that is exponential in the text."""


def read(text: str, *, is_json: bool) -> dict[object, object] | None:
    """Return the settings in a text, nested; None where it is no mapping that is understood.

    What is neither a mapping nor a text, a number, a truth value or None is UNKNOWN.
    """
    if len(text) > (LONGEST if is_json else _LONGEST_YAML):
        return None
    try:
        found = json.loads(text) if is_json else _yaml(text)
        return _plain(found, [_MOST_ENTRIES]) if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        return None


def _yaml(text: str) -> object:
    """Read YAML as scripts do; raise ValueError for what is none."""
    import yaml  # only runs that come to such a file need it

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as problem:
        raise ValueError(str(problem)) from None


def _plain(found: dict[object, object], left: list[int]) -> dict[object, object]:
    left[0] -= len(found)
    if left[0] < 0:
        raise ValueError("more entries than settings have")
    return {
        key: _plain(value, left)
        if isinstance(value, dict)
        else value
        if value is None or isinstance(value, str | int | float)
        else UNKNOWN
        for key, value in found.items()
    }

"""Reads settings in JSON, YAML and TOML files, as far as they map names to plain values."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from enum import Enum

from bncheck.graph import UNKNOWN

LONGEST = 200_000
"""Characters of a file that is looked into: settings are shorter."""
_LONGEST_YAML = 50_000
"""The same of YAML, which takes longer to read."""
_MOST_ENTRIES = 10_000
"""Of all mappings together: anchors may stand for a tree that is exponential in the text."""


class Format(Enum):
    """How a file writes settings; the values are the suffixes of such files."""

    JSON = (".json",)
    YAML = (".yaml", ".yml")
    TOML = (".toml",)


def read(text: str, written: Format) -> dict[object, object] | None:
    """Return the settings in a text, nested; None where it is no mapping that is understood.

    What is neither a mapping nor a text, a number, a truth value or None is UNKNOWN.
    """
    if len(text) > (_LONGEST_YAML if written is Format.YAML else LONGEST):
        return None
    try:
        found = _READERS[written](text)
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


def _toml(text: str) -> object:
    """Read TOML; raise ValueError for what is none."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


_READERS: Mapping[Format, Callable[[str], object]] = {
    Format.JSON: json.loads,
    Format.YAML: _yaml,
    Format.TOML: _toml,
}


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

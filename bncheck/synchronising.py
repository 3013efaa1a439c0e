"""Which files that synchronise BatchNorm have to do with another file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import takewhile
from pathlib import Path

_IMPORTS = re.compile(rb"^[ \t]*(?:from|import)[ \t][^\n]*", re.MULTILINE)
_WORDS = re.compile(rb"\w+")


def around(
    files: Iterable[tuple[Path, bytes]], path: Path, is_package: Callable[[Path], bool]
) -> bool:
    """Tell whether any of the files has to do with another one.

    It lies beside it, shares a package with it, or imports by a folder of its path or its name.
    In a repository of many projects the files of one say nothing of another's.
    """
    return any(_has_to_do(other, text, path, is_package) for other, text in files)


def around_script(files: Iterable[tuple[Path, bytes]], script: Path) -> bool:
    """Tell whether any of the files is a script, or imports it. Others beside it run apart."""
    name = script.stem.encode()
    return any(other == script or name in _imported(text) for other, text in files)


def _imported(text: bytes) -> frozenset[bytes]:
    return frozenset(word for line in _IMPORTS.findall(text) for word in _WORDS.findall(line))


def _has_to_do(other: Path, text: bytes, path: Path, is_package: Callable[[Path], bool]) -> bool:
    pairs = zip(path.parts, other.parts, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    own = {part.encode() for part in path.with_suffix("").parts[shared:]}
    return (
        other.parent == path.parent
        or is_package(Path(*path.parts[:shared]))
        or not own.isdisjoint(_imported(text))
    )

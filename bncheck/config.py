"""Settings of a lint run: defaults, `[tool.bncheck]` of `pyproject.toml`, the command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bncheck.errors import BNCheckError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Settings:
    """What a lint run looks for. Codes may be whole (`BN101`) or prefixes (`BN1`)."""

    select: tuple[str, ...] = ()
    """Only these rules, those that are off by default among them; empty: every default rule."""
    extend_select: tuple[str, ...] = ()
    """These rules too."""
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """Path patterns of files that are passed over."""
    pedantic: bool = False
    """Also show findings that are only possible."""
    minimum_batch_size: int = 8
    """Constant training batches below this are tiny (BN301, BN303, BN401)."""
    mode_managed_by: tuple[str, ...] = field(default=())
    """Qualified names of the project's functions and classes that call train() and eval()."""
    norm_free_models: tuple[str, ...] = field(default=())
    """Qualified names of models and factories that hold no BatchNorm."""
    model_factories: tuple[str, ...] = field(default=())
    """Qualified names of functions that return a model which may hold BatchNorm."""

    def enables(self, code: str, default: bool) -> bool:
        """Tell whether a rule runs; the longest code or prefix that names it decides."""

        def longest(prefixes: tuple[str, ...]) -> int:
            return max((len(p) for p in prefixes if p and code.startswith(p)), default=-1)

        if self.select:
            chosen = max(longest(self.select), longest(self.extend_select))
        else:
            chosen = max(0 if default else -1, longest(self.extend_select))
        return chosen >= 0 and chosen > longest(self.ignore)


def read_settings(start: Path) -> Settings:
    """Return the settings of the nearest `pyproject.toml` with `[tool.bncheck]`, going up.

    Raises BNCheckError for a file that is not TOML, or a key or value that means nothing here.
    """
    for folder in [start, *start.parents]:
        path = folder / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
            raise BNCheckError(f"{path} is not TOML: {problem}; mend it first") from None
        table = tables.get("tool", {}).get("bncheck")
        if table is not None:
            return _from_table(table, path)
    return Settings()


def _from_table(table: dict[str, Any], path: Path) -> Settings:
    known = {f.name.replace("_", "-"): f.name for f in fields(Settings)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise BNCheckError(
                f"{path}: [tool.bncheck] has no setting {key!r}; there are {', '.join(known)}"
            )
        default = getattr(Settings(), known[key])
        if isinstance(default, tuple):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise BNCheckError(f"{path}: {key} must be a list of strings")
            value = tuple(value)
        elif type(value) is not type(default):
            raise BNCheckError(f"{path}: {key} must be of type {type(default).__name__}")
        values[known[key]] = value
    return replace(Settings(), **values)

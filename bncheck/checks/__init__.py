"""The checks: one module per rule, named as its page, each a typed function under `@check`.

Checks are found, never listed. They import `graph`, `timeline` and `findings` only, so that the
same function runs on source and on traced models.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from bncheck.findings import Match

Subject = TypeVar("Subject")
CheckFunction = Callable[[Subject], Iterable[Match]]


@dataclass(frozen=True)
class Check:
    """One rule's function and the type of what it looks at."""

    code: str
    subject: type
    function: Callable[[Any], Iterable[Match]]
    unapplied: bool = False
    """Whether it also judges layers that no forward applies."""


_found: dict[str, Check] = {}


def check(
    code: str, subject: type[Subject], *, unapplied: bool = False
) -> Callable[[CheckFunction[Subject]], CheckFunction[Subject]]:
    """Register the function that implements rule `code` on a `subject`, such as `LayerGraph`."""

    def register(function: CheckFunction[Subject]) -> CheckFunction[Subject]:
        if code in _found and _found[code].function is not function:
            raise ValueError(f"rule {code} has two checks")
        _found[code] = Check(code, subject, function, unapplied)
        return function

    return register


@cache
def all_checks() -> dict[str, Check]:
    """Import every module of this package and return the checks in it, by code."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_found.items()))

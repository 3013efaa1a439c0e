"""How much of the networks of a run was read, and why not all: what `--statistics` shows."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

ERRORS = "errors in bncheck itself"
_INTERNAL = "internal"


@dataclass
class Understanding:
    """How much of the networks was read."""

    fully: int = 0
    partly: int = 0
    given_up: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)
    scripts_given_up: Counter[str] = field(default_factory=Counter)
    """Files of which what happens to models could not be followed."""
    alike: int = 0
    """Factories that were passed over, since they vary what was read and nothing is open in it."""
    without_norm: int = 0
    """Classes and functions that were passed over, since nothing in their reach is a BatchNorm."""

    def counts(self) -> dict[str, int]:
        """Return what `--statistics` shows: how many networks were read how far, and why not."""
        return {
            "networks read fully": self.fully,
            "networks read partly": self.partly,
            "networks given up": sum(self.given_up.values()),
            "scripts given up": sum(self.scripts_given_up.values()),
            "passed over, variants of what was read": self.alike,
            "passed over, no BatchNorm in reach": self.without_norm,
            **({ERRORS: errors} if (errors := self._own_errors()) else {}),
            **{f"given up: {reason}": count for reason, count in _most(self.given_up)},
            **{f"script: {reason}": count for reason, count in _most(self.scripts_given_up)},
            **{f"not understood: {reason}": count for reason, count in _most(self.doubts)},
        }

    def _own_errors(self) -> int:
        """Return how many networks, scripts and layers an error of a reader left unread."""
        return sum(
            count
            for table in (self.given_up, self.scripts_given_up, self.doubts)
            for reason, count in table.items()
            if reason.startswith(_INTERNAL)
        )


def internal(problem: Exception) -> str:
    """Return the reason to count for an error in a reader itself: no source may stop the linter.

    The error is raised where BNCHECK_STRICT is set in the environment, as the tests do.
    """
    if os.environ.get("BNCHECK_STRICT"):
        raise problem
    return f"{_INTERNAL} {type(problem).__name__}"


def _most(table: Counter[str]) -> list[tuple[str, int]]:
    return sorted(table.items(), key=lambda item: (-item[1], item[0]))[:15]

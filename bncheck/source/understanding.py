"""How much of the networks of a run was read, and why not all: what `--statistics` shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Understanding:
    """How much of the networks was read."""

    fully: int = 0
    partly: int = 0
    given_up: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)
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
            "passed over, variants of what was read": self.alike,
            "passed over, no BatchNorm in reach": self.without_norm,
            **{f"given up: {reason}": count for reason, count in _most(self.given_up)},
            **{f"not understood: {reason}": count for reason, count in _most(self.doubts)},
        }


def _most(table: Counter[str]) -> list[tuple[str, int]]:
    return sorted(table.items(), key=lambda item: (-item[1], item[0]))[:15]

"""What a conversion did to each BatchNorm, in the same words for all conversions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bncheck.verification.compare import Verification


@dataclass(frozen=True)
class Step:
    """One BatchNorm that is converted."""

    batch_norm: str
    into: str
    """What takes it up or takes its place; several separated by commas."""
    how: str


@dataclass(frozen=True)
class Refusal:
    """One BatchNorm that stays, and why."""

    batch_norm: str
    reason: str


@dataclass(frozen=True)
class Conversion:
    """A converted model and how it came about."""

    model: Any
    steps: tuple[Step, ...]
    refusals: tuple[Refusal, ...]
    verification: Verification | None
    """None where it was not asked for."""
    notes: tuple[str, ...] = ()

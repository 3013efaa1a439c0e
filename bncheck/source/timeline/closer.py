"""Asks, on a closer look, whether a network that a script makes or a part of it holds norms."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bncheck.events import Fact
from bncheck.source.project import Defined, Project
from bncheck.source.single import Given, holds_batch_norm


@dataclass(frozen=True)
class CloserLook:
    """A network of the project, or one of its attributes, constructed only when it is asked."""

    definition: Defined
    project: Project
    given: Given
    part: str = ""

    def __call__(self) -> Fact:
        """Construct the network and look for BatchNorm; the answer is kept for the next time."""
        return holds_batch_norm(self.definition, self.project, self.given, self.part)

    def at(self, part: str) -> CloserLook:
        """Return the same for an attribute of the network."""
        return replace(self, part=f"{self.part}.{part}" if self.part else part)

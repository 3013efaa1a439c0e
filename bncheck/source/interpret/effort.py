"""How much work one interpretation may take, and how much of it a call from which nothing comes.

A class that inherits from a large library's base runs that base's constructor, which may be more
work than the network itself and makes no layer. So a call may use three quarters of what its
caller has left, and all there is as soon as a layer is made or applied in it. A call that uses its
share up is abandoned by itself: what it gives, and what it changed, is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bncheck.source.interpret.problems import FruitlessError, GiveUpError

_SHARE: Final = 10_000
"""Work without a layer; the outermost call, which is the network itself, is not held to it."""
_SHARE_APART: Final = 7_500
"""Work for the value of a global name."""
_AMPLE: Final = 1_000
"""A call that used up less than this says little of its function: its caller had little left."""
_SMALLEST_SHARE: Final = 400
"""Enough for any function that computes a few numbers."""

Share = tuple[int, int, int]


@dataclass(eq=False, kw_only=True)
class Effort:
    """Counts the work of one interpretation."""

    limit: int = 40_000
    """Work for all of it."""
    steps: int = 0
    _share: int = _SHARE
    """Of the running call."""
    _since: int = 0
    """At which step it began, or a layer last came of it."""
    _stop: int = 0
    """At which step it is to end."""
    _last_layer: int = -1
    """At which step a layer was last made or applied."""

    def __post_init__(self) -> None:
        self._stop = self.limit

    def extend(self, limit: int) -> None:
        """Set another bound for all of the work; no call may be running."""
        self.limit = self._stop = limit

    def step(self, work: int = 1) -> None:
        """Count work; raise GiveUpError past the bound, FruitlessError past the call's share."""
        self.steps += work
        if self.steps > self._stop:
            if self.steps > self.limit:
                raise GiveUpError("too much work")
            raise FruitlessError

    def begin(self, abandoned: int = 0) -> Share:
        """Begin a call; one that was abandoned before gets half as much each time."""
        around = self._share, self._since, self._stop
        idle = 0 if self._stop == self.limit else self.steps - self._since
        left = (self._share - idle) * 3 >> (2 + abandoned)
        self._share = left if left > _SMALLEST_SHARE else _SMALLEST_SHARE
        self._since = self.steps
        outermost = around[0] == _SHARE
        self._stop = self.limit if outermost else min(self.steps + self._share, self.limit)
        return around

    def begin_apart(self) -> Share:
        """Begin what is done once for all that comes after, whoever asks for it first."""
        around = self._share, self._since, self._stop
        self._share, self._since = _SHARE_APART, self.steps
        self._stop = min(self.steps + _SHARE_APART, self.limit)
        return around

    @property
    def is_ample(self) -> bool:
        """Whether the running call has a share of its own that is worth the name."""
        return self._share >= _AMPLE

    def end(self, around: Share) -> None:
        """End the call that began last; a layer that came of it came of its caller."""
        self._share, self._since, self._stop = around
        if self._last_layer >= self._since:
            self._since, self._stop = self._last_layer, self.limit

    def layer(self) -> None:
        """Note that a layer is made or applied: the running calls lead somewhere."""
        self._last_layer = self._since = self.steps
        self._stop = self.limit

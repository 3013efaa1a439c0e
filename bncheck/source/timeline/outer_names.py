"""Names of an enclosing frame that a function assigns, over the ways of a branch."""

from __future__ import annotations

from bncheck.source.timeline.joining import join_states
from bncheck.source.timeline.values import Frame, Value


class OuterNames:
    """What `global model` stands for on each way, so that no way sees what another assigns."""

    def __init__(self, frame: Frame) -> None:
        self._frames = list(dict.fromkeys(frame.outside.values()))
        self._before = [dict(outer.names) for outer in self._frames]
        self._after: list[list[dict[str, Value]]] = []

    def begin(self) -> None:
        """Start another way from what was before the branch."""
        for outer, names in zip(self._frames, self._before, strict=True):
            outer.names = dict(names)

    def keep(self) -> None:
        """Note what a way leaves behind."""
        self._after.append([outer.names for outer in self._frames])

    def join(self, usual: int | None) -> None:
        """Give the names what they stand for after the branch; `usual` is the usual way kept."""
        self.begin()
        for outer, *states in zip(self._frames, *self._after, strict=True):
            if states:
                outer.names = join_states(states, usual)

"""Statements that were meant to switch a model's mode and do not: what BN203 tells of.

The other rules take each for the call that it was meant to be, so that one mistake is told once.
This module imports neither libcst nor torch.
"""

from __future__ import annotations

from functools import lru_cache

from bncheck.events import Mode, ModeChange, ModeNotCalled, Origin, Target
from bncheck.findings import Confidence
from bncheck.timeline import Timeline
from bncheck.usage import confidence


@lru_cache(maxsize=4)
def uncalled(timeline: Timeline) -> dict[ModeNotCalled, Confidence]:
    """Return the statements that name a mode and switch nothing, or the root only."""
    found = {}
    for _, event in timeline.of(ModeNotCalled):
        if event.assigned and (event.model.origin is Origin.SELF or event.mode is Mode.UNKNOWN):
            continue
        if event.assigned and _is_called_as_well(timeline, event):
            continue
        known = confidence(timeline, event.model, Confidence.PROVEN)
        if known is Confidence.POSSIBLE and timeline.shows_batch_norm and not event.assigned:
            known = Confidence.LIKELY
        if known is not None:
            found[event] = known
    return found


def told_of(timeline: Timeline, event: ModeNotCalled) -> bool:
    """Tell whether BN203 is sure enough of a statement to speak for what comes of it."""
    return uncalled(timeline).get(event, Confidence.POSSIBLE) is not Confidence.POSSIBLE


def _is_called_as_well(timeline: Timeline, event: ModeNotCalled) -> bool:
    """Tell whether the whole model is put in the same mode by a call, beside the assignment."""
    return any(
        change.model is event.model and change.mode is event.mode and change.target is Target.WHOLE
        for _, change in timeline.of(ModeChange)
    )

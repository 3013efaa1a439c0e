"""BN214: momentum 0 taken for a freeze."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import (
    BackwardCall,
    Mode,
    ModeChange,
    Model,
    SetMomentum,
    Target,
    UpdateStatistics,
)
from bncheck.findings import Confidence, Match
from bncheck.paths import assurance
from bncheck.timeline import Timeline


@check("BN214", Timeline)
def momentum_zero_freeze(timeline: Timeline) -> Iterator[Match]:
    """Yield each `momentum = 0` over BatchNorm layers that nothing puts in eval mode."""
    frozen = {
        event.model
        for _, event in timeline.of(ModeChange)
        if event.mode is Mode.EVAL and event.target is Target.NORMS
    }
    recalibrated = {event.model for _, event in timeline.of(UpdateStatistics)}
    momenta = [event for _, event in timeline.of(SetMomentum)]
    restored = {
        event
        for event in momenta
        if any(other.model is event.model and other.value != 0 for other in momenta)
    }
    for event in momenta:
        if event.model in frozen | recalibrated or _is_for_evaluation(timeline, event.model):
            continue
        if isinstance(event.value, bool) or event.value != 0 or event.saved or event in restored:
            continue
        sure = assurance(event.model)
        if any("BatchNorm" in name for name in event.classes):
            sure = Confidence.LIKELY
        if sure is not None:
            yield Match(
                event.site,
                "momentum 0 stops the running statistics, but in train mode BatchNorm still "
                "normalises by the batch: training and evaluation then differ",
                "call eval() on these layers after every train() instead",
                sure,
            )


def _is_for_evaluation(timeline: Timeline, model: Model) -> bool:
    """Tell whether a network is put in eval mode, and nothing trains it or says `train()`."""
    modes = {
        event.mode
        for _, event in timeline.of(ModeChange)
        if event.target is Target.WHOLE and model.within(event.model)
    }
    return modes == {Mode.EVAL} and not timeline.of(BackwardCall)

"""BN501: averaged weights with BatchNorm statistics of another model."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import (
    AverageUpdate,
    Copied,
    Escape,
    Event,
    ForwardCall,
    LoadWeights,
    Mode,
    ModeChange,
    Model,
    Origin,
    UpdateStatistics,
    Wrap,
    WrapKind,
)
from bncheck.findings import Confidence, Match
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.paths import Moment, assurance, moments
from bncheck.timeline import Timeline

_HINT = (
    "average or copy the buffers too, or compute the statistics anew with "
    "torch.optim.swa_utils.update_bn before evaluating"
)
_EXPONENTIAL = ("avg_fn", "multi_avg_fn")
"""With these an AveragedModel follows the model so closely that its latest buffers fit."""


@check("BN501", Timeline)
def average_without_statistics(timeline: Timeline) -> Iterator[Match]:
    """Yield each average of weights that is evaluated with statistics that are not its own."""
    if not timeline.of(Wrap) and not timeline.of(AverageUpdate):
        return
    if timeline.only_evaluated:
        yield from _in_lightning(timeline)
        return
    reached = moments(timeline)
    events = [moment.event for moment in reached]
    seen: set[Site] = set()
    for position, event in enumerate(events):
        if event.site in seen:
            continue
        subject: Model
        unseen = False
        match event:
            case Wrap(kind=WrapKind.AVERAGED, model=source, result=averaged, keywords=keywords):
                if not event.function.endswith("swa_utils.AveragedModel"):
                    continue
                if keywords.get("use_buffers", False) is not False:
                    continue
                if any(name in keywords for name in _EXPONENTIAL):
                    continue
                if _mended(events, position, averaged or source):
                    continue
                modes = _modes_of_forwards(reached, averaged) if averaged is not None else set()
                if modes - {Mode.EVAL}:
                    continue  # It computes statistics of its own.
                subject = source
                message = (
                    f"the average of {called(source)} takes over the running statistics of the "
                    "last model that it saw, which are not those of its averaged weights"
                )
            case AverageUpdate(model=averaged, source=source, buffers=False):
                if _mended(events, position, averaged):
                    continue
                modes = _modes_of_forwards(reached, averaged)
                if modes - {Mode.EVAL}:
                    continue  # It has statistics of its own.
                unseen = not modes and not _for_evaluation(events, averaged)
                if source is not None and assurance(averaged) is None:
                    continue
                subject = source or averaged
                message = _only_parameters(averaged)
            case _:
                continue
        sure = assurance(subject)
        if sure is not None:
            if unseen:
                sure = Confidence.POSSIBLE
            if sure is not Confidence.POSSIBLE:  # Else another average there may be surer.
                seen.add(event.site)
            yield Match(event.site, message, _HINT, sure)


def _only_parameters(averaged: Model) -> str:
    return (
        f"only parameters are averaged into {called(averaged)}: its BatchNorm layers "
        "keep running statistics that its weights never saw"
    )


def _in_lightning(timeline: Timeline) -> Iterator[Match]:
    """Yield the averages that a LightningModule evaluates and does not run in training steps."""
    for _, event in timeline.of(AverageUpdate):
        averaged = event.model
        sure = assurance(event.source or averaged)
        if (
            sure is not None
            and event.buffers is False
            and averaged.parent is not None
            and averaged.parent.origin is Origin.SELF
            and averaged.name.removeprefix("self.") in timeline.only_evaluated
        ):
            yield Match(event.site, _only_parameters(averaged), _HINT, sure)


def _mended(events: list[Event], position: int, averaged: Model) -> bool:
    """Tell whether anything may mend the statistics; what is loaded or copied before does not."""
    return any(
        (_mends(event, averaged) and (after > position or not isinstance(event, LoadWeights)))
        or (after > position and _copied_and_mended(events, after, averaged))
        for after, event in enumerate(events)
    )


def _copied_and_mended(events: list[Event], position: int, averaged: Model) -> bool:
    """Tell whether a copy is taken that is mended itself, or trained on."""
    match events[position]:
        case Copied(model=copy, source=source) if source is averaged:
            return any(
                isinstance(event, ForwardCall) and copy.within(event.model) for event in events
            ) or _mended(events, position, copy)
    return False


def _mends(event: Event, averaged: Model) -> bool:
    """Tell whether an event may give the averaged model statistics of its own."""
    match event:
        case UpdateStatistics(model=model) | Escape(model=model) | LoadWeights(model=model):
            return averaged.within(model) or model.within(averaged)
        case AverageUpdate(model=model, buffers=buffers):
            return model is averaged and buffers is not False
    return False


def _modes_of_forwards(reached: list[Moment], averaged: Model) -> set[Mode]:
    """Return the modes in which the averaged model runs; by itself, or with what it is part of."""
    called = [(m, m.event.model) for m in reached if isinstance(m.event, ForwardCall)]
    own = [moment for moment, model in called if model is averaged]
    around = [moment for moment, model in called if averaged.within(model)]
    return {mode for moment in own or around for mode in moment.modes(averaged)}


def _for_evaluation(events: list[Event], averaged: Model) -> bool:
    """Tell whether an averaged model is put in eval mode, and never in another."""
    changes = [e for e in events if isinstance(e, ModeChange) and averaged.within(e.model)]
    return bool(changes) and all(change.mode is Mode.EVAL for change in changes)

"""BN203: `model.eval` without parentheses, or `model.training = False`."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Mode, ModeChange, ModeNotCalled, Origin, Target
from bncheck.findings import Confidence, Fix, Match, Replace
from bncheck.timeline import Timeline
from bncheck.usage import confidence


@check("BN203", Timeline)
def mode_not_called(timeline: Timeline) -> Iterator[Match]:
    """Yield each statement that was meant to switch a model's mode and does not."""
    for _, event in timeline.of(ModeNotCalled):
        if event.assigned and (event.model.origin is Origin.SELF or event.mode is Mode.UNKNOWN):
            continue
        if event.assigned and _is_called_as_well(timeline, event):
            continue
        known = confidence(timeline, event.model, Confidence.PROVEN)
        if known is Confidence.POSSIBLE and timeline.shows_batch_norm and not event.assigned:
            known = Confidence.LIKELY
        if known is None:
            continue
        if event.assigned:
            call = "eval()" if event.mode is Mode.EVAL else "train()"
            yield Match(
                event.site,
                f"assigning `{event.text}` reaches the root module only: the BatchNorm layers "
                "inside keep their mode",
                f"call `{event.model.name}.{call}`, which goes through all modules",
                confidence=known,
            )
        else:
            yield Match(
                event.site,
                f"`{event.text}` is only named, not called: the mode does not change",
                "add the parentheses",
                confidence=known,
                fix=Fix("Add the parentheses", (Replace(event.site, f"{event.text}()"),), True),
            )


def _is_called_as_well(timeline: Timeline, event: ModeNotCalled) -> bool:
    """Tell whether the whole model is put in the same mode by a call, beside the assignment."""
    return any(
        change.model is event.model and change.mode is event.mode and change.target is Target.WHOLE
        for _, change in timeline.of(ModeChange)
    )

"""BN204: a model captured for deployment while it is in train mode."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Export, ExportKind
from bncheck.findings import Confidence, Match
from bncheck.mode_flow import mode_flow
from bncheck.naming import called
from bncheck.timeline import Timeline
from bncheck.usage import confidence, has_weights, managed, may_train

_HARM = {
    ExportKind.TRACE: "the trace keeps batch statistics, even after `.eval()`",
    ExportKind.PROGRAM: "the program keeps batch statistics, and has no `eval()`",
    ExportKind.SCRIPT: "the saved module is in train mode for whoever loads it",
    ExportKind.QUANTIZATION: "calibration moves BatchNorm's statistics and can't fuse it",
}
"""What goes wrong, measured with torch 2.13. torch.onnx.export exports BatchNorm as in eval mode
by itself, and torch.compile compiles again when the mode changes: they are not here."""


@check("BN204", Timeline)
def export_in_train_mode(timeline: Timeline) -> Iterator[Match]:
    """Yield each export that captures a model in train mode on every path."""
    for occurrence, event in timeline.of(Export):
        if event.kind not in _HARM:
            continue
        if event.kind is ExportKind.SCRIPT and event.saved is not True:
            continue
        if managed(timeline, event.model):
            continue
        flow = mode_flow(timeline)
        facts = flow.before(event)
        if not flow.never_in_eval(event) or flow.parts_in_eval(event):
            continue
        known = confidence(timeline, event.model, Confidence.PROVEN)
        trained = any(fact.trained or fact.trained_before for fact in facts)
        if known is not None and not trained:
            # Before training, a model is captured to see whether it can be.
            trains_later = may_train(timeline, event.model, occurrence)
            if trains_later or not has_weights(timeline, event.model):
                known = Confidence.POSSIBLE
        if known is not None:
            yield Match(
                event.site,
                f"{called(event.model)} is in train mode when {event.kind.value} captures it: "
                f"{_HARM[event.kind]}",
                f"call `{event.model.name}.eval()` first",
                confidence=known,
            )

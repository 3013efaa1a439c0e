"""BN207: a `train` method that `eval()` can't use."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Confidence, Match, Severity
from bncheck.timeline import ModuleClass, Timeline, TrainOverride


@check("BN207", Timeline)
def train_override(timeline: Timeline) -> Iterator[Match]:
    """Yield each `train` method that ignores its mode, lacks it, or does not return self."""
    for network in timeline.classes:
        override = network.train
        if override is None or override.trains_a_model:
            continue
        known = _confidence(network, override)
        if known is not None:
            yield from _match(network, override, known)


def _confidence(network: ModuleClass, override: TrainOverride) -> Confidence | None:
    if network.holds_batch_norm is True:
        return Confidence.PROVEN
    if override.speaks_of_batch_norm:
        # What is put in eval mode there comes from outside the class.
        return Confidence.LIKELY
    return None if network.holds_batch_norm is False else Confidence.POSSIBLE


def _match(network: ModuleClass, override: TrainOverride, known: Confidence) -> Iterator[Match]:
    name = f"`{network.name}.train`"
    surely = network.holds_batch_norm is True
    if not override.takes_mode:
        yield Match(
            override.site,
            f"{name} takes no mode, but eval() calls train(False): it raises TypeError",
            "write `def train(self, mode=True)`, hand mode to super().train(mode), return self",
            confidence=known,
        )
    elif override.passes_mode is False and override.forces_training:
        yield Match(
            override.site,
            f"{name} ignores its mode: eval() calls train(False), and the model stays in training",
            "hand the mode on: `super().train(mode)`",
            confidence=known,
        )
    elif override.returns_self is False:
        yield Match(
            override.site,
            f"{name} does not return self: `model = model.eval()` makes model None",
            "end with `return self`, as Module.train does",
            confidence=known if surely and override.result_used else Confidence.POSSIBLE,
            severity=Severity.NOTE,
        )

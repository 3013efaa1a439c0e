"""BN502: activation checkpointing runs BatchNorm twice per step."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import CheckpointCall, Mode
from bncheck.findings import Confidence, Match
from bncheck.graph import Site
from bncheck.paths import assurance, moments
from bncheck.timeline import Timeline


@check("BN502", Timeline)
def checkpointed_norm(timeline: Timeline) -> Iterator[Match]:
    """Yield each checkpointed module with BatchNorm, unless it is in eval mode."""
    found: dict[Site, Match] = {}
    for moment in moments(timeline) if timeline.of(CheckpointCall) else ():
        call = moment.event
        if (
            not isinstance(call, CheckpointCall)
            or call.compensated is not False
            or moment.occurrence.gradient is False
            or Mode.EVAL in moment.modes(call.model)
        ):
            continue
        sure = assurance(call.model) if call.direct else Confidence.POSSIBLE
        if assurance(call.model) is None or sure is None:
            continue
        # A function that is checkpointed may use several parts: the surest one is told of.
        if call.site not in found or found[call.site].confidence is Confidence.POSSIBLE:
            found[call.site] = Match(
                call.site,
                f"`{call.model.name}` holds BatchNorm and runs twice per training step when it is "
                "checkpointed: its running statistics are updated twice with the same batch",
                "set the momentum of these layers to 1 - sqrt(1 - momentum), or checkpoint parts "
                "without BatchNorm",
                sure,
            )
    yield from found.values()

"""BN502: activation checkpointing runs BatchNorm twice per step."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import CheckpointCall, Mode
from bncheck.findings import Confidence, Match
from bncheck.graph import Site
from bncheck.paths import Moment, assurance, moments
from bncheck.timeline import Branch, Timeline
from bncheck.usage import root


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
            or _is_turned_off(timeline, moment, call)
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


def _is_turned_off(timeline: Timeline, moment: Moment, call: CheckpointCall) -> bool:
    """Tell whether a switch of the network asks for it, which all that make one turn off."""
    name = root(call.model).type_name.rpartition(".")[2]
    conditions = (b.condition for b in moment.occurrence.inside if isinstance(b, Branch))
    asked = {word for condition in conditions for word in condition.split()} - {"self"}
    return bool(name) and any(timeline.said.turn_off(name, option) for option in asked)

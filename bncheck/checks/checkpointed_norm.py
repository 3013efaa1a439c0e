"""BN502: activation checkpointing runs BatchNorm twice per step."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import CheckpointCall, Exit, Leave, Mode
from bncheck.findings import Confidence, Match, Severity
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.paths import Moment, assurance, moments
from bncheck.timeline import Branch, Occurrence, Step, Timeline, children
from bncheck.usage import root

_SWITCH = re.compile(r"check_?point|ckpt|(?:^|_)cp(?:_|$)|mem|efficient|recomput|remat", re.I)
"""Names of what asks for checkpointing: `use_checkpoint`, `with_cp`, `memory_efficient`."""


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
            switch = _switch_that_is_off(timeline, moment.occurrence, call)
            when = f", which counts once `{switch}` is on" if switch else ""
            found[call.site] = Match(
                call.site,
                f"{called(call.model)} holds BatchNorm and runs twice per training step when it "
                f"is checkpointed{when}: its running statistics are updated twice with the same "
                "batch",
                "set the momentum of these layers to 1 - sqrt(1 - momentum), or checkpoint parts "
                "without BatchNorm",
                sure,
                severity=Severity.NOTE if switch else None,
            )
    yield from found.values()


def _is_turned_off(timeline: Timeline, moment: Moment, call: CheckpointCall) -> bool:
    """Tell whether a switch of the network asks for it, which all that make one turn off."""
    name = root(call.model).type_name.rpartition(".")[2]
    conditions = (b.condition for b in moment.occurrence.inside if isinstance(b, Branch))
    asked = {word for condition in conditions for word in condition.split()} - {"self"}
    return bool(name) and any(timeline.said.turn_off(name, option) for option in asked)


def _switch_that_is_off(timeline: Timeline, occurrence: Occurrence, call: CheckpointCall) -> str:
    """Return the switch that asks for it, where it is off and nothing in the project turns it on.

    Empty: there is none, or it is not known to be off.
    """
    for name in _asked(timeline, occurrence):
        if _SWITCH.search(name) and timeline.said.leave_off(name) and not call.is_set(name):
            return name
    return ""


def _asked(timeline: Timeline, occurrence: Occurrence) -> Iterator[str]:
    """Yield the names in the conditions that it depends on, the innermost first.

    Those before it whose other way returns are among them.
    """
    blocks = (None, *occurrence.inside)
    inner = (*occurrence.inside, occurrence.event)
    for block, step in zip(reversed(blocks), reversed(inner), strict=True):
        if isinstance(block, Branch):
            yield from block.condition.split()
        for steps in (timeline.steps,) if block is None else children(block):
            if step in steps:
                for before in steps[: steps.index(step)]:
                    if isinstance(before, Branch) and any(map(_returns, before.alternatives)):
                        yield from before.condition.split()


def _returns(steps: tuple[Step, ...]) -> bool:
    return any(isinstance(step, Leave) and step.exit is Exit.RETURN for step in steps)

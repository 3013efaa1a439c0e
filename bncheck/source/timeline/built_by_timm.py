"""Networks of the project that timm's `build_model_with_cfg` makes."""

from __future__ import annotations

import libcst as cst

from bncheck.events import LoadWeights
from bncheck.source.timeline import calls
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Class, Function, Models, Value, truth
from bncheck.source.timm_builder import TIMM_BUILDERS, of_the_network


def call(
    run: Run, node: cst.Call, name: str, network: Value | None, arguments: Arguments
) -> Value | None:
    """Make the network that the builder is given, which may load its weights; None: no builder."""
    if name not in TIMM_BUILDERS or not isinstance(network, Class | Function):
        return None
    given = Arguments([], of_the_network(arguments.keywords), arguments.complete)
    made = calls.call_value(run, node, network, given)
    pretrained = arguments.get(2, "pretrained")
    if isinstance(made, Models) and pretrained is not None and truth(pretrained) is True:
        for model in made.models:
            run.emit(LoadWeights(run.site(node), model))
    return made

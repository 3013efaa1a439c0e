"""BN108: a functional batch norm that ignores the module's mode."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Fix, Match, SetKeyword
from bncheck.graph import Kind, LayerGraph

_TRAINING_POSITION = 5
"""F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)."""


@check("BN108", LayerGraph)
def hard_coded_training(graph: LayerGraph) -> Iterator[Match]:
    """Yield each functional batch norm with running statistics of the module and a fixed mode."""
    for node in graph.of_kind(Kind.BATCH_NORM):
        if node.get("functional") is not True or node.site is None:
            continue
        if node.get("running_statistics") is not True:
            continue
        if node.get("training") is True:
            message = "training=True also normalises by the batch, and moves the running "
            message += "statistics, in eval mode"
        elif node.get("training_given") is False:
            message = "training is left out and False by default: the running statistics are "
            message += "never updated, also in training"
        else:
            continue
        change = SetKeyword(node.site, "training", "self.training", _TRAINING_POSITION)
        yield Match(
            node.site,
            message,
            "pass training=self.training",
            fix=Fix("Set training=self.training", (change,), safe=False),
        )

"""Instance norms by running statistics: in eval mode they compute what a BatchNorm does."""

from __future__ import annotations

from torch import nn

from bncheck.graph import Kind, Node
from bncheck.model.trace import TracedModel
from bncheck.model.traced_call import TracedCall


def read_as_batch_norms(traced: TracedModel) -> None:
    """Make instance norms that do not look at the instance BatchNorms in the graph, in place."""
    for node in traced.graph.of_kind(Kind.INSTANCE_NORM):
        if _by_running_statistics(traced.model, node, traced.calls[node]):
            node.kind = Kind.BATCH_NORM


def _by_running_statistics(model: nn.Module, node: Node, call: TracedCall) -> bool:
    if call.arguments.get("training") is not False or not node.shape:
        return False
    if call.source.op == "call_module":
        # One without a batch has its channels first, where a BatchNorm would not look for them.
        name = type(model.get_submodule(str(call.source.target))).__name__
        return name == f"InstanceNorm{len(node.shape) - 2}d"
    return "running_mean" in node.parameters

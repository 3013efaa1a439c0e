"""Makes the calls of a traced graph again: on other tensors, or on parameters alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from bncheck.graph import Node
from bncheck.model.traced_call import NOTHING_STORED, Constant, Stored


def replay(
    graph_module: fx.GraphModule,
    called: fx.Node,
    environment: Mapping[fx.Node, Any],
    stored: Stored,
    shape_only: bool,
) -> Callable[[Sequence[torch.Tensor]], Any]:
    """Return what makes a call again with other tensors, on the CPU, in the place of its inputs.

    `environment` says what each argument is; with `shape_only`, all but the first place count by
    their shapes alone.
    """

    def run(inputs: Sequence[torch.Tensor]) -> Any:
        given = iter(inputs)

        def value(argument: fx.Node) -> Any:
            known = environment[argument]
            if isinstance(known, Node):
                rest = (torch.zeros(1).expand(known.shape or ()),) if shape_only else ()
                return next(given, *rest)
            if isinstance(known, Constant):
                return _on_the_cpu(evaluate(graph_module, known.source, stored))
            return known

        arguments = fx.node.map_arg((called.args, called.kwargs), value)
        return _call(graph_module, called, *fx.node.map_aggregate(arguments, _on_the_cpu))

    return run


def _on_the_cpu(value: Any) -> Any:
    """Return what a call on tensors of the CPU takes in the place of a tensor or device."""
    match value:
        case torch.Tensor():
            return value.cpu()
        case torch.device():
            return torch.device("cpu")
    return value


def evaluate(graph_module: fx.GraphModule, node: fx.Node, stored: Stored = NOTHING_STORED) -> Any:
    """Compute a node that depends on parameters and buffers alone."""
    if node.op == "placeholder":
        return stored[node][1]
    if node.op == "get_attr":
        value: Any = graph_module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value
    arguments = fx.node.map_arg(
        (node.args, node.kwargs), lambda a: evaluate(graph_module, a, stored)
    )
    with torch.no_grad():
        return _call(graph_module, node, *arguments)


def _call(graph_module: fx.GraphModule, node: fx.Node, args: Any, kwargs: Any) -> Any:
    target: Any = node.target
    if node.op == "call_module":
        return graph_module.get_submodule(target)(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], target)(*args[1:], **kwargs)
    return target(*args, **kwargs)

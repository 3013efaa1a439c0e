"""Traces a model with torch.export: needs an example input, specialises on its shapes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from bncheck.model.trace_fx import shows_values


def trace_export(
    model: nn.Module, inputs: Sequence[Any], keywords: Mapping[str, Any]
) -> fx.GraphModule:
    """Trace `model` on example inputs; the graph reads parameters by the model's own names.

    Raises whatever torch.export raises for a model that it cannot trace.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, tuple(inputs), dict(keywords), strict=False)
        return program_graph(program)


def nodes_seen_by_hooks(graph_module: fx.GraphModule, model: nn.Module) -> list[fx.Node]:
    """Return the nodes whose values go into or come out of a module with hooks."""
    paths = [path for path, module in model.named_modules() if path and shows_values(module)]
    found: list[fx.Node] = []
    for path in paths:
        inside = {n for n in graph_module.graph.nodes if _is_inside(n, path)}
        for node in graph_module.graph.nodes:
            if any((user in inside) != (node in inside) for user in node.users):
                found.append(node)
    return found


def _is_inside(node: fx.Node, path: str) -> bool:
    stack = node.meta.get("nn_module_stack") or {}
    return any(str(entry[0]) == path for entry in stack.values() if isinstance(entry, tuple))


def program_graph(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """Return the program's graph with parameters as attributes, without its input guards."""
    graph_module = program.module()
    assert isinstance(graph_module, fx.GraphModule)
    for node in list(graph_module.graph.nodes):
        if node.op == "call_module" and str(node.target) == "_guards_fn" and not node.users:
            graph_module.graph.erase_node(node)
    graph_module.recompile()
    return graph_module

"""Reads a TorchScript module into a `LayerGraph`, by way of a torch.fx graph of the same calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from bncheck.errors import BNCheckError
from bncheck.graph import Kind, LayerGraph, Node, Site
from bncheck.model.affine import merge_affine_chains
from bncheck.model.normalise import normalise
from bncheck.model.observe import observe
from bncheck.model.operations import Call
from bncheck.model.script_graph import inlined, read_beside_forward, reloaded
from bncheck.model.script_operators import UnreadableScriptError
from bncheck.model.script_reader import read_script
from bncheck.model.trace import TracedModel, same_results
from bncheck.model.traced_call import TracedCall


def trace_script(
    module: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[TracedModel, list[str]]:
    """Read a `ScriptModule` on example inputs, which the graph must answer as the module does.

    Also returns the names of the BatchNorms that run under a condition or in a loop.

    Raises BNCheckError where the module does not run on the inputs, UnreadableScriptError where
    it calls what is not understood.
    """
    wanted = _answer(module, inputs, keywords)
    copied = inlined(module)
    script = read_script(copied)
    root = fx.GraphModule(nn.Module(), script.graph)
    given = iter(_in_order(module, inputs, keywords))
    flat = [
        script.stored[node][1] if node in script.stored else next(given)
        for node in script.graph.find_nodes(op="placeholder")
    ]
    try:
        seen = observe(root, flat)
    except Exception as problem:
        raise UnreadableScriptError(
            f"the TorchScript was not understood: {str(problem).strip().partition(chr(10))[0]}"
        ) from problem
    if not same_results(wanted, seen.output):
        raise UnreadableScriptError("the TorchScript computes something else than was read")
    graph, calls = normalise(root, root, seen, (), script.stored)
    merge_affine_chains(graph, calls, root)
    tensors = dict(script.stored.values())
    tensors.update({name: script.stored[node][1] for name, node in script.names.items()})
    _add_other_methods(copied, graph, calls, tensors)
    traced = TracedModel(root, graph, root, calls, "script", (), wanted, tensors, script.stored)
    return traced, script.hidden


def _add_other_methods(
    module: Any,
    graph: LayerGraph,
    calls: dict[Node, TracedCall],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Add what other methods than `forward` read, as nodes that nothing is known of."""
    last = next(calls[node].source for node in graph.of_kind(Kind.OUTPUT))
    for name, read in read_beside_forward(module):
        places = {tensor.data_ptr() for tensor in read if tensor.numel()}
        reads = frozenset(n for n, t in tensors.items() if t.data_ptr() in places)
        what = f"the method {name}"
        node = Node(Kind.OPAQUE, what, Site(graph.name, ""), attributes={"operation": what})
        graph.add(node)
        calls[node] = TracedCall(last, Call(what, Kind.OPAQUE), {}, reads=reads)


def _answer(module: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    again = reloaded(inlined(module))  # what has run was optimised; the module is left as it was
    try:
        with torch.no_grad():
            return again(*inputs, **keywords)
    except Exception as problem:
        lines = [line for line in str(problem).splitlines() if line.strip()]
        raise BNCheckError(
            f"the original model does not run on the example input: {lines[-1] if lines else ''}"
        ) from problem


def _in_order(module: Any, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> list[Any]:
    """Return a value for each argument of the forward, which may be left at its default."""
    arguments = module.forward.schema.arguments[1:]
    return [
        *inputs,
        *(keywords.get(one.name, one.default_value) for one in arguments[len(inputs) :]),
    ]

"""A TorchScript module in float64: its parameters, its constants, and the dtypes that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bncheck.model.script_graph import graphs, inlined, nodes, reloaded, simplified
from bncheck.verification.precision import widen

_NUMBERS = {torch.float16: 5, torch.float32: 6, torch.float64: 7, torch.complex32: 8,
            torch.complex64: 9, torch.complex128: 10, torch.bfloat16: 15}  # fmt: skip
"""What TorchScript writes for a dtype."""
_WIDER = {number: _NUMBERS[widen(dtype)] for dtype, number in _NUMBERS.items()}


def script_in_float64(module: Any, exact: Mapping[str, torch.Tensor]) -> Any:
    """Return a copy of a `ScriptModule` that computes in float64 throughout.

    Parameters and buffers that `exact` has get these values.
    """
    copied = inlined(module)
    for graph in graphs(copied):
        for node, _ in nodes(graph):
            _widen_constant(node)
            _widen_dtypes(graph, node)
    wide = reloaded(simplified(copied)).double()
    own = {**dict(wide.named_parameters()), **dict(wide.named_buffers())}
    with torch.no_grad():
        for name, value in exact.items():
            if name in own:
                own[name].copy_(value)
    return wide


def _widen_constant(node: Any) -> None:
    if node.kind() == "prim::Constant" and node.output().type().kind() == "TensorType":
        value = node.output().toIValue()
        if isinstance(value, torch.Tensor):
            node.t_("value", widen(value.detach()))


def _widen_dtypes(graph: Any, node: Any) -> None:
    """Let a node that names a dtype name the wider one."""
    try:
        arguments = torch._C.parse_schema(node.schema()).arguments
    except RuntimeError:  # nodes of `prim` have no schema
        return
    for index, argument in enumerate(arguments):
        value = node.inputsAt(index)
        if argument.name != "dtype" or value.node().kind() != "prim::Constant":
            continue
        number = value.toIValue()
        if number in _WIDER and number is not None:
            constant = graph.insertConstant(_WIDER[number])
            constant.node().moveBefore(node)
            node.replaceInput(index, constant)

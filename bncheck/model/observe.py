"""Runs a traced graph once and notes the shape of every tensor and every plain value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx


@dataclass
class Observation:
    """What one run of a graph showed; no tensor of it is kept but the output."""

    shapes: dict[fx.Node, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[fx.Node, torch.dtype] = field(default_factory=dict)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    """Results that hold no tensor: sizes, flags, None."""
    lengths: dict[fx.Node, int] = field(default_factory=dict)
    """How many members results have that are tuples or lists."""
    output: Any = None


class _Observer(fx.Interpreter):
    def __init__(self, graph_module: fx.GraphModule, seen: Observation) -> None:
        super().__init__(graph_module)
        self.seen = seen

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.seen.shapes[n] = tuple(result.shape)
            self.seen.dtypes[n] = result.dtype
        elif not holds_tensor(result):
            self.seen.values[n] = result
        elif isinstance(result, tuple | list):
            self.seen.lengths[n] = len(result)
        return result


def holds_tensor(value: Any) -> bool:
    """Tell whether a result is or holds a tensor, or may."""
    match value:
        case torch.Tensor():
            return True
        case tuple() | list():
            return any(holds_tensor(item) for item in value)
        case dict():
            return any(holds_tensor(item) for item in value.values())
        case None | bool() | int() | float() | complex() | str():
            return False
        case torch.dtype() | torch.device() | slice() | torch.layout() | torch.memory_format():
            return False
    return True


def observe(graph_module: fx.GraphModule, flat_inputs: Sequence[Any]) -> Observation:
    """Run the graph on the values of its placeholders, in order, without gradients."""
    seen = Observation()
    with torch.no_grad():
        seen.output = _Observer(graph_module, seen).run(*flat_inputs, enable_io_processing=False)
    return seen

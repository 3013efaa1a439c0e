"""A TorchScript graph as a torch.fx graph that computes the same, node by node.

Parameters, buffers and constants become placeholders; lists that the graph builds are followed
here, so that what is left are calls of operators. A branch or loop becomes one call of which
nothing is known but what it reads; a branch of which one side can only raise is the other side.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from bncheck.model.script_blocks import (
    STORED,
    batch_norms_within,
    changes_nothing,
    control_flow,
    only_raises,
    tensors_within,
    values_from_outside,
)
from bncheck.model.script_graph import Attribute, attribute
from bncheck.model.script_operators import (
    CONTAINERS,
    SILENT,
    UnreadableScriptError,
    arguments_of,
    constant,
    is_module,
    operator_of,
    reads_container,
    structural,
    written,
)

_WITH_NUMBERS = frozenset(
    f"aten::{name}{end}" for name in ("add", "sub", "mul", "div") for end in ("", "_")
)


@dataclass
class ScriptGraph:
    """A graph of torch.fx, and the way back to the graph of TorchScript."""

    graph: fx.Graph = field(default_factory=fx.Graph)
    stored: dict[fx.Node, tuple[str, torch.Tensor]] = field(default_factory=dict)
    """Placeholders of parameters, buffers and constants: name and value."""
    names: dict[str, fx.Node] = field(default_factory=dict)
    """The same by every name that a tensor has."""
    sources: dict[fx.Node, Any] = field(default_factory=dict)
    """The node of TorchScript that a call was made of."""
    values: dict[fx.Node, Any] = field(default_factory=dict)
    """The value of TorchScript that a node computes."""
    constants: dict[fx.Node, list[Any]] = field(default_factory=dict)
    """The nodes of TorchScript that hold a tensor which is no attribute, by its placeholder."""
    hidden: list[str] = field(default_factory=list)
    """Names of the BatchNorms that run under a condition or in a loop."""


def read_script(module: Any) -> ScriptGraph:
    """Read the forward of a module that was `inlined`.

    Raises UnreadableScriptError, with the operator, for what a graph of torch.fx cannot say.
    """
    reader = _Reader(module)
    graph = module._c._get_method("forward").graph
    for index, value in enumerate(list(graph.inputs())[1:]):
        reader.bind(value, reader.out.graph.placeholder(f"argument_{index}"))
    reader.read(graph)
    (result,) = graph.outputs()
    reader.out.graph.output(reader.get(result))
    return reader.out


class _Reader:
    def __init__(self, module: Any) -> None:
        self.module = module
        self.out = ScriptGraph()
        self.known: dict[str, Any] = {}
        """What each value is: an fx node, a constant, or containers of these."""
        self.by_memory: dict[tuple[object, ...], fx.Node] = {}

    def bind(self, value: Any, result: Any) -> None:
        self.known[value.debugName()] = result
        if isinstance(result, fx.Node):
            self.out.values.setdefault(result, value)

    def get(self, value: Any) -> Any:
        if value.debugName() not in self.known:
            raise UnreadableScriptError(
                f"the TorchScript uses a value of type {value.type()}, which is not understood"
            )
        return self.known[value.debugName()]

    def read(self, block: Any) -> None:
        for node in block.nodes():
            kind = node.kind()
            if kind in STORED:
                self._read_stored(node)
            elif kind == "prim::If":
                self._read_branch(node)
            elif kind == "prim::Loop":
                self._read_control_flow(node)
            elif kind not in SILENT:
                self._read_call(node)

    def _read_stored(self, node: Any) -> None:
        value = node.output()
        if is_module(value):
            return
        read = attribute(self.module, value)
        known = constant(self.module, node) if read is None else self._stored(value, read)
        self.bind(value, known)

    def _stored(self, value: Any, read: Attribute) -> fx.Node:
        """Return the placeholder of a tensor; tensors that are tied have one."""
        tensor = read.tensor
        key: tuple[object, ...] = (read.name, value.debugName())
        if tensor.numel():
            key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in self.by_memory:
            count = len(self.by_memory)
            with self.out.graph.inserting_before(next(iter(self.out.graph.nodes), None)):
                self.by_memory[key] = self.out.graph.placeholder(f"stored_{count}")
            name = read.name or f"constant_{count}.value"
            self.out.stored[self.by_memory[key]] = (name, tensor)
            self.out.values[self.by_memory[key]] = value
        if read.name:
            self.out.names[read.name] = self.by_memory[key]
        else:
            self.out.constants.setdefault(self.by_memory[key], []).append(value.node())
        return self.by_memory[key]

    def _read_call(self, node: Any) -> None:
        given = [self.get(value) for value in node.inputs()]
        packed = structural(node, given)
        if packed is None and self._is_bookkeeping(node, given):
            packed = (CONTAINERS[node.kind()](*given),)
        if packed is not None:
            for value, result in zip(node.outputs(), packed, strict=False):
                self.bind(value, result)
            return
        if node.kind() in ("prim::ListUnpack", "prim::TupleUnpack"):
            self._take_apart(node, given[0])
            return
        if any(value.type().kind() != "TensorType" for value in written(node)):
            raise UnreadableScriptError(
                f"the TorchScript calls {node.kind()} on what an operator returned, which is not "
                "understood"
            )
        if node.kind() == "aten::tensor" and not _holds_nodes(given[:2]):
            self._read_numbers(node, given)
            return
        if node.kind() in _WITH_NUMBERS:
            given[1] = self._number(given[1])
        self._call(node, operator_of(node), *arguments_of(node, given))

    def _read_numbers(self, node: Any, given: Sequence[Any]) -> None:
        """Read a tensor of numbers that the code spells out; it may be on the device of another."""
        device = None if isinstance(given[2], fx.Node) else given[2]
        tensor = operator_of(node)(given[0], dtype=given[1], device=device)
        self.bind(node.output(), self._stored(node.output(), Attribute("", tensor)))

    def _number(self, given: Any) -> Any:
        """Return the number that a constant is, as tracing makes a tensor of each."""
        if isinstance(given, fx.Node) and given in self.out.constants:
            _, tensor = self.out.stored[given]
            return tensor.item() if tensor.dim() == 0 else given
        return given

    def _is_bookkeeping(self, node: Any, given: Sequence[Any]) -> bool:
        """Tell whether a node moves things in a container that was built here."""
        if node.kind() not in CONTAINERS or not isinstance(given[0], list | tuple | dict):
            return False
        put = {"aten::append": 1, "aten::insert": 2, "aten::_set_item": 2}.get(node.kind())
        where = given[1:] if put is None else given[1:put]
        return reads_container(node) and not any(isinstance(one, fx.Node) for one in where)

    def _call(
        self,
        node: Any,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> None:
        made = self.out.graph.call_function(function, arguments, keywords)
        self.out.sources[made] = node
        if len(list(node.outputs())) == 1:
            self.bind(node.output(), made)
        else:
            self._take_apart(node, made)

    def _take_apart(self, node: Any, whole: fx.Node) -> None:
        for index, value in enumerate(node.outputs()):
            self.bind(value, self._part(node, whole, index))

    def _part(self, node: Any, whole: fx.Node, index: int) -> fx.Node:
        part = self.out.graph.call_function(operator.getitem, (whole, index))
        self.out.sources[part] = node
        return part

    def _read_branch(self, node: Any) -> None:
        blocks = list(node.blocks())
        raising = [only_raises(block) for block in blocks]
        if all(map(changes_nothing, blocks)) or all(raising):
            return
        if not any(raising):
            self._read_control_flow(node)
            return
        taken = blocks[raising.index(False)]  # of the other, no answer comes
        self.read(taken)
        for value, result in zip(node.outputs(), taken.outputs(), strict=True):
            self.bind(value, self.get(result))

    def _read_control_flow(self, node: Any) -> None:
        values, changed = values_from_outside(node)
        outside = {value.debugName(): self.get(value) for value in values}
        within = {
            value.debugName(): self._stored(value, read)
            for value, read in tensors_within(self.module, node)
        }
        self.out.hidden += batch_norms_within(self.module, node)
        given = {**outside, **within}
        names = [value.debugName() for value in changed]
        function = control_flow(self.module, node, list(given), names)
        made = self.out.graph.call_function(function, tuple(given.values()))
        self._take_apart(node, made)
        for index, name in enumerate(names, len(list(node.outputs()))):
            old, new = self.known[name], self._part(node, made, index)
            self.known.update({one: new for one, known in self.known.items() if known is old})


def _holds_nodes(value: Any) -> bool:
    """Tell whether something is computed by a node, or holds what is."""
    if isinstance(value, list | tuple):
        return any(map(_holds_nodes, value))
    return isinstance(value, fx.Node)

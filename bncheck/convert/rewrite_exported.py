"""Rewrites an exported program: it stays one, with the same inputs and outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputSpec,
    TensorArgument,
)

from bncheck.convert.plan import Plan
from bncheck.convert.replacements import added_tensors, changed_tensors, parameter_like
from bncheck.convert.rewrite_graph import (
    bypass,
    erase_unused,
    last_first,
    merged_calls,
    product_arguments,
)
from bncheck.graph import Node
from bncheck.model.traced_call import TracedCall

_STORED = (InputKind.PARAMETER, InputKind.BUFFER)


def rewrite_exported(plan: Plan, program: ExportedProgram) -> ExportedProgram:
    """Return a program with the plan carried out: other parameters, fewer nodes.

    It needs nothing of this package to be loaded.
    """
    root = copy.deepcopy(program.graph_module)
    copies = dict(zip(program.graph_module.graph.nodes, root.graph.nodes, strict=True))
    for old, new in copies.items():
        new.name = old.name  # copying renames what is a builtin of Python, such as `input`
    state = dict(program.state_dict)
    specs = list(program.graph_signature.input_specs)
    editor = _Editor(root, state, specs)
    for name, tensor in changed_tensors(plan).items():
        state[name] = tensor
    for nodes, role, parameter in added_tensors(plan):
        owner = next(iter(nodes[0].parameters.values())).rpartition(".")[0]
        for node in nodes:
            _make_linear(plan.traced.calls[node], copies)
        calls = [copies[plan.traced.calls[node].source] for node in nodes]
        editor.give(calls, role, f"{owner}.{role}", parameter)
    for node in [*plan.own_copy, *plan.baked]:
        _give_own_copy(plan, editor, copies[plan.traced.calls[node].source], node)
    for node in last_first(plan):
        traced_call = plan.traced.calls[node]
        assert traced_call.entry is not None
        bypass(copies[traced_call.source], copies[traced_call.entry])
    erase_unused(program.graph_module.graph, copies, merged_calls(plan))
    editor.drop_unused()
    root.recompile()
    signature = ExportGraphSignature(
        editor.specs, _output_specs(root, list(program.graph_signature.output_specs))
    )
    return ExportedProgram(
        root=root,
        graph=root.graph,
        graph_signature=signature,
        state_dict=state,
        range_constraints=program.range_constraints,
        module_call_graph=copy.deepcopy(program.module_call_graph),
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=program.verifiers,
    )


def _output_specs(root: fx.GraphModule, specs: list[OutputSpec]) -> list[OutputSpec]:
    """Return the specs of the outputs with the names that the nodes returned now have."""
    output = next(node for node in reversed(root.graph.nodes) if node.op == "output")
    return [
        replace(spec, arg=replace(spec.arg, name=value.name))
        if isinstance(value, fx.Node) and isinstance(spec.arg, TensorArgument)
        else spec
        for spec, value in zip(specs, output.args[0], strict=True)
    ]


def _make_linear(traced: TracedCall, copies: dict[fx.Node, fx.Node]) -> None:
    """Make a product a call that can take a bias."""
    if traced.product is None:
        return
    call, source, weight = product_arguments(traced, copies)
    if traced.product.inputs_first:
        with call.graph.inserting_before(call):
            turned = call.graph.call_function(torch.ops.aten.t.default, (weight,))
        if isinstance(weight.meta.get("val"), torch.Tensor):
            turned.meta["val"] = weight.meta["val"].t()
        weight = turned
    call.target = torch.ops.aten.linear.default
    call.args, call.kwargs = (source, weight), {}


def _give_own_copy(plan: Plan, editor: _Editor, call: fx.Node, node: Node) -> None:
    weight, bias = plan.folded[node]
    old = plan.traced.tensors.get(node.parameters.get("weight", ""), nn.Parameter(weight))
    editor.give([call], "weight", f"{call.name}_folded.weight", parameter_like(old, weight))
    if bias is not None:
        editor.give([call], "bias", f"{call.name}_folded.bias", parameter_like(old, bias))


class _Editor:
    """The placeholders of parameters, their specs and their values, kept in step."""

    def __init__(self, root: fx.GraphModule, state: dict[str, Any], specs: list[InputSpec]) -> None:
        self.root, self.state, self.specs = root, state, specs
        self.used = {name for name, node in self._stored().items() if node.users}
        """Names of what some node reads from the start."""

    def _stored(self) -> dict[str, fx.Node]:
        """Return the placeholders of parameters and buffers by the names of these."""
        placeholders = {n.name: n for n in self.root.graph.nodes if n.op == "placeholder"}
        return {
            str(spec.target): placeholders[spec.arg.name]
            for spec in self.specs
            if spec.kind in _STORED and spec.arg.name in placeholders
        }

    def give(self, calls: Sequence[fx.Node], role: str, name: str, value: torch.Tensor) -> None:
        """Let calls read a new parameter."""
        while name in self.state:
            name += "_"
        beside = f"{name.rpartition('.')[0]}.weight"
        weight = self._stored().get(beside)
        place = 0
        with self.root.graph.inserting_before(next(iter(self.root.graph.nodes))):
            read = self.root.graph.placeholder(f"p_{name.replace('.', '_')}")
        if weight is not None:
            weight.append(read)
            place = [spec.target for spec in self.specs].index(beside) + 1
        self._put(name, value, beside)
        example = calls[0].meta.get("val")
        if isinstance(example, torch.Tensor) and hasattr(example, "fake_mode"):
            read.meta["val"] = example.fake_mode.from_tensor(value, static_shapes=True)
        spec = InputSpec(InputKind.PARAMETER, TensorArgument(read.name), name, None)
        self.specs.insert(place, spec)
        for call in calls:
            position = _position(call, role)
            if position < len(call.args):
                call.update_arg(position, read)
            else:
                padding = [None] * (position - len(call.args))
                call.args = (*call.args, *padding, read)

    def _put(self, name: str, value: torch.Tensor, beside: str) -> None:
        """Add to the state, behind the weight of the same layer."""
        entries = list(self.state.items())
        place = list(self.state).index(beside) + 1 if beside in self.state else len(entries)
        self.state.clear()
        self.state.update([*entries[:place], (name, value), *entries[place:]])

    def drop_unused(self) -> None:
        """Remove parameters and buffers that no node reads any more, and counters beside them.

        What no node read from the start, such as the second name of a tied weight, stays.
        """
        idle = {name: node for name, node in self._stored().items() if not node.users}
        owners = {name.rpartition(".")[0] for name in idle if name in self.used}
        gone = {
            name
            for name in idle
            if name in self.used
            or (name.endswith("num_batches_tracked") and name.rpartition(".")[0] in owners)
        }
        for name in gone:
            self.root.graph.erase_node(idle[name])
            self.state.pop(name, None)
        self.specs = [spec for spec in self.specs if str(spec.target) not in gone]


def _position(call: fx.Node, role: str) -> int:
    target: Any = call.target
    names = [argument.name for argument in target._schema.arguments]
    return names.index(role)

"""Reads a model into a `LayerGraph`, by whichever tracer works, and says which it was."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from bncheck.errors import BNCheckError
from bncheck.graph import LayerGraph, Node
from bncheck.model.affine import merge_affine_chains
from bncheck.model.normalise import normalise
from bncheck.model.observe import observe
from bncheck.model.record import record
from bncheck.model.replay import evaluate
from bncheck.model.trace_export import nodes_seen_by_hooks, trace_export
from bncheck.model.trace_fx import bind, trace_fx
from bncheck.model.traced_call import NOTHING_STORED, Constant, Stored, TracedCall
from bncheck.model.unpack import unpack_pieces


class UntraceableError(BNCheckError):
    """No tracer can read the model as a whole."""


@dataclass(frozen=True)
class TracedModel:
    """A model as a graph of layers, and the way back to the model."""

    model: nn.Module
    graph: LayerGraph
    fx: fx.GraphModule
    """What was traced; its modules and parameters are the model's own."""
    calls: dict[Node, TracedCall]
    how: str
    """`fx`, `export` or `record`."""
    notes: tuple[str, ...] = ()
    """Why other tracers were not used."""
    output: Any = None
    """What the model answered to the example inputs."""
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    """Parameters and buffers by every name that they have."""
    stored: Stored = field(default_factory=lambda: NOTHING_STORED)
    unrounded: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What parameters were before they were rounded, in float64, where that is known."""

    def value(self, constant: Constant) -> Any:
        """Compute what depends on parameters and buffers alone."""
        return evaluate(self.fx, constant.source, self.stored)


def trace_program(program: torch.export.ExportedProgram) -> TracedModel:
    """Read an exported program on its own example inputs.

    Raises BNCheckError where it has none, or does not run on them.
    """
    if program.example_inputs is None:
        raise BNCheckError("this exported program has no example inputs, so it cannot be run")
    root, signature = program.graph_module, program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers,
             **signature.inputs_to_lifted_tensor_constants}  # fmt: skip
    tensors = {**program.constants, **program.state_dict}
    stored: dict[fx.Node, tuple[str, torch.Tensor]] = {}
    given = iter(pytree.tree_leaves(program.example_inputs))
    flat: list[Any] = []
    try:
        for node in root.graph.find_nodes(op="placeholder"):
            if node.name in names:
                stored[node] = (names[node.name], tensors[names[node.name]])
                flat.append(tensors[names[node.name]])
            else:
                flat.append(next(given))
        seen = observe(root, flat)
    except Exception as problem:
        raise BNCheckError(
            f"this exported program does not run on its example inputs: {_first_line(problem)}"
        ) from problem
    graph, calls = normalise(root, root, seen, (), stored)
    merge_affine_chains(graph, calls, root)
    named = {name: t for name, t in tensors.items() if isinstance(t, torch.Tensor)}
    return TracedModel(root, graph, root, calls, "export", (), seen.output, named, stored)


def trace(
    model: nn.Module, example_inputs: Sequence[Any], example_kwargs: Mapping[str, Any] | None = None
) -> TracedModel:
    """Trace a model on example inputs, which the traced graph must answer as the model does.

    Raises BNCheckError when the model does not run on the inputs or when no tracer can read it.
    """
    inputs, keywords = tuple(example_inputs), dict(example_kwargs or {})
    wanted = _run(model, inputs, keywords)
    notes: list[str] = []
    for how in ("fx", "export", "record"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                traced = _trace_with(how, model, inputs, keywords, wanted)
        except Exception as problem:  # a tracer may fail in whatever way the model's code fails
            notes.append(f"{how}: {_first_line(problem)}")
        else:
            return TracedModel(model, *traced, how, tuple(notes), wanted, tensors_of(model))
    raise UntraceableError(f"no tracer can read this model ({'; '.join(notes)})")


def _trace_with(
    how: str, model: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], wanted: Any
) -> tuple[LayerGraph, fx.GraphModule, dict[Node, TracedCall]]:
    observed: list[fx.Node] = []
    answers: int | None = None
    if how == "record":
        recording = record(model, inputs, keywords)
        graph_module, flat = recording.graph_module, recording.flat_inputs
        answers = recording.answers
        observed = [*recording.observed, *nodes_seen_by_hooks(graph_module, model)]
    elif how == "fx":
        arguments = bind(model, inputs, keywords)
        graph_module, observed = trace_fx(model, arguments)
        flat = [
            arguments[str(node.target)] if str(node.target) in arguments else _default(node)
            for node in graph_module.graph.nodes
            if node.op == "placeholder"
        ]
    else:
        graph_module = trace_export(model, inputs, keywords)
        observed = nodes_seen_by_hooks(graph_module, model)
        flat = pytree.tree_leaves((inputs, keywords))
    seen = observe(graph_module, copy.deepcopy(flat))
    if unpack_pieces(graph_module, seen):
        seen = observe(graph_module, copy.deepcopy(flat))
    if not same_results(wanted, seen.output if answers is None else seen.output[:answers]):
        raise ValueError("the traced graph computes something else than the model")
    graph, calls = normalise(graph_module, model, seen, observed)
    merge_affine_chains(graph, calls, model)
    return graph, graph_module, calls


def _default(node: fx.Node) -> Any:
    if not node.args:
        raise ValueError(f"no value for the argument {node.target}")
    return node.args[0]


def _run(model: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(0)
            args, kwargs = copy.deepcopy((inputs, keywords))  # the model may write over them
            return model(*args, **kwargs)
    except Exception as problem:
        raise BNCheckError(
            f"the model does not run on the example inputs: {_first_line(problem)}"
        ) from problem


def same_results(wanted: Any, other: Any, slack: float = 1) -> bool:
    """Tell whether two runs returned the same tensors, up to rounding.

    `slack` allows for the rounding of folded weights too; the proof is the verification's.
    """
    expected, found = _tensors(wanted), _tensors(other)
    if len(expected) != len(found):
        return False
    for one, two in zip(expected, found, strict=True):
        if one.shape != two.shape or one.dtype != two.dtype:
            return False
        if one.device.type == "meta" or not one.numel():
            continue
        a, b = (t.detach().to(torch.complex128 if t.is_complex() else torch.float64)
                for t in (one, two))  # fmt: skip
        magnitude = a.abs().nan_to_num(0, 0, 0).max().item()
        tolerance = 1e-4 if one.dtype in (torch.float32, torch.float64) else 2e-2
        tolerance = min(slack * tolerance, 0.1)
        if not torch.allclose(a, b, rtol=0, atol=tolerance * magnitude, equal_nan=True):
            return False
    return True


def _tensors(value: Any) -> list[torch.Tensor]:
    match value:
        case torch.Tensor():
            return [value]
        case dict():
            return [t for item in value.values() for t in _tensors(item)]
        case tuple() | list():
            return [t for item in value for t in _tensors(item)]
    if hasattr(value, "__dataclass_fields__"):
        return [t for name in value.__dataclass_fields__ for t in _tensors(getattr(value, name))]
    return []


def _first_line(problem: BaseException) -> str:
    text = str(problem).strip().partition("\n")[0]
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers by every name that they have."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }

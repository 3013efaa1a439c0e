"""Records what a model does when it runs, for models that no tracer can read.

A mode on the functions of torch sees every call that the model's Python code makes, in the terms
in which torch.fx would have traced it; a mode on the dispatcher below it sees what reached the
kernels by another way: compiled functions, operators called by name. Together nothing that a run
does with a tensor stays unseen, or the recording fails.

A run shows one path. Where code branches on the truth of a tensor, the model is run again with
the other answer, until every path has been taken; whatever else code learns of values (a number,
an array, a shape that depends on them) could lead anywhere, so it fails the recording as well.
All paths stand in one graph, as if the model took every one of them: a parameter that two paths
use has two uses, and a plan that is right for the graph is right on each path.
"""

from __future__ import annotations

import copy
import dis
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from bncheck.model.recorded_run import (
    Functions,
    Kernels,
    Notes,
    Path,
    Run,
    UnrecordableError,
    leaves,
)

PATHS = 16
"""How many paths through a model's code are taken before it counts as unreadable."""


@dataclass
class Recording:
    """Every path of a model through its code, in one graph."""

    graph_module: fx.GraphModule
    flat_inputs: list[Any]
    """The values of the graph's placeholders, in order."""
    observed: list[fx.Node]
    """Nodes whose results were still held by someone when the run was over."""
    paths: int
    answers: int
    """How many of the graph's outputs, the first, are of the path that the inputs lead to."""


def record(model: nn.Module, inputs: Sequence[Any], keywords: Mapping[str, Any]) -> Recording:
    """Run a model on example inputs along every path that the values of tensors may choose.

    Raises UnrecordableError where that does not show all that the model may do with tensors, and
    whatever the model raises on the inputs themselves.
    """
    recorder = _Recorder(model, tuple(inputs), dict(keywords))
    state = _state(model)
    first = recorder.run(())
    answers = len(recorder.outputs)
    paths, waiting = 1, list(first.alternatives(0))
    while waiting:
        if paths == PATHS:
            raise UnrecordableError(f"it branches on values in more than {PATHS} ways")
        choices = waiting.pop()
        waiting += recorder.run(choices).alternatives(len(choices))
        paths += 1
    if _state(model) != state:
        raise UnrecordableError("a run changes the model's attributes, or draws random numbers")
    again = _Recorder(model, tuple(inputs), dict(keywords))
    again.run(())
    if len(again.notes.calls) > len(recorder.notes.calls) or not all(
        map(_alike, again.notes.calls, recorder.notes.calls)
    ):
        raise UnrecordableError("another run on the same inputs does something else")
    recorder.notes.graph.output(tuple(recorder.outputs))
    recorder.notes.graph._tracer_cls = None
    graph_module = fx.GraphModule(model, recorder.notes.graph, type(model).__name__)
    return Recording(graph_module, recorder.notes.flat_inputs, recorder.observed, paths, answers)


class _Recorder:
    """The graph of all runs so far."""

    def __init__(self, model: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.model = model
        self.arguments = (inputs, keywords)
        self.observed: list[fx.Node] = []
        self.outputs: list[Any] = []
        self.notes = Notes(
            {id(t): (name, t) for name, t in (*model.named_parameters(), *model.named_buffers())},
            {id(t): t for t in _tensors_in_attributes(model)},
            {module: path for path, module in model.named_modules()},
        )

    def run(self, choices: tuple[bool, ...]) -> Path:
        """Record one run that answers the first branches on values as `choices` says."""
        args, kwargs = copy.deepcopy(self.arguments)
        run = Run(self.notes, choices)
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor):
                run.know(leaf, self.notes.placeholder("input", leaf.clone()))
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(torch.random.fork_rng(devices=range(torch.cuda.device_count())))
            torch.manual_seed(0)
            stack.enter_context(run.following_modules())
            stack.enter_context(Kernels(run))
            stack.enter_context(Functions(run))
            try:
                result = self.model(*args, **kwargs)
            except UnrecordableError:
                raise
            except Exception as problem:
                if run.problem is not None:
                    raise UnrecordableError(run.problem) from None
                if not choices or not _is_deliberate(problem):
                    raise
                return run.path  # the model refuses what leads here
        if run.problem is not None:  # the model's code may have caught what it was told with
            raise UnrecordableError(run.problem)
        if run.raised is not None:
            raise UnrecordableError(f"its code goes on after an error, {run.raised}")
        self.outputs += [run.node_of(t) for t in leaves(result) if isinstance(t, torch.Tensor)]
        del result, leaf, args, kwargs
        self.observed += run.still_held()
        return run.path


def _alike(one: fx.Node, other: fx.Node) -> bool:
    """Tell whether two recorders noted the same call."""
    return one.name == other.name and one.op == other.op and one.target == other.target


def _tensors_in_attributes(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the tensors that modules hold besides parameters and buffers."""
    for module in model.modules():
        for name, value in vars(module).items():
            if name not in {"_parameters", "_buffers", "_modules"}:
                yield from (t for t in leaves(value) if isinstance(t, torch.Tensor))


def _state(model: nn.Module) -> list[Any]:
    """Return what another run may come to know of this one, by identity."""
    found: list[Any] = [random.getstate()]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        found.append(repr(numpy.random.get_state(legacy=False)))
    seen: set[int] = set()
    waiting: list[Any] = [model]
    while waiting:
        value = waiting.pop()
        found.append((id(value), _version(value)))
        if id(value) in seen:
            continue
        seen.add(id(value))
        match value:
            case tuple() | list() | set() | frozenset() | deque():
                waiting += value
            case dict():
                waiting += [item for pair in value.items() for item in pair]
            case torch.Tensor() | type() | ModuleType() | FunctionType():
                pass
            case _ if hasattr(value, "__dict__"):
                waiting.append(vars(value))
    return found


def _version(value: Any) -> int | None:
    return value._version if isinstance(value, torch.Tensor) else None


def _is_deliberate(problem: BaseException) -> bool:
    """Tell whether a `raise` or `assert` outside torch raised an error."""
    traceback = problem.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    code = traceback.tb_frame.f_code
    module = str(traceback.tb_frame.f_globals.get("__name__", ""))
    raising = dis.opname[code.co_code[traceback.tb_lasti]] == "RAISE_VARARGS"
    return raising and module.partition(".")[0] != "torch"

"""One run of a model, seen by a mode on torch's functions and another on its dispatcher."""

from __future__ import annotations

import operator
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode

from bncheck.model.operations import ALIASES, METADATA, describe
from bncheck.model.recorded_calls import as_node_call, harmless
from bncheck.verification.dispatch import DispatchMode

DECISIONS = 32
"""How many times one run may branch on values."""


def _views_refer_to_their_base() -> bool:
    """Tell whether views count as one reference to their base."""
    base = torch.zeros(1).clone()
    before = sys.getrefcount(base)
    view = base[:]
    return sys.getrefcount(base) > before and view._base is base


_VIEWS_REFER_TO_THEIR_BASE = _views_refer_to_their_base()


class UnrecordableError(Exception):
    """The runs of a model do not show all that it may do; the text says why."""


@dataclass
class Path:
    """One run: which way it went at each branch on values."""

    decisions: list[bool] = field(default_factory=list)

    def alternatives(self, start: int) -> Iterator[tuple[bool, ...]]:
        """Yield the beginnings of the paths that leave this one at a branch from `start` on."""
        for place in range(start, len(self.decisions)):
            yield (*self.decisions[:place], not self.decisions[place])


@dataclass
class Notes:
    """What all runs write into: one graph, and what they are given."""

    stored: dict[int, tuple[str, torch.Tensor]]
    """Parameters and buffers by their ids, each with its name."""
    attributes: dict[int, torch.Tensor]
    """By their ids, the other tensors that the model holds."""
    paths: dict[nn.Module, str]
    graph: fx.Graph = field(default_factory=fx.Graph)
    flat_inputs: list[Any] = field(default_factory=list)
    """The values of the graph's placeholders, in order."""
    calls: list[fx.Node] = field(default_factory=list)
    """In the order in which they were made."""

    def placeholder(self, name: str, value: torch.Tensor) -> fx.Node:
        """Return the node of a new input of the graph that has this value."""
        with self.graph.inserting_after(None):  # the graph begins with these, the latest first
            node = self.graph.placeholder(f"{name}_{len(self.flat_inputs)}")
        self.flat_inputs.insert(0, value)
        return node

    def attribute(self, tensor: torch.Tensor) -> fx.Node | None:
        """Return the node of a tensor that was there before the run; None for others."""
        if id(tensor) in self.stored:
            return self.graph.get_attr(self.stored[id(tensor)][0])
        if id(tensor) in self.attributes:
            return self.placeholder("constant", tensor)
        return None


class Run:
    """One run that is being recorded."""

    def __init__(self, notes: Notes, choices: tuple[bool, ...]) -> None:
        self.notes = notes
        self.choices = choices
        self.path = Path()
        self.problem: str | None = None
        self.nodes: dict[int, fx.Node] = {}
        self.kept: list[tuple[torch.Tensor, fx.Node]] = []
        """Every tensor, so that no other one gets its id."""
        self.inner: set[int] = set()
        """Tensors that the call that is running was given, or has made."""
        self.inside = False
        self.reads_values = False
        self.raised: str | None = None
        """The last error of a call of torch."""
        self.running: list[nn.Module] = []

    def fail(self, problem: str) -> UnrecordableError:
        """Note why the recording fails; the model's code could catch the error that says it."""
        self.problem = self.problem or problem
        return UnrecordableError(self.problem)

    def know(self, tensor: torch.Tensor, node: fx.Node) -> None:
        """Note the node that makes a tensor."""
        self.nodes[id(tensor)] = node
        self.kept.append((tensor, node))

    def node_of(self, tensor: torch.Tensor) -> fx.Node:
        """Return the node that makes a tensor, or holds it."""
        if id(tensor) not in self.nodes:
            node = self.notes.attribute(tensor)
            if node is None:
                raise self.fail("it uses a tensor of which is not seen where it comes from")
            self.know(tensor, node)
        return self.nodes[id(tensor)]

    def nodes_of(self, value: Any) -> Any:
        """Return `value` with nodes in place of tensors, in plain containers."""
        match value:
            case torch.Tensor():
                return self.node_of(value)
            case slice():
                return slice(*map(self.nodes_of, (value.start, value.stop, value.step)))
            case dict():
                return {key: self.nodes_of(item) for key, item in value.items()}
            case tuple() | list():
                items = [self.nodes_of(item) for item in value]
                return items if isinstance(value, list) else tuple(items)
        return value

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make one call of torch, and note it."""
        if kwargs.get("out") is not None:
            raise self.fail("it writes results into tensors that it has")
        given = [t for t in leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        op, target, positional = as_node_call(function, args)
        name = target if isinstance(target, str) else getattr(target, "__name__", "")
        if name == "getattr" and len(positional) == 2:
            name = str(positional[1])
        arguments = None
        if not harmless(name) and name not in METADATA:
            arguments = self.nodes_of((positional, kwargs))
        versions = [tensor._version for tensor in given]
        result = self._within(function, args, kwargs, given)
        if arguments is None:
            return result
        made = [t for t in leaves(result) if isinstance(t, torch.Tensor)]
        if not given and not made:
            return result
        node = self.notes.graph.create_node(op, target, *arguments)
        self.notes.calls.append(node)
        node.meta["nn_module_stack"] = {
            str(depth): (self.notes.paths.get(module, ""), type(module))
            for depth, module in enumerate(self.running)
        }
        if any(t._version != old for t, old in zip(given, versions, strict=True)):
            first = positional[0] if positional else None
            if not isinstance(first, torch.Tensor) or not describe(node, {}).in_place:
                raise self.fail(f"{name} writes over a tensor that is not its first")
            self._require_known_aliases(first)
        if target is setattr and positional[1] not in {"requires_grad", "grad"}:
            raise self.fail(f"it assigns to {positional[1]} of a tensor")
        if isinstance(result, str | torch.dtype | torch.device | torch.layout | torch.Size):
            self.notes.calls.pop()
            self.notes.graph.erase_node(node)
            return result
        if not made and result is not None:
            return self._decided(result, name)
        if self.reads_values:
            raise self.fail(f"the shape of what {name} makes depends on values")
        self._know_all(result, node)
        return result

    def _within(
        self, function: Any, args: Any, kwargs: dict[str, Any], given: list[torch.Tensor]
    ) -> Any:
        self.inside, self.reads_values = True, False
        self.inner = {id(tensor) for tensor in given}
        try:
            return function(*args, **kwargs)
        except Exception as problem:
            self.raised = f"{type(problem).__name__} in {getattr(function, '__name__', function)}"
            raise
        finally:
            self.inside = False

    def _require_known_aliases(self, written: torch.Tensor) -> None:
        """Fail where a tensor shares memory with another and its node does not tell."""
        memory = _memory(written)
        for tensor, node in self.kept:
            if node.op == "placeholder" or _memory(tensor) != memory:
                continue
            call = describe(node, {})
            name = node.args[1] if call.name == "getattr" else call.name
            if not call.in_place and name not in ALIASES and tensor is not written:
                raise self.fail(f"it writes over memory that {name} shares")

    def _know_all(self, result: Any, node: fx.Node) -> None:
        if isinstance(result, torch.Tensor):
            self.know(result, node)
        elif isinstance(result, tuple | list):
            for index, item in enumerate(result):
                if any(isinstance(leaf, torch.Tensor) for leaf in leaves(item)):
                    member = self.notes.graph.call_function(operator.getitem, (node, index))
                    member.meta["nn_module_stack"] = node.meta["nn_module_stack"]
                    self._know_all(item, member)

    def _decided(self, result: Any, name: str) -> bool:
        """Answer a branch on values as this path goes."""
        if not isinstance(result, bool):
            raise self.fail(f"its code reads values of tensors by {name}")
        place = len(self.path.decisions)
        if place == DECISIONS:
            raise self.fail(f"it branches on values more than {DECISIONS} times")
        chosen = self.choices[place] if place < len(self.choices) else result
        self.path.decisions.append(chosen)
        return chosen

    def kernel(self, kernel: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Make one call of the dispatcher; what no function of torch made is noted as it is."""
        dependent = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
        if not self.inside:
            if dependent & set(kernel.tags):
                raise self.fail(f"{kernel} reads values of tensors")
            if any(_is_written(a) for a in kernel._schema.arguments[1:]):
                raise self.fail(f"{kernel} writes over a tensor that is not its first")
            result = self.call(kernel, args, kwargs)
            self.inside = False
            return result
        self.reads_values |= bool(dependent & set(kernel.tags))
        for tensor in leaves((args, kwargs)):
            known = id(tensor) in self.nodes or id(tensor) in self.notes.stored
            if isinstance(tensor, torch.Tensor) and known and id(tensor) not in self.inner:
                raise self.fail(f"{kernel} reads a tensor that it was not given")
        return kernel(*args, **kwargs)

    def still_held(self) -> list[fx.Node]:
        """Return the nodes of tensors that something besides this run refers to."""
        stored = (self.notes.stored, self.notes.attributes)
        ours = Counter(id(tensor) for tensor, _ in self.kept)
        if _VIEWS_REFER_TO_THEIR_BASE:
            ours.update({id(tensor._base) for tensor, _ in self.kept if tensor._base is not None})
        held = []
        for tensor, node in self.kept:
            there_before = any(id(tensor) in known for known in stored)
            if sys.getrefcount(tensor) > ours[id(tensor)] + _LOOKING and not there_before:
                held.append(node)
        return held

    @contextmanager
    def following_modules(self) -> Iterator[None]:
        """Know which modules are running; no module is given a hook of its own."""

        def enter(module: nn.Module, args: Any) -> None:
            self.running.append(module)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            if self.running and self.running[-1] is module:
                self.running.pop()

        hooks = [
            register_module_forward_pre_hook(enter),
            register_module_forward_hook(leave, always_call=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class Functions(TorchFunctionMode):
    """Hands each call of a function or method of torch to the run."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.run.inside:
            return func(*args, **(kwargs or {}))
        return self.run.call(func, tuple(args), dict(kwargs or {}))


class Kernels(DispatchMode):
    """Hands each operator that reaches the dispatcher to the run."""

    def __init__(self, recorded: Run) -> None:
        super().__init__()
        self.recorded = recorded

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Hand it on."""
        return self.recorded.kernel(func, args, kwargs)


def _memory(tensor: torch.Tensor) -> int | None:
    """Return what tensors in one memory have in common; None where there is nothing to share."""
    if tensor.layout != torch.strided or tensor.untyped_storage().nbytes() == 0:
        return None
    return tensor.untyped_storage().data_ptr()


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and bool(argument.alias_info.is_write)


def _references_of_a_look() -> int:
    """Return how many references a loop and `getrefcount` add, which differs between Pythons."""
    for item, _ in [(object(), None)]:
        seen = sys.getrefcount(item)
    return seen - 1


_LOOKING = _references_of_a_look()


def leaves(value: Any) -> list[Any]:
    """Return what is in plain containers, slices and dataclasses, in order."""
    match value:
        case slice():
            return [*leaves(value.start), *leaves(value.stop), *leaves(value.step)]
        case tuple() | list():
            return [leaf for item in value for leaf in leaves(item)]
        case dict():
            return [leaf for item in value.values() for leaf in leaves(item)]
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return [leaf for name in value.__dataclass_fields__ for leaf in leaves(vars(value)[name])]
    return [value]

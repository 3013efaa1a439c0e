"""The parts of a model that can be traced, where the whole cannot.

One run on the example inputs shows what each module is called with. A module whose own forward
can be traced computes the same whatever calls it, so a fold inside it is right on every path
through the rest of the model, which stays untouched.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves

from bncheck.errors import BNCheckError
from bncheck.model.trace import TracedModel, trace
from bncheck.verification.inputs import map_tensors


@dataclass(frozen=True)
class Part:
    """A module that can be traced on its own."""

    path: str
    traced: TracedModel
    inputs: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass
class _Run:
    """What one run of the whole model did to each of its modules and tensors."""

    calls: dict[nn.Module, list[tuple[tuple[Any, ...], dict[str, Any]]]] = field(
        default_factory=dict
    )
    around: dict[int, list[frozenset[nn.Module]]] = field(default_factory=dict)
    """By the id of a module or tensor: the modules that were running at each of its uses."""

    def note(self, used: object, running: list[nn.Module]) -> None:
        """Note a use of a module, parameter or buffer."""
        self.around.setdefault(id(used), []).append(frozenset(running))


def traceable_parts(
    model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> list[Part]:
    """Return the largest modules below the root that can be traced and hold statistics.

    A part is taken only if in one run of the whole nothing inside it, no module and no tensor,
    was used but by itself, and it was called in one way.
    """
    return list(_parts(model, model, "", _recorded(model, inputs, keywords)))


def _recorded(model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> _Run:
    run = _Run()
    running: list[nn.Module] = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run.note(module, running)
        if _holds_statistics(module):
            call = map_tensors((args, kwargs), lambda t: t.detach().clone())
            run.calls.setdefault(module, []).append(call)
        running.append(module)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    class Reads(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            for value in tree_leaves((args, kwargs or {})):
                if isinstance(value, torch.Tensor) and id(value) in stored:
                    run.note(value, running)
            return func(*args, **(kwargs or {}))

    stored = {id(t) for t in (*model.parameters(), *model.buffers())}
    hooks = []
    for module in model.modules():
        hooks.append(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
        hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        with torch.no_grad(), Reads():
            model(*copy.deepcopy(inputs), **copy.deepcopy(dict(keywords)))
    finally:
        for hook in hooks:
            hook.remove()
    return run


def _parts(
    root: nn.Module,
    module: nn.Module,
    path: str,
    run: _Run,
) -> Iterator[Part]:
    for name, child in module.named_children():
        below = f"{path}.{name}" if path else name
        if not _holds_statistics(child):
            continue
        alone = "running_mean" in child._buffers  # a BatchNorm, with nothing to fold it into
        calls = run.calls.get(child, [])
        if calls and not alone and _is_its_own(root, child, below) and _keeps_to_itself(child, run):
            try:
                yield Part(below, trace(child, *calls[0]), *calls[0])
                continue
            except BNCheckError:
                pass  # smaller parts of it may do
        yield from _parts(root, child, below, run)


def _holds_statistics(module: nn.Module) -> bool:
    return any(name.endswith("running_mean") for name, _ in module.named_buffers())


def _keeps_to_itself(part: nn.Module, run: _Run) -> bool:
    """Tell whether nothing in a part was used from outside, and all its calls were alike."""
    first, *others = (tree_flatten(call) for call in run.calls[part])
    alike = all(
        spec == first[1] and all(map(_same_kind, leaves, first[0])) for leaves, spec in others
    )
    inside = (*part.modules(), *part.parameters(), *part.buffers())
    return alike and all(
        part in running
        for used in inside
        if used is not part
        for running in run.around.get(id(used), ())
    )


def _same_kind(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype
    return type(one) is type(other) and bool(one == other)


def _is_its_own(root: nn.Module, part: nn.Module, path: str) -> bool:
    """Tell whether no other part of the model has any of its modules or parameters."""
    inside = {id(value) for value in (*part.modules(), *part.parameters(), *part.buffers())}
    for name, module in root.named_modules(remove_duplicate=False):
        if name == path or name.startswith(f"{path}."):
            continue
        own = (module, *module._parameters.values(), *module._buffers.values())
        if any(id(value) in inside for value in own if value is not None):
            return False
    return True

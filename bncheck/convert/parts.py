"""The parts of a model that can be traced, where the whole cannot.

One run on the example inputs shows what each module is called with. A module whose own forward
can be traced computes the same whatever calls it, so a fold inside it is right on every path
through the rest of the model, which stays untouched.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

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


def traceable_parts(
    model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> list[Part]:
    """Return the largest modules below the root that can be traced and hold statistics."""
    calls = _recorded(model, inputs, keywords)
    return list(_parts(model, model, "", calls))


def _recorded(
    model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return what each module was first called with in one run."""
    calls: dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module not in calls:
            calls[module] = map_tensors((args, kwargs), lambda t: t.detach().clone())

    hooks = [
        module.register_forward_pre_hook(record, with_kwargs=True)
        for module in model.modules()
        if _holds_statistics(module)
    ]
    try:
        with torch.no_grad():
            model(*copy.deepcopy(inputs), **copy.deepcopy(dict(keywords)))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _parts(
    root: nn.Module,
    module: nn.Module,
    path: str,
    calls: Mapping[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]],
) -> Iterator[Part]:
    for name, child in module.named_children():
        below = f"{path}.{name}" if path else name
        if not _holds_statistics(child):
            continue
        alone = "running_mean" in child._buffers  # a BatchNorm, with nothing to fold it into
        if child in calls and not alone and _is_its_own(root, child, below):
            try:
                yield Part(below, trace(child, *calls[child]), *calls[child])
                continue
            except BNCheckError:
                pass  # smaller parts of it may do
        yield from _parts(root, child, below, calls)


def _holds_statistics(module: nn.Module) -> bool:
    return any(name.endswith("running_mean") for name, _ in module.named_buffers())


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

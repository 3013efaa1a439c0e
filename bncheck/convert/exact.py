"""The float64 values that a folded model's parameters were rounded from, computed when asked for.

They make a verification sharp: in float64, and with these, folded and original model are the same
up to 1e-9, where rounding to float32 alone may be amplified to 1e-2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any

import torch

from bncheck.convert.plan import BatchNorm, Plan
from bncheck.convert.replacements import (
    affine_of,
    changed_batch_norms,
    exact_affine_of,
    exact_kept_map,
    kept_map,
)
from bncheck.graph import Node

Compute = Callable[[], torch.Tensor]
NOTHING_UNROUNDED: Mapping[str, torch.Tensor] = MappingProxyType({})


def exact_parameters(
    plans: Iterable[Plan], folded: Any, unrounded: Mapping[str, torch.Tensor] = NOTHING_UNROUNDED
) -> dict[str, Compute]:
    """Return what computes the exact values of the parameters that plans changed, by their names.

    `folded` is a module, a program, or a mapping of names to the tensors that the plans made;
    `unrounded` has what the original computes when it runs, and the folded model need not.
    """
    by_memory: dict[int, Compute] = {}
    for plan in plans:
        by_memory.update({t.data_ptr(): compute for t, compute in _changed(plan) if t.numel()})
    if isinstance(folded, Mapping):
        tensors = dict(folded)
    elif isinstance(folded, torch.export.ExportedProgram):
        tensors = dict(folded.state_dict)
    else:
        tensors = dict(chain(folded.named_parameters(), folded.named_buffers()))
    found: dict[str, Compute] = {name: partial(_as_is, value) for name, value in unrounded.items()}
    found.update(
        (name, by_memory[tensor.data_ptr()])
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor) and tensor.data_ptr() in by_memory
    )
    return found


def _as_is(value: torch.Tensor) -> torch.Tensor:
    return value


def _changed(plan: Plan) -> Iterator[tuple[torch.Tensor, Compute]]:
    layers = _Layers(plan)
    for node, (weight, bias) in plan.folded.items():
        yield weight, partial(layers.value, node, "weight")
        if bias is not None:
            yield bias, partial(layers.value, node, "bias")
    for batch_norm in changed_batch_norms(plan):
        for role, value in affine_of(plan, batch_norm).items():
            yield value, partial(_affine, plan, batch_norm, role)

    for node in plan.rest:
        for index, value in enumerate(kept_map(plan, node)):
            yield value, partial(_kept, plan, node, index)


class _Layers:
    """Computes the weight and bias of one layer at a time, which are mostly asked for together."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.known: tuple[Node, tuple[torch.Tensor, torch.Tensor | None]] | None = None

    def value(self, node: Node, role: str) -> torch.Tensor:
        """Return the exact weight or bias of a layer that has one."""
        if self.known is None or self.known[0] is not node:
            self.known = None  # the memory of the last layer serves for this one
            self.known = node, self.plan.exact(node)
        weight, bias = self.known[1]
        exact = weight if role == "weight" else bias
        assert exact is not None
        return exact


def _affine(plan: Plan, batch_norm: BatchNorm, role: str) -> torch.Tensor:
    return exact_affine_of(plan, batch_norm)[role]


def _kept(plan: Plan, node: Node, index: int) -> torch.Tensor:
    return exact_kept_map(plan, node)[index]

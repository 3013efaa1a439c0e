"""What overflows when a folded model of half precision runs, and did not before it was folded.

Each parameter may fit its dtype and a tensor still not: a shift that goes backward through a small
factor is large before that factor.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from bncheck.convert.elsewhere import Arguments
from bncheck.convert.plan import Plan
from bncheck.convert.producers import display_name
from bncheck.verification.dispatch import DispatchMode

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class _Overflow:
    """One operation whose result is not finite, though all that it read was."""

    operation: str
    layer: str
    """The folded layer that it belongs to, where it is one."""
    channel: int
    dtype: str


def computes_in_half(plan: Plan) -> bool:
    """Tell whether a model has parameters or buffers of half precision."""
    return any(tensor.dtype in _HALF for tensor in plan.traced.tensors.values())


def new_overflow(plan: Plan, original: Any, folded: Any, arguments: Arguments) -> str | None:
    """Return what overflows in the folded model alone, as the end of a sentence, or None.

    Both are called with the arguments.
    """
    found = _overflows(plan, folded, arguments)
    if not found:
        return None
    before = Counter(one.operation for one in _overflows(plan, original, arguments))
    for one in found:
        if not before[one.operation]:
            what = f"what {one.layer} computes" if one.layer else f"the result of {one.operation}"
            return f"would make channel {one.channel} of {what} overflow in {one.dtype}"
        before[one.operation] -= 1
    return None


def _overflows(plan: Plan, model: Any, arguments: Arguments) -> list[_Overflow]:
    layers = {
        weight.data_ptr(): display_name(node)
        for node, (weight, _) in plan.folded.items()
        if weight.numel()
    }
    args, kwargs = copy.deepcopy(arguments)
    watch = _Watch(layers)
    try:
        with torch.no_grad(), watch:
            model(*args, **kwargs)
    except Exception:  # what the model raises is told where its answers are compared
        return []
    return watch.found


class _Watch(DispatchMode):
    """Notes the operations that overflow."""

    def __init__(self, layers: Mapping[int, str]) -> None:
        super().__init__()
        self.layers = layers
        self.found: list[_Overflow] = []

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the operation as it is, and look at what it gives."""
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor) and not _is_finite(result):
            given = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
            if given and all(map(_is_finite, given)):
                self._note(str(func.overloadpacket.__name__), given, result)
        return result

    def _note(self, operation: str, given: list[torch.Tensor], result: torch.Tensor) -> None:
        names = [self.layers[t.data_ptr()] for t in given if t.data_ptr() in self.layers]
        axis = -1 if result.dim() < 2 or operation == "linear" else 1
        place = (~result.isfinite()).nonzero()[0]
        channel = int(place[axis]) if result.dim() else 0
        dtype = str(result.dtype).removeprefix("torch.")
        self.found.append(_Overflow(operation, names[0] if names else "", channel, dtype))


def _is_finite(value: torch.Tensor) -> bool:
    return value.dtype not in _HALF or value.is_meta or bool(value.isfinite().all())

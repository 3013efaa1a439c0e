"""Runs of the models that are compared: as they are, and in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from bncheck.errors import BNCheckError
from bncheck.verification.inputs import jitter, map_tensors, tensors
from bncheck.verification.precision import WIDER, Exact, in_float64, widen
from bncheck.verification.script import script_in_float64


def outputs(model: Any, values: Any, seed: int, name: str) -> dict[str, Any]:
    """Run a model on copies of the arguments and return its outputs by path."""
    torch.manual_seed(seed)
    args, kwargs = map_tensors(values, lambda t: t.clone())
    try:
        return tensors(model(*args, **kwargs))
    except Exception as problem:
        text = str(problem).strip()
        raise BNCheckError(
            f"{name} does not run on the example input: "
            f"{text.splitlines()[0] if text else type(problem).__name__}"
        ) from problem


class Reference:
    """Runs the original in float64, by the first way that works.

    A model of float64 has nothing wider to be compared with, and takes the last way.
    """

    def __init__(self, model: Any) -> None:
        self.original = self.model = getattr(model, "_orig_mod", model)
        self.dtype = dtype_of(model)
        self.name = "float64"
        self._ways: list[Callable[[Any, int, dict[str, Any]], dict[str, Any]]] = [
            self._widened,
            self._copied,
            self._perturbed,
        ]
        if isinstance(model, torch.jit.ScriptModule):
            self._ways[:2] = [self._scripted]  # its interpreter may crash under a dispatch mode
        if self.dtype is torch.float64:
            del self._ways[:-1]

    def answer(self, values: Any, seed: int, own: dict[str, Any]) -> dict[str, Any]:
        """Return the original's outputs in float64, by path as in `own`, those it gave itself."""
        while len(self._ways) > 1:
            try:
                found = self._ways[0](values, seed, own)
            except Exception:  # whatever keeps a model from float64: the next way
                found = {}
            if found.keys() == own.keys():
                return found
            del self._ways[0]
        return self._ways[0](values, seed, own)

    def _widened(self, values: Any, seed: int, own: dict[str, Any]) -> dict[str, Any]:
        """Widen each operation's arguments as it runs: no copy of the parameters is held."""
        wide = map_tensors(values, widen)
        with in_float64(self.dtype):
            return outputs(self.model, wide, seed, "")

    def of_converted(
        self, converted: Any, planned: Exact, values: Any, seed: int
    ) -> dict[str, Any] | None:
        """Run a converted model in float64, with other values of those parameters that are planned.

        None where only the original's rounding was estimated, or the model does not run so.
        """
        if len(self._ways) == 1:
            return None
        wide = map_tensors(values, widen)
        try:
            if isinstance(converted, torch.jit.ScriptModule):
                return outputs(_script_with(converted, planned), wide, seed, "")
            with in_float64(self.dtype, planned):
                return outputs(converted, wide, seed, "")
        except Exception:  # whatever keeps a model from float64
            return None

    def _copied(self, values: Any, seed: int, own: dict[str, Any]) -> dict[str, Any]:
        """Convert a copy as well, for a model that compares its parameters' dtype itself."""
        if not isinstance(self.model, _Doubled):
            self.model = _Doubled(copy.deepcopy(self.model).double())
        return self._widened(values, seed, own)

    def _scripted(self, values: Any, seed: int, own: dict[str, Any]) -> dict[str, Any]:
        """Rewrite a copy, for a model that is a graph."""
        if not isinstance(self.model, _Doubled):
            self.model = _Doubled(script_in_float64(self.model, {}))
        return outputs(self.model, map_tensors(values, widen), seed, "")

    def _perturbed(self, values: Any, seed: int, own: dict[str, Any]) -> dict[str, Any]:
        """Take the original's own outputs, moved by one rounding of the input and each weight.

        The difference of the original from this is of the size of its rounding error (Monte
        Carlo arithmetic: Stott Parker, 1997), which is all that the verdict needs to know.
        """
        self.name = "the original with input and weights perturbed by one rounding"
        generator = torch.Generator().manual_seed(seed)
        moved = copy.deepcopy(self.original)
        with torch.no_grad():
            for parameter in moved.parameters():
                if parameter.dtype.is_floating_point:
                    noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                    parameter += parameter * noise * torch.finfo(parameter.dtype).eps
        near = jitter(values, generator, torch.finfo(self.dtype).eps)
        return outputs(moved, near, seed, "the original model")


def _script_with(model: Any, planned: Exact) -> Any:
    named = (*model.named_parameters(), *model.named_buffers())
    return script_in_float64(
        model, {name: planned[id(tensor)]() for name, tensor in named if id(tensor) in planned}
    )


class _Doubled:
    """A model that was converted to float64."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)


def dtype_of(model: Any) -> torch.dtype:
    """Return the dtype of the first real parameter or buffer, float32 where there is none."""
    dtypes: list[torch.dtype] = [tensor.dtype for tensor in tensors_of(model)]
    return next((dtype for dtype in dtypes if dtype.is_floating_point), torch.float32)


def same_parameters(original: Any, converted: Any) -> bool:
    """Tell whether two models have real parameters and buffers of the same values, and some."""
    one, other = (
        [tensor for tensor in tensors_of(model) if tensor.dtype in WIDER]
        for model in (original, converted)
    )
    return bool(one) and _are_among(other, one) and _are_among(one, other)


def _are_among(tensors: list[Any], others: list[Any]) -> bool:
    alike: dict[object, list[Any]] = {}
    for other in others:
        alike.setdefault((other.dtype, other.shape), []).append(other)
    return all(
        any(torch.equal(tensor, other) for other in alike.get((tensor.dtype, tensor.shape), ()))
        for tensor in tensors
    )


def tensors_of(model: Any) -> list[Any]:
    """Return the parameters and buffers of a model."""
    return [*model.parameters(), *model.buffers()]

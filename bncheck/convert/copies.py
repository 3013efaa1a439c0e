"""Copies of models, those with computed weights among them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm

from bncheck.errors import BNCheckError
from bncheck.model.trace_fx import computes_weight
from bncheck.verification.precision import in_float64
from bncheck.verification.runs import dtype_of


def copy_of(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a deep copy; `memo` gives, by id, what takes the place of tensors and modules.

    A weight that a hook has computed is no leaf of autograd, which `copy.deepcopy` refuses; its
    value is copied. Raises BNCheckError for what holds something that cannot be copied.
    """
    memo = {} if memo is None else memo
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach().clone())
    try:
        return copy.deepcopy(model, memo)
    except Exception as problem:  # whatever the model's own attributes raise
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise BNCheckError(f"the model cannot be copied: {lines[0]}") from problem


def bake(model: nn.Module) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return a copy whose parametrizations, weight and spectral norms and masks are values.

    Also returns these values, by name, as they were computed in float64 before they were rounded.
    """
    baked = copy_of(model)
    exact: dict[str, torch.Tensor] = {}
    for path, module in baked.named_modules():
        values = dict(_computed_exactly(module))
        if parametrize.is_parametrized(module):
            _end_parametrizations(module)
        for hook in list(module._forward_pre_hooks.values()):
            match type(hook).__name__:
                case "WeightNorm":
                    remove_weight_norm(module, hook.name)
                case "SpectralNorm":
                    remove_spectral_norm(module, hook.name)
                case _ if isinstance(hook, prune.BasePruningMethod):
                    prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
        for role, value in values.items():
            with torch.no_grad():
                getattr(module, role).copy_(value)
            exact[f"{path}.{role}" if path else role] = value
    return baked, exact


def _computed_exactly(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the computed tensors of a module, in float64, by their roles."""
    with torch.no_grad(), in_float64(dtype_of(module)):
        if parametrize.is_parametrized(module):
            for role in module.parametrizations:  # type: ignore[union-attr]
                yield role, getattr(module, role).detach()
        for hook in module._forward_pre_hooks.values():
            given: Any = hook
            match type(hook).__name__:
                case "WeightNorm":
                    yield given.name, given.compute_weight(module).detach()
                case "SpectralNorm":
                    yield given.name, given.compute_weight(module, False).detach()
                case _ if isinstance(hook, prune.BasePruningMethod):
                    yield given._tensor_name, given.apply_mask(module).detach()


def _end_parametrizations(module: nn.Module) -> None:
    """Replace the parametrized tensors of a copied module by their values.

    `remove_parametrizations` would take the properties from the class, which the module that this
    one was copied from has too.
    """
    names = list(module.parametrizations)  # type: ignore[arg-type]
    with torch.no_grad():
        values = {name: getattr(module, name).detach().clone() for name in names}
    module.__class__ = type(module).__bases__[0]
    del module.parametrizations
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))


def may_be_baked(model: nn.Module) -> bool:
    """Tell whether some weight of the model is computed in a way that `bake` ends."""
    return any(
        parametrize.is_parametrized(module)
        or any(computes_weight(hook) for hook in module._forward_pre_hooks.values())
        for module in model.modules()
    )

"""Gives an architecture the shape of a folded state dict."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from bncheck.convert.copies import copy_of
from bncheck.convert.remains import what_remains
from bncheck.convert.replacements import SurgeryFails
from bncheck.errors import BNCheckError


def remove_folded(model: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a copy of `model` into which a folded state dict loads.

    BatchNorms of which `state_dict` holds nothing become `nn.Identity`, or what they do besides
    normalising; layers without a bias get one where `state_dict` holds it. Values are not
    loaded: call `load_state_dict` on the result. Raises BNCheckError where the model does not
    fit.
    """
    replaced: dict[int, object] = {}
    for path, module in model.named_modules():
        statistics = getattr(module, "running_mean", None), getattr(module, "running_var", None)
        folded = not any(name.startswith(f"{path}.") for name in state_dict)
        if path and folded and all(isinstance(t, torch.Tensor) for t in statistics):
            try:
                replaced[id(module)] = what_remains(module)
            except SurgeryFails as problem:
                raise BNCheckError(f"{path} cannot be replaced: it {problem}") from None
    result = copy_of(model, replaced)
    for name, tensor in state_dict.items():
        path, _, role = name.rpartition(".")
        try:
            owner = result.get_submodule(path)
        except AttributeError:
            raise BNCheckError(
                f"the state dict holds {name}, but the model has no {path}"
            ) from None
        if owner._parameters.get(role, owner) is None:
            owner.register_parameter(role, nn.Parameter(torch.empty_like(tensor)))
    return result

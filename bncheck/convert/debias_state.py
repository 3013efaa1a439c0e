"""Moves biases of a state dict into the running means that follow, for pairs that are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bncheck.errors import BNCheckError


@dataclass(frozen=True)
class Debiased:
    """One bias that is gone."""

    layer: str
    batch_norms: tuple[str, ...]
    """The BatchNorms whose running mean is less by it; none where they keep no statistics."""
    largest: float
    """The largest magnitude in the bias."""


def reduced_mean(running_mean: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return the running mean of what a layer computes without its bias.

    BatchNorm gives `(x + bias - mean) / std`, which is `(x - (mean - bias)) / std`. The difference
    of two tensors of shape (channels,) is taken in float64 and rounded once, to the dtype of
    `running_mean`.
    """
    difference = running_mean.detach().double() - bias.detach().double().to(running_mean.device)
    return difference.to(running_mean.dtype)


def debias_state_dict(
    state: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
) -> tuple[dict[str, Any], tuple[Debiased, ...]]:
    """Return a state dict without the biases of the layers named, and what was done.

    Each pair names a layer and the BatchNorm that alone reads its output, as the state dict does
    (`layer1.0.conv1`, `layer1.0.bn1`). A layer applied several times has a pair for each of its
    BatchNorms. Tensors that do not change are those of `state`, which is left as it was.

    Raises BNCheckError where a name is not in the state dict, where a layer has no bias or a
    BatchNorm no running mean, where their channels differ, and where a BatchNorm is named twice.
    """
    changed = dict(state)
    by_layer: dict[str, list[str]] = {}
    used: set[str] = set()
    for layer, batch_norm in pairs:
        if batch_norm in used:
            raise BNCheckError(
                f"{batch_norm} is named in two pairs; its running mean can follow one layer only"
            )
        used.add(batch_norm)
        by_layer.setdefault(layer, []).append(batch_norm)
    steps = []
    for layer, batch_norms in by_layer.items():
        bias = _tensor(state, layer, "bias")
        weight = _tensor(state, layer, "weight")
        if weight.dim() < 2:
            raise BNCheckError(
                f"{layer} is not a convolution or linear layer; name the layer before the BatchNorm"
            )
        for batch_norm in batch_norms:
            mean = _tensor(state, batch_norm, "running_mean")
            if mean.shape != bias.shape:
                raise BNCheckError(
                    f"{layer} has {bias.numel()} output channels and {batch_norm} has "
                    f"{mean.numel()}; they cannot follow one another"
                )
            changed[f"{batch_norm}.running_mean"] = reduced_mean(mean, bias)
        del changed[f"{layer}.bias"]
        largest = float(bias.detach().abs().max()) if bias.numel() else 0.0
        steps.append(Debiased(layer, tuple(batch_norms), largest))
    return changed, tuple(steps)


def _tensor(state: Mapping[str, Any], owner: str, role: str) -> torch.Tensor:
    value = state.get(f"{owner}.{role}")
    if not isinstance(value, torch.Tensor):
        if any(name.startswith(f"{owner}.") for name in state):
            raise BNCheckError(f"{owner} has no {role} in the state dict")
        close = [n.rpartition(".")[0] for n in state if n.endswith(f"{owner}.{role}")]
        advice = f"; did you mean {close[0]}?" if close else ""
        raise BNCheckError(f"the state dict has nothing named {owner}{advice}")
    if not bool(torch.isfinite(value).all()):
        raise BNCheckError(f"the {role} of {owner} holds NaN or infinity; mend it first")
    return value

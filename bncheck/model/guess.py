"""Example inputs for a model that came with none, guessed from its first layer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import torch
from torch import nn

from bncheck.errors import BNCheckError

_SIZES = {1: (64, 1024, 16000), 2: (64, 224, 32, 299), 3: (32, 64)}


def guess_inputs(model: nn.Module) -> tuple[torch.Tensor, ...]:
    """Return inputs on which `model` runs: two samples of random values.

    Raises BNCheckError where the model takes more than one input, or none of the guesses fits.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if len(required) == 1:
        for shape in _shapes(model):
            generator = torch.Generator().manual_seed(0)
            like = next(iter(model.parameters()))
            dtype = like.dtype if like.dtype.is_floating_point else torch.float32
            example = torch.randn(shape, generator=generator).to(like.device, dtype)
            try:
                with torch.no_grad():
                    model(example)
            except Exception:  # the guess does not fit, in whatever way the model says so
                continue
            return (example,)
    raise BNCheckError(
        f"no input was given, and none could be guessed for {type(model).__name__}: "
        "give example inputs"
    )


def _shapes(model: nn.Module) -> Iterator[tuple[int, ...]]:
    for module in model.modules():
        match module:
            case nn.Linear():
                yield (2, module.in_features)
                return
            case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
                rank = len(module.kernel_size)
                for size in _SIZES[rank]:
                    yield (2, module.in_channels, *[size] * rank)
                return

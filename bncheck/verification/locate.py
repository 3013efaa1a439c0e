"""Where two models part: the first layer whose output differs for good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bncheck.verification.compare import as_arguments
from bncheck.verification.inputs import draw, map_tensors, tensors
from bncheck.verification.placement import ready

SAME = 100.0
"""Rounding units of a difference below which outputs count as the same."""


def first_difference(
    original: nn.Module, converted: nn.Module, example_inputs: Any, example_kwargs: Any = None
) -> str:
    """Return the name of the first layer from which on no output agrees; empty where all do.

    Layers are compared by name. One that differs before another that agrees is no difference: a
    folded convolution already holds the BatchNorm that follows it.
    """
    arguments = (as_arguments(example_inputs), dict(example_kwargs or {}))
    outputs: list[dict[str, Any]] = []
    with ready(original, converted) as (first, second, device), torch.no_grad():
        drawn = draw(arguments, torch.Generator().manual_seed(0))
        for model in (first, second):
            args, kwargs = map_tensors(drawn, lambda t: t.to(device).clone())
            with _recorded(model) as seen:
                model(*args, **kwargs)
            outputs.append(seen)
    differing = ""
    for name, wanted in outputs[0].items():
        if name not in outputs[1]:
            continue
        differing = "" if _same(wanted, outputs[1][name]) else differing or name
    return differing


@contextmanager
def _recorded(model: nn.Module) -> Iterator[dict[str, Any]]:
    """Give the output of each layer's first call, in the order in which they end."""
    seen: dict[str, Any] = {}
    hooks = []
    for name, layer in model.named_modules():

        def keep(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
            found = [t.detach().clone() for t in tensors(output).values()]
            seen.setdefault(name, found)

        if name:
            hooks.append(layer.register_forward_hook(keep))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _same(wanted: list[Any], found: list[Any]) -> bool:
    if len(wanted) != len(found):
        return False
    for one, other in zip(wanted, found, strict=True):
        if one.shape != other.shape:
            return False
        if not one.numel() or not one.is_floating_point():
            continue
        limit = SAME * torch.finfo(one.dtype).eps * one.double().abs().max()
        if not bool((one.double() - other.double()).abs().max() <= limit):
            return False
    return True

"""Runs of a model, at the size of an example and at others, and when two say the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

Outputs = list[Tensor]


def run(model: nn.Module, x: Tensor) -> Outputs:
    with torch.no_grad():
        result = model(x.clone())
    return list(result) if isinstance(result, tuple) else [result]


def run_or_none(model: nn.Module, x: Tensor) -> Outputs | None:
    try:
        return run(model, x)
    except RuntimeError:  # a size that the model does not take
        return None


def of_other_sizes(x: Tensor) -> Iterator[Tensor]:
    """Yield samples of other sizes: in space, and along the axis that most layers fix."""
    space = range(2, x.dim())
    # Views of a fixed shape take some sizes of some numbers of samples only.
    for samples in (x[:2], x, torch.cat([x, x[:1]])):
        yield _resized(samples, space, lambda size: (size + 1) // 2)
        yield _resized(samples, space, lambda size: size + (size + 1) // 2)
        yield _resized(samples, space, lambda size: 2 * size)
    yield _resized(samples, (1,), lambda size: (size + 1) // 2)
    yield _resized(samples, (1,), lambda size: size + (size + 1) // 2)


def _resized(x: Tensor, axes: Iterable[int], size: Callable[[int], int]) -> Tensor:
    """Return a tensor with some axes cut, or filled up with what they hold."""
    for axis in axes:
        old = x.shape[axis]
        x = x.index_select(axis, torch.arange(size(old)) % old)
    return x


def close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not one.numel():
        return one.shape == other.shape
    return bool((one - other).abs().max() <= 1e-7 * one.abs().max())


def same(one: Tensor, other: Tensor) -> bool:
    """Compare by what varies between samples: a constant could hide what is wrong beside it."""
    varying = (one - one.mean(0)).abs().max()
    largest = one.abs().max()
    if varying <= 1e-8 * largest:  # also where a rectifier lets nothing through
        return False
    return bool((one - other).abs().max() <= 1e-7 * varying + 1e-13 * largest)

"""Whether a folded model computes what the original does at other sizes of its input, too."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from bncheck.errors import BNCheckError
from bncheck.model.trace import same_results
from bncheck.verification.compare import verify
from bncheck.verification.inputs import map_tensors

Exact = Mapping[str, Callable[[], Any]]
NOTHING_EXACT: Exact = MappingProxyType({})
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a model."""


def answers_with(
    wanted: Any,
    model: nn.Module,
    folded: nn.Module,
    arguments: Arguments,
    exact: Exact = NOTHING_EXACT,
) -> bool:
    """Tell whether a folded model runs, and answers with the tensors of `model`, roughly.

    `exact` is what `verify` takes: where a model amplifies rounding errors until its answers in
    float32 say nothing, it shows what they would be without.
    """
    found = _answer(folded, arguments)
    return found is not None and _alike(wanted, found[0], model, folded, arguments, exact)


def answers_alike_elsewhere(
    model: nn.Module,
    folded: nn.Module,
    arguments: Arguments,
    fixed: bool = False,
    exact: Exact = NOTHING_EXACT,
) -> bool:
    """Tell whether both models compute the same at other sizes, as far as the first runs there.

    `fixed` lets the folded model refuse other sizes, as a graph of fixed shapes does. `exact` is
    what `verify` takes.
    """
    return _answers_alike(model, folded, other_sizes(arguments), fixed, exact)


def answers_alike_on_other_values(
    model: nn.Module, folded: nn.Module, arguments: Arguments
) -> bool:
    """Tell whether both models compute the same on inputs that may take code another way."""
    factors = (-1.0, 8.0, -8.0, 0.125)
    others = (map_tensors(arguments, partial(_times, factor)) for factor in factors)
    return _answers_alike(model, folded, others, False, NOTHING_EXACT)


def _times(factor: float, value: Any) -> Any:
    real = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value * factor if real else value


def _answers_alike(
    model: nn.Module,
    folded: nn.Module,
    others: Iterable[Arguments],
    fixed: bool,
    exact: Exact,
) -> bool:
    for other in others:
        wanted = _answer(model, other)
        if wanted is None:  # this model does not take inputs of such a size
            continue
        found = _answer(folded, other)
        if found is None and fixed:
            continue
        if found is None or not _alike(wanted[0], found[0], model, folded, other, exact):
            return False
    return True


def _alike(
    wanted: Any,
    found: Any,
    model: nn.Module,
    folded: nn.Module,
    arguments: Arguments,
    exact: Exact = NOTHING_EXACT,
) -> bool:
    """Tell whether two answers differ by rounding; some deep networks amplify that a lot."""
    if same_results(wanted, found, slack=10):
        return True
    near = same_results(wanted, found, slack=1000)
    if not near and not exact:
        return False
    try:
        verdict = verify(model, folded, *arguments, exact=exact)
    except BNCheckError:
        return False
    return verdict.passed and (near or verdict.error_exact is not None)


def other_sizes(arguments: Arguments) -> Iterator[Arguments]:
    """Yield the inputs with other numbers of samples, and with other axes cut and grown.

    A model mostly refuses what it does not take in its first layer, so that this costs little.
    The sizes are odd and even, and no longer square.
    """
    shapes = _shapes(arguments)
    samples = {shape[0] for shape in shapes if len(shape) > 1}
    space = tuple(range(2, max(map(len, shapes), default=0)))
    changes: list[Callable[[Any], Any]] = [
        partial(_first_sample, samples),
        partial(_one_sample_more, samples),
        partial(_resized, dict.fromkeys(space, _half)),
        partial(_resized, dict.fromkeys(space, _odd_half)),
        partial(_resized, {axis: _double if axis == 2 else _half_more for axis in space}),
        partial(_resized, {1: _half}),
        partial(_resized, {1: _half_more}),
    ]
    seen = [shapes]
    for change in changes:
        other = map_tensors(arguments, change)
        if _shapes(other) not in seen:
            seen.append(_shapes(other))
            yield other


def _answer(model: nn.Module, arguments: Arguments) -> tuple[Any] | None:
    """Return what a model answers, in a tuple; None where it raises, as its own code may."""
    args, kwargs = copy.deepcopy(arguments)
    try:
        with torch.no_grad():
            return (model(*args, **kwargs),)
    except Exception:
        return None


def _shapes(arguments: Any) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []

    def keep(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            found.append(tuple(value.shape))
        return value

    map_tensors(arguments, keep)
    return found


def _first_sample(samples: set[int], value: Any) -> Any:
    return value[:1] if _has_samples(samples, value) else value


def _one_sample_more(samples: set[int], value: Any) -> Any:
    return torch.cat([value, value[:1]]) if _has_samples(samples, value) else value


def _has_samples(samples: set[int], value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape[0] in samples


def _resized(sizes: Mapping[int, Callable[[int], int]], value: Any) -> Any:
    """Return a tensor with some axes cut, or filled up with what they hold."""
    if isinstance(value, torch.Tensor):
        for axis, size in sizes.items():
            if axis < value.dim():
                old = value.shape[axis]
                new = size(old)
                value = value.index_select(axis, torch.arange(new, device=value.device) % old)
    return value


def _half(size: int) -> int:
    return (size + 1) // 2


def _odd_half(size: int) -> int:
    return size // 2 | 1


def _half_more(size: int) -> int:
    return size + (size + 1) // 2


def _double(size: int) -> int:
    return 2 * size

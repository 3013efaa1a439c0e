"""Example inputs: tensors as they are given, or random ones where only shapes are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch


@dataclass(frozen=True)
class InputSpec:
    """The shape and dtype of an input whose values are to be drawn."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32


def map_tensors(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return `value` with each tensor and `InputSpec` in its containers mapped."""
    if isinstance(value, torch.Tensor | InputSpec):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, function) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(item, function) for item in value)
    if isinstance(value, Mapping) and hasattr(value, "copy"):
        mapped = value.copy()
        for key in value:
            mapped[key] = map_tensors(value[key], function)
        return mapped
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value,
            **{f.name: map_tensors(getattr(value, f.name), function) for f in fields(value)},
        )
    return value


def draw(value: Any, generator: torch.Generator) -> Any:
    """Return `value` with random tensors in place of its `InputSpec`s.

    Real and complex values are standard normal. Integers are 0 or 1, which are indices of every
    table that has two rows.
    """

    def one(item: Any) -> Any:
        if not isinstance(item, InputSpec):
            return item
        if item.dtype.is_floating_point or item.dtype.is_complex:
            wide = torch.complex128 if item.dtype.is_complex else torch.float64
            return torch.randn(item.shape, generator=generator, dtype=wide).to(item.dtype)
        return torch.randint(0, 2, item.shape, generator=generator).to(item.dtype)

    return map_tensors(value, one)


def jitter(value: Any, generator: torch.Generator, relative: float) -> Any:
    """Return `value` with each real number in its tensors changed by about this share of it."""

    def one(item: Any) -> Any:
        if not isinstance(item, torch.Tensor) or not item.dtype.is_floating_point:
            return item
        noise = torch.randn(item.shape, generator=generator, dtype=torch.float64)
        return (item.double() * (1 + relative * noise.to(item.device))).to(item.dtype)

    return map_tensors(value, one)


def tensors(value: Any, path: str = "") -> dict[str, Any]:
    """Return the tensors and plain numbers of a nested output by their path, such as `.logits[0]`.

    Goes into mappings, sequences and dataclasses (a `ModelOutput` is both); other objects, such
    as caches, are passed over.
    """
    if isinstance(value, torch.Tensor):
        return {path: value}
    if isinstance(value, bool | int | float | complex):
        return {path: torch.tensor(value, dtype=torch.float64 if type(value) is float else None)}
    if isinstance(value, Mapping):
        parts = [(f"[{key!r}]", value[key]) for key in value]
    elif isinstance(value, tuple | list):
        parts = [(f"[{index}]", item) for index, item in enumerate(value)]
    elif is_dataclass(value) and not isinstance(value, type):
        parts = [(f".{field.name}", getattr(value, field.name)) for field in fields(value)]
    else:
        return {}
    found: dict[str, Any] = {}
    for name, item in parts:
        found |= tensors(item, path + name)
    return found

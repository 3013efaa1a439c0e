"""Products of a tensor and a parameter, as layers: `x @ weight + bias`, `einsum`, `addmm`.

A product is told by letters, one for each axis, as `torch.einsum` does. What weight and result
have in common are its output channels, what weight and source have, its input channels; letters of
all three are groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class View:
    """How a tensor that code computes with lies in the parameter that it is a view of."""

    shape: tuple[int, ...]
    """That of the parameter."""
    order: tuple[int, ...]
    """The axes of the view in the order in which they lie in the parameter."""

    def of(self, parameter: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        """Return the view, of these sizes."""
        inverse = [self.order.index(axis) for axis in range(len(sizes))]
        return parameter.reshape([sizes[axis] for axis in self.order]).permute(inverse)

    def back(self, view: torch.Tensor) -> torch.Tensor:
        """Return the parameter of which this is the view."""
        return view.permute(self.order).reshape(self.shape)


def view_of(value: torch.Tensor, parameter: torch.Tensor) -> View | None:
    """Return how one tensor lies in another; None where it is not all of it with its axes moved."""
    same = (
        value.dtype == parameter.dtype
        and value.layout == parameter.layout == torch.strided
        and value.numel() == parameter.numel() > 0
        and value.data_ptr() == parameter.data_ptr()
        and not (value.is_neg() or value.is_conj())
        and parameter.is_contiguous()
    )
    if not same:
        return None
    order = sorted(range(value.dim()), key=value.stride, reverse=True)
    wide = [axis for axis in order if value.shape[axis] > 1]
    step = 1
    for axis in reversed(wide):
        if value.stride(axis) != step:
            return None
        step *= value.shape[axis]
    return View(tuple(parameter.shape), (*(a for a in order if a not in wide), *wide))


@dataclass(frozen=True)
class Product:
    """A product of a source and a weight, by the letters of their axes and of the result's."""

    source: str
    weight: str
    result: str
    sizes: tuple[int, ...]
    """Of the weight's axes, as the product sees them."""
    weight_view: View
    squeezed: bool
    """Whether axes of the weight of size 1 were left out."""
    bias_view: View | None = None
    """Where a bias is added: how its axes, as those of the result, lie in its parameter."""

    @property
    def is_linear(self) -> bool:
        """Whether `torch.nn.functional.linear` does the same, and could add a bias."""
        return (
            len(self.weight) == 2
            and not self.squeezed
            and self.source[-1:] == self._summed
            and self.result[-1:] == self._free
            and self.source[:-1] == self.result[:-1]
        )

    @property
    def inputs_first(self) -> bool:
        """Whether the weight's first axis is that of the input channels, where it has two."""
        return self.weight[:1] == self._summed

    @property
    def output_axes(self) -> tuple[int, ...]:
        """The axes of the result that hold the output channels, the slowest first."""
        return tuple(map(self.result.index, self._groups + self._free))

    @property
    def input_axes(self) -> tuple[int, ...]:
        """The axes of the source that hold the input channels, the slowest first."""
        return tuple(map(self.source.index, self._groups + self._summed))

    @property
    def groups(self) -> int:
        """How many parts there are that have channels of their own."""
        return self._size(self._groups)

    def matrix(self, parameter: torch.Tensor) -> torch.Tensor:
        """Return the weight as that of a transposed layer, shape `(in, out / groups)`."""
        seen = self.weight_view.of(parameter, self.sizes)
        axes = map(self.weight.index, self._groups + self._summed + self._free)
        return seen.permute(*axes).reshape(-1, self._size(self._free))

    def parameter(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the parameter of which this is the matrix."""
        letters = self._groups + self._summed + self._free
        full = matrix.reshape([self._size(letter) for letter in letters])
        return self.weight_view.back(full.permute([letters.index(one) for one in self.weight]))

    def channels(self, bias: torch.Tensor) -> torch.Tensor:
        """Return a bias in the order of the output channels."""
        assert self.bias_view is not None
        letters = self._groups + self._free
        sizes = [self._size(one) if one in letters else 1 for one in self.result]
        seen = self.bias_view.of(bias, sizes)
        others = [axis for axis, one in enumerate(self.result) if one not in letters]
        return seen.permute(*self.output_axes, *others).reshape(-1)

    def bias(self, channels: torch.Tensor) -> torch.Tensor:
        """Return the parameter of which these are the channels."""
        assert self.bias_view is not None
        letters = self._groups + self._free
        others = [axis for axis, one in enumerate(self.result) if one not in letters]
        order = [*self.output_axes, *others]
        full = channels.reshape([self._size(one) for one in letters] + [1] * len(others))
        return self.bias_view.back(full.permute([order.index(a) for a in range(len(order))]))

    @property
    def _groups(self) -> str:
        return "".join(one for one in self.weight if one in self.source and one in self.result)

    @property
    def _summed(self) -> str:
        return "".join(one for one in self.weight if one not in self.result)

    @property
    def _free(self) -> str:
        return "".join(one for one in self.weight if one not in self.source)

    def _size(self, letters: str) -> int:
        return math.prod(self.sizes[self.weight.index(one)] for one in letters)


def product_of(
    letters: tuple[str, str, str],
    shapes: tuple[Sequence[int], Sequence[int], Sequence[int]],
    view: View,
) -> Product | None:
    """Return a product of a source, a weight and a result; None where it is no layer.

    A layer sums over something. Letters are those of each axis and `shapes` its sizes; a weight's
    axis of size 1 that the source has too is broadcast, and is no channel.
    """
    source, weight, result = letters
    if any(len(set(one)) != len(one) for one in letters):
        return None
    known = {
        **dict(zip(source, shapes[0], strict=True)),
        **dict(zip(result, shapes[2], strict=True)),
    }
    kept = [
        axis for axis, one in enumerate(weight)
        if shapes[1][axis] > 1 or not (one in source and one in result)
    ]  # fmt: skip
    sizes = tuple(shapes[1][axis] for axis in kept)
    order = tuple(kept.index(axis) for axis in view.order if axis in kept)
    weight = "".join(weight[axis] for axis in kept)
    summed = set(weight) & set(source) - set(result)
    alike = summed and all(known.get(one) == size for one, size in zip(weight, sizes, strict=True))
    in_both = set(source) - set(weight) <= set(result) <= set(source) | set(weight)
    if not alike or not in_both or not set(weight) <= set(source) | set(result):
        return None
    squeezed = len(kept) < len(shapes[1])
    return Product(source, weight, result, sizes, View(view.shape, order), squeezed)

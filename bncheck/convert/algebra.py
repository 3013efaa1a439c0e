"""Folding an affine map per channel into the weight and bias of a layer: pure functions.

In eval mode a BatchNorm is `y = scale * x + shift` per channel with
`scale = weight / sqrt(running_var + eps)` and `shift = bias - running_mean * scale`
(Ioffe and Szegedy 2015, algorithm 2). Each function takes and returns float64 tensors; casting to
the layer's dtype is the caller's, once, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Weights:
    """A layer's weight and bias in float64, and how its channels lie in the weight.

    `layout` is `linear` and `convolution` with weight `(out, in / groups, *kernel)`, or
    `transposed` with weight `(in, out / groups, *kernel)`.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    layout: str = "convolution"
    groups: int = 1


def batch_norm_map(
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift of a BatchNorm in eval mode, float64, shape `(channels,)`."""
    scale = (running_var.double() + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.double()
    shift = -running_mean.double() * scale
    return scale, shift if bias is None else shift + bias.double()


def scale_output(layer: Weights, scale: torch.Tensor, shift: torch.Tensor) -> Weights:
    """Return the layer that computes `scale * layer(x) + shift`, both per output channel."""
    bias = shift if layer.bias is None else scale * layer.bias + shift
    if layer.layout == "transposed":
        by_group = scale.view(layer.groups, 1, -1).expand(
            layer.groups, layer.weight.shape[0] // layer.groups, -1
        )
        factor = by_group.reshape(layer.weight.shape[:2])
        weight = layer.weight * _spread(factor, layer.weight)
    else:
        weight = layer.weight * _spread(scale, layer.weight)
    return Weights(weight, bias, layer.layout, layer.groups)


def scale_input(layer: Weights, scale: torch.Tensor, shift: torch.Tensor) -> Weights:
    """Return the layer that computes `layer(scale * x + shift)`, both per input channel.

    The shift is exact only where every output sees every tap of the kernel: no zero padding, and
    for a transposed convolution a shift of zero.
    """
    outputs, per_group = layer.weight.shape[:2]
    if layer.layout == "transposed":
        return Weights(
            layer.weight * _spread(scale, layer.weight), layer.bias, layer.layout, layer.groups
        )
    by_output = scale.view(layer.groups, 1, per_group).expand(
        layer.groups, outputs // layer.groups, per_group
    )
    weight = layer.weight * _spread(by_output.reshape(outputs, per_group), layer.weight)
    bias = layer.bias
    if bool((shift != 0).any()):
        shifts = shift.view(layer.groups, 1, per_group).expand(
            layer.groups, outputs // layer.groups, per_group
        )
        taps = layer.weight.flatten(2).sum(2) if layer.weight.dim() > 2 else layer.weight
        added = (taps * shifts.reshape(outputs, per_group)).sum(1)
        bias = added if bias is None else bias + added
    return Weights(weight, bias, layer.layout, layer.groups)


def add_identity(
    layer: Weights, scale: torch.Tensor, shift: torch.Tensor, centre: tuple[int, ...]
) -> Weights:
    """Return the layer that computes `layer(x) + scale * x + shift`, per channel.

    The layer is a convolution of stride 1 with as many outputs as inputs, whose output at a
    position sees the input at that position through tap `centre` (Ding et al. 2021, RepVGG).
    """
    outputs, per_group = layer.weight.shape[:2]
    weight = layer.weight.clone(memory_format=torch.contiguous_format)
    index = torch.arange(outputs, device=weight.device)
    taps = weight.view(outputs, per_group, -1)
    position = 0
    for tap, size in zip(centre, weight.shape[2:], strict=True):
        position = position * size + tap
    taps[index, index % per_group, position] += scale
    bias = shift if layer.bias is None else layer.bias + shift
    return Weights(weight, bias, layer.layout, layer.groups)


def compose(
    outer: tuple[torch.Tensor, torch.Tensor], inner: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the map `outer(inner(x))` of two maps `(scale, shift)`."""
    return outer[0] * inner[0], outer[0] * inner[1] + outer[1]


def rounding_problem(exact: torch.Tensor, dtype: torch.dtype, axis: int) -> tuple[int, str] | None:
    """Return the first channel of `exact` that `dtype` cannot hold as well as it rounds, and why.

    A channel is good when its largest error is at most half a unit in the last place of its
    largest magnitude: then casting costs no more than rounding does anywhere else.
    """
    if not exact.numel():
        return None
    rounded = exact.to(dtype).double()
    channels = exact.movedim(axis, 0).flatten(1) if exact.dim() > 1 else exact.view(-1, 1)
    cast = rounded.movedim(axis, 0).flatten(1) if exact.dim() > 1 else rounded.view(-1, 1)
    overflow = ~torch.isfinite(cast).all(1)
    if bool(overflow.any()):
        return int(overflow.nonzero()[0]), "overflows"
    top = channels.abs().amax(1)
    lost = (channels - cast).abs().amax(1) > torch.finfo(dtype).eps * top
    if bool(lost.any()):
        return int(lost.nonzero()[0]), "loses more than rounding"
    return None


def _spread(factor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return factor.view(*factor.shape, *(1,) * (weight.dim() - factor.dim()))

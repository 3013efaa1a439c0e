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

    The shift is exact only where every output sees every tap of the kernel: without zero padding,
    or, for a transposed convolution, with stride 1 and the border cut off.
    """
    outputs, per_group = layer.weight.shape[:2]
    if layer.layout == "transposed":
        weight = layer.weight * _spread(scale, layer.weight)
        taps = (_over_taps(layer.weight) * shift.unsqueeze(1)).view(layer.groups, -1, per_group)
        return Weights(
            weight, _add(layer.bias, taps.sum(1).reshape(-1), shift), layer.layout, layer.groups
        )
    by_output = scale.view(layer.groups, 1, per_group).expand(
        layer.groups, outputs // layer.groups, per_group
    )
    weight = layer.weight * _spread(by_output.reshape(outputs, per_group), layer.weight)
    shifts = shift.view(layer.groups, 1, per_group).expand(
        layer.groups, outputs // layer.groups, per_group
    )
    added = (_over_taps(layer.weight) * shifts.reshape(outputs, per_group)).sum(1)
    return Weights(weight, _add(layer.bias, added, shift), layer.layout, layer.groups)


def add_identity(
    layer: Weights, scale: torch.Tensor, shift: torch.Tensor, centre: tuple[int, ...]
) -> Weights:
    """Return the layer that computes `layer(x) + scale * x + shift`, per channel.

    The layer is linear, or a convolution of stride 1, also a transposed one, with as many outputs
    as inputs, whose output at a position sees the input at that position through tap `centre`
    (Ding et al. 2021, RepVGG).
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


def affine_parameters(
    scale: torch.Tensor,
    shift: torch.Tensor,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight and bias, float64, with which a BatchNorm's scale and shift are these."""
    weight = scale * (running_var.double() + eps).sqrt()
    return weight, shift + running_mean.double() * scale


def rounding_problem(
    layer: Weights, dtype: torch.dtype, inputs: bool = False
) -> tuple[int, str] | None:
    """Return the first output channel that `dtype` cannot hold as well as it rounds, and why.

    What casting changes of a channel's weights, summed, may be at most a rounding of their sum of
    magnitudes; what it changes of the bias, a rounding of what bias and weights add up to. With
    `inputs`, the same is asked of the weights of each input channel, which may be of other sizes.
    """
    if not layer.weight.numel():
        return None
    weight = _by_channel(layer, inputs)
    magnitude = torch.linalg.vector_norm(weight, 1, dim=1)
    doubtful = (~_surely_held(magnitude, weight.shape[1], dtype)).nonzero().flatten()
    for channels, exact in ((doubtful, weight), (slice(None), None if inputs else layer.bias)):
        if exact is None:
            continue
        exact = exact.view(len(weight), -1)[channels]
        cast = exact.to(dtype).double()
        overflow = ~torch.isfinite(cast).all(1)
        if bool(overflow.any()):
            return _place(channels, overflow), "overflows"
        allowed = torch.finfo(dtype).eps * torch.maximum(magnitude[channels], exact.abs().sum(1))
        lost = (exact - cast).abs().sum(1) > allowed
        if bool(lost.any()):
            return _place(channels, lost), "loses more than rounding"
    return None


def _surely_held(magnitude: torch.Tensor, count: int, dtype: torch.dtype) -> torch.Tensor:
    """Tell which channels of `count` weights cannot lose more than rounding, by their sums alone.

    A number is rounded by at most half of `eps` times itself, and below the smallest normal one
    by no more than that one. Where all of the latter come to less than the other half, and the sum
    itself can be held, all can.
    """
    info = torch.finfo(dtype)
    return (magnitude * info.eps >= 2 * count * info.tiny) & (magnitude <= info.max)


def _place(channels: torch.Tensor | slice, found: torch.Tensor) -> int:
    place = int(found.nonzero()[0])
    return place if isinstance(channels, slice) else int(channels[place])


def _by_channel(layer: Weights, inputs: bool) -> torch.Tensor:
    """Return the weights of each output or input channel, shape `(channels, weights)`."""
    first, second = layer.weight.shape[:2]
    transposed = layer.layout == "transposed"
    if inputs == transposed:
        return layer.weight.flatten(1)
    grouped = layer.weight.reshape(layer.groups, first // layer.groups, second, -1)
    return grouped.transpose(1, 2).reshape(layer.groups * second, -1)


def _over_taps(weight: torch.Tensor) -> torch.Tensor:
    return weight.flatten(2).sum(2) if weight.dim() > 2 else weight


def _add(
    bias: torch.Tensor | None, added: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor | None:
    if not bool((shift != 0).any()):
        return bias
    return added if bias is None else bias + added


def _spread(factor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return factor.view(*factor.shape, *(1,) * (weight.dim() - factor.dim()))

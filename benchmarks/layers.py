"""Layers as the independent rule of `foldable.py` sees them: channels, and what fits in."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONSUMERS = (
    *CONVOLUTIONS,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return s and t with which a BatchNorm in eval mode is y = s * x + t, per channel."""
    mean, variance = norm.running_mean, norm.running_var
    scale = (variance + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    shift = -mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach()


def channel_axis(layer: nn.Module, value: Tensor) -> int:
    """Return where a layer's channels stand in its input or output, which has a batch."""
    return value.dim() - 1 if isinstance(layer, nn.Linear) else 1


def channel_count(layer: nn.Module, out: Tensor) -> int:
    return out.shape[channel_axis(layer, out)]


def along(values: Tensor, like: Tensor, dim: int) -> Tensor:
    shape = [1] * like.dim()
    shape[dim] = -1
    return values.reshape(shape)


def plain(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer without its hooks."""
    with torch.no_grad():
        return layer.forward(x)


def has_border(layer: nn.Module) -> bool:
    """Whether outputs may miss some taps of the kernel, so that a shift of the input varies."""
    if isinstance(layer, CONVOLUTIONS):
        return layer.padding_mode == "zeros" and any(layer.padding)
    transposed = not isinstance(layer, nn.Linear)
    return transposed and (max(layer.kernel_size) > 1 or max(layer.stride) > 1)


def moments(out: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel, in the shape of `out` but for size 1."""
    others = [axis for axis in range(out.dim()) if axis != dim]
    deviation = out.std(others, correction=0, keepdim=True)
    varies = deviation > 1e-12 * out.abs().amax(others, keepdim=True)  # and not by rounding alone
    return out.mean(others, keepdim=True), torch.where(varies, deviation, 1.0)


def with_identity(layer: nn.Module, scale: Tensor, shift: Tensor) -> nn.Module | None:
    """Return a copy of a layer that adds scale * x + shift to its output; None where none can."""
    channels = len(scale)
    if not isinstance(layer, CONSUMERS) or layer.weight.shape[0] != channels:
        return None
    taps: tuple[int, ...] = ()
    inputs = layer.weight.shape[1]
    if not isinstance(layer, nn.Linear):
        if layer.in_channels != layer.out_channels or isinstance(layer.padding, str):
            return None
        sizes = zip(layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True)
        for padding, dilation, kernel, stride in sizes:
            if stride != 1 or padding % dilation or padding // dilation >= kernel:
                return None
            taps = (*taps, padding // dilation)
    elif inputs != channels:
        return None
    changed = copy.deepcopy(layer)
    changed._forward_hooks.clear()
    with torch.no_grad():
        for channel in range(channels):
            changed.weight[(channel, channel % inputs, *taps)] += scale[channel]
        bias = torch.zeros_like(shift) if layer.bias is None else layer.bias.detach()
        changed.bias = nn.Parameter(bias + shift)
    return changed

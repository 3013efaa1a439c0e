"""The equations of Batch Normalization (Ioffe and Szegedy, 2015) in float64: an oracle for tests.

Written from the equations, operation by operation, and sharing no code with what it judges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Statistics:
    """Mean and variance per channel, each of shape (C,), in float64."""

    mean: Any
    variance: Any


def batch_statistics(x: Any) -> Statistics:
    """Return the mean and the biased variance over all but dimension 1 of `x` (N, C, ...)."""
    flat = x.double().transpose(0, 1).reshape(x.shape[1], -1)
    mean = flat.sum(1) / flat.shape[1]
    return Statistics(mean, ((flat - mean[:, None]) ** 2).sum(1) / flat.shape[1])


def batch_norm(
    x: Any, statistics: Statistics, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Return `weight * (x - mean) / sqrt(variance + eps) + bias` of `x` (N, C, ...) in float64."""
    shape = (1, x.shape[1]) + (1,) * (x.dim() - 2)
    mean, variance = statistics.mean.double(), statistics.variance.double()
    y = (x.double() - mean.view(shape)) / torch.sqrt(variance + eps).view(shape)
    if weight is not None:
        y = y * weight.double().view(shape)
    if bias is not None:
        y = y + bias.double().view(shape)
    return y


def running_update(running: Statistics, x: Any, momentum: float) -> Statistics:
    """Return the running statistics after a training step on `x` (N, C, ...).

    They take the unbiased variance, n / (n - 1) times the one that normalises the batch, as
    PyTorch does. Raises ValueError where a channel has one value, whose variance has none.
    """
    count = x.numel() // x.shape[1]
    if count < 2:
        raise ValueError("the variance of one value per channel is not defined")
    batch = batch_statistics(x)
    return Statistics(
        (1 - momentum) * running.mean.double() + momentum * batch.mean,
        (1 - momentum) * running.variance.double()
        + momentum * batch.variance * count / (count - 1),
    )

"""Models with the same layers whose BatchNorms are moderate, so that nothing is right by chance."""

from __future__ import annotations

import copy
from typing import Any

import torch
from layers import NORMS, moments, scale_and_shift
from runs import run
from torch import Tensor, nn


def calmed(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy whose BatchNorms have opposite shifts, and outputs of moderate size.

    What is right with one only is right by where values lie: between two rectifiers, a shift down
    may as well come before the first, and a shift up after the second; far out a sigmoid or tanh
    gives the same whatever it is given; and what passes a few small scales in a row is lost beside
    the other channels, right or wrong. Signs of scales, shifts and scales that are zero, and which
    channels of a BatchNorm are alike stay as they are.
    """
    changed = copy.deepcopy(model)
    done = set()

    def calm(norm: nn.Module, arguments: Any) -> None:
        if norm in done:
            return
        done.add(norm)
        scale, shift = scale_and_shift(norm)
        aim = 0.5 + 0.618 * len(done) % 1  # each another one: a scale of -1 undoes itself
        moderate = _evened(scale) * (aim / moments(arguments[0], 1)[1].max())
        size = shift.abs().max()
        wanted = shift * (-0.5 / size if size > 0 else 0.0)
        with torch.no_grad():
            ratio = torch.where(scale == 0, 1.0, scale / moderate)
            norm.running_var.copy_((norm.running_var + norm.eps) * ratio**2)
            norm.eps = 0.0  # beside which a small variance would be lost
            norm.running_mean.zero_()
            if norm.bias is not None:
                norm.bias.copy_(wanted)
            else:
                norm.running_mean.copy_(-wanted / moderate)

    norms = [module for module in changed.modules() if type(module) in NORMS]
    handles = [norm.register_forward_pre_hook(calm) for norm in norms]
    run(changed, example)
    for handle in handles:
        handle.remove()
    return changed


def _evened(scale: Tensor) -> Tensor:
    """Return scales from 1/2 to 1 in the same order, with the same signs; zeros and equals stay."""
    sizes = scale.abs().sort().values
    larger = torch.cat([torch.zeros(1), (sizes.diff() > 1e-9 * sizes[1:]).cumsum(0)])
    place = larger[torch.searchsorted(sizes, scale.abs())]
    return scale.sign() * (1 + place / max(float(larger[-1]), 1.0)) / 2

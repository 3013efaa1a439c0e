"""A BatchNorm that nothing moves: the layer that `bncheck freeze` puts in a model.

Its full name stands in the pickled models that hold it, so it stays where it is. A model with
such layers loads with `torch.load(..., weights_only=True)` after
`torch.serialization.add_safe_globals([bncheck.frozen.FrozenBatchNorm])`.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class FrozenBatchNorm(nn.Module):
    """`y = weight * (x - running_mean) / sqrt(running_var + eps) + bias`, all of them buffers.

    Takes (N, C, ...) of any number of dimensions, and computes what a BatchNorm in eval mode does,
    bit for bit. `train()` changes nothing, since no batch statistics are taken, and no optimizer
    sees it, since it has no parameters. The names of its buffers are those of the BatchNorm that
    it stands for, so state dicts load in both directions.
    """

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("a BatchNorm without running statistics cannot be frozen")
        self.num_features = norm.num_features
        self.eps = norm.eps
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            value: Tensor | None = getattr(norm, name)
            self.register_buffer(name, None if value is None else value.detach().clone())
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        """Normalise with the frozen statistics."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )

    def extra_repr(self) -> str:
        """Say the size and eps."""
        return f"{self.num_features}, eps={self.eps}"

"""BatchNorm to SyncBatchNorm, which takes its statistics over all processes of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bncheck.convert.layers import replace_batch_norms
from bncheck.convert.outcome import Conversion
from bncheck.verification.compare import verify as compare


def sync(
    model: nn.Module,
    example_inputs: Any = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    verify: bool = True,
) -> Conversion:
    """Return a copy of `model` with SyncBatchNorm in place of BatchNorm1d, 2d and 3d.

    Each layer goes through `torch.nn.SyncBatchNorm.convert_sync_batchnorm`. Given a subclass, that
    function drops what the subclass adds without a word; here
    it is refused by name. Parameters, statistics and the names of both stay; in eval mode the
    result computes the same. Verification needs `example_inputs`.

    Raises BNCheckError where there is no BatchNorm, or the model does not run on the inputs.
    """
    converted, steps, refusals = replace_batch_norms(
        model, nn.SyncBatchNorm.convert_sync_batchnorm, _refuse, "same parameters and statistics"
    )
    wanted = verify and bool(steps)
    verification = compare(model, converted, example_inputs, example_kwargs) if wanted else None
    return Conversion(converted, steps, refusals, verification)


def _refuse(norm: _BatchNorm) -> str:
    return "it is a SyncBatchNorm already" if isinstance(norm, nn.SyncBatchNorm) else ""

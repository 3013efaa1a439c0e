"""What running a model may change: buffers, such as running statistics, and the random state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from bncheck.verification.precision import full_precision

Tensors = Mapping[str, torch.Tensor]


@contextmanager
def left_as_it_was(model: Any) -> Iterator[Tensors]:
    """Put a model's buffers and the random state back after it has run; give what they were.

    It runs without autocast and at full precision, as it is verified.
    """
    devices = range(torch.cuda.device_count())
    # Tensors made in inference mode could not be trained, nor run outside of it.
    with torch.inference_mode(False), full_precision(), torch.random.fork_rng(devices=devices):
        before = {name: tensor.detach().clone() for name, tensor in buffers(model).items()}
        try:
            yield before
        finally:
            restore(model, before)


def restore(model: Any, before: Tensors) -> None:
    """Give the buffers of a model the values that those of the same name and shape had."""
    with torch.no_grad():
        for name, buffer in buffers(model).items():
            old = before.get(name)
            if old is not None and old.shape == buffer.shape and not torch.equal(old, buffer):
                buffer.copy_(old)


def buffers(model: Any) -> dict[str, torch.Tensor]:
    """Return the buffers of an `nn.Module`, a `ScriptModule` or an `ExportedProgram` by name."""
    if isinstance(model, torch.export.ExportedProgram):
        return {
            name: tensor
            for name, tensor in (*model.state_dict.items(), *model.constants.items())
            if isinstance(tensor, torch.Tensor) and not isinstance(tensor, torch.nn.Parameter)
        }
    return dict(model.named_buffers())

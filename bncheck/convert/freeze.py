"""BatchNorm to a layer that neither `train()` nor an optimizer moves."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bncheck.convert.layers import replace_batch_norms
from bncheck.convert.outcome import Conversion
from bncheck.frozen import FrozenBatchNorm
from bncheck.verification.compare import as_arguments
from bncheck.verification.compare import verify as compare
from bncheck.verification.inputs import draw, map_tensors, tensors

TRAINING_STEPS = 3


def freeze(
    model: nn.Module,
    example_inputs: Any = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    verify: bool = True,
) -> Conversion:
    """Return a copy of `model` with `FrozenBatchNorm` in place of BatchNorm1d, 2d, 3d and Sync.

    Statistics and affine parameters become buffers under the names that they had. Verification
    compares eval outputs, then trains a copy of the result for three steps with every parameter
    free to move and asks each frozen layer for the same bits as the BatchNorm it stands for.

    Raises BNCheckError where there is no BatchNorm, or the model does not run on the inputs.
    """
    converted, steps, refusals = replace_batch_norms(
        model, FrozenBatchNorm, _refuse, "parameters become buffers"
    )
    if not verify or not steps:
        return Conversion(converted, steps, refusals, None)
    verification = compare(model, converted, example_inputs, example_kwargs)
    notes: tuple[str, ...] = ()
    if verification.passed:
        arguments = (as_arguments(example_inputs), dict(example_kwargs or {}))
        try:
            moved = _moved_by_training(model, converted, arguments)
        except Exception as problem:  # whatever keeps a model from training on these inputs
            lines = str(problem).strip().splitlines() or [type(problem).__name__]
            notes = (
                f"not proved by training it, since it does not train on the input: {lines[0]}",
            )
        else:
            if moved:
                reason = f"{moved} computes something else after {TRAINING_STEPS} training steps"
                verification = replace(verification, passed=False, reason=reason)
    return Conversion(converted, steps, refusals, verification, notes)


def _refuse(norm: _BatchNorm) -> str:
    return "" if norm.running_mean is not None else "it keeps no running statistics to freeze"


def _moved_by_training(original: nn.Module, converted: nn.Module, arguments: Any) -> str:
    """Return the name of a frozen layer that three training steps changed; empty: none."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        drawn = draw(arguments, torch.Generator().manual_seed(0))
        trained = copy.deepcopy(converted).train()
        device = next((t.device for t in trained.buffers()), torch.device("cpu"))
        drawn = map_tensors(drawn, lambda t: t.to(device))
        seen = _train(trained, drawn)
    norms = dict(original.named_modules())
    layers = dict(trained.named_modules())
    with torch.no_grad():
        for name, inputs in seen.items():
            norm = copy.deepcopy(norms[name]).eval()
            if not all(torch.equal(layers[name](x), norm(x)) for x in inputs):
                return name
    return ""


def _train(model: nn.Module, arguments: Any) -> dict[str, list[torch.Tensor]]:
    """Train for some steps, everything free to move; return what reached each frozen layer."""
    seen: dict[str, list[torch.Tensor]] = {}
    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, FrozenBatchNorm):
            inputs = seen.setdefault(name, [])
            hooks.append(
                layer.register_forward_pre_hook(
                    lambda _, args, inputs=inputs: inputs.append(args[0].detach().clone())
                )
            )
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = (
        torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=0.1) if parameters else None
    )
    for _ in range(TRAINING_STEPS):
        args, kwargs = map_tensors(arguments, lambda t: t.clone())
        outputs = [t for t in tensors(model(*args, **kwargs)).values() if t.requires_grad]
        if optimizer is None or not outputs:
            continue
        optimizer.zero_grad()
        sum(output.abs().double().mean() for output in outputs).backward()
        optimizer.step()
    for hook in hooks:
        hook.remove()
    return seen

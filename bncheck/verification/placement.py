"""Where models are run to be compared, and in which mode; they are left as they were."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from bncheck.errors import BNCheckError
from bncheck.verification.runs import tensors_of


@contextmanager
def ready(
    original: Any, converted: Any, device: str | torch.device | None = None
) -> Iterator[tuple[Any, Any, torch.device]]:
    """Give both models, callable, in eval mode and on one device, and the device.

    That is the first CUDA device when there is one and no graph names another, else the CPU.
    Models elsewhere are copied there; all are left as they were.
    """
    target = torch.device(device or _device_for(original, converted))
    with in_eval(original) as first, in_eval(converted) as second:
        yield _placed(first, second, target)


@contextmanager
def in_eval(model: Any) -> Iterator[Any]:
    """Give the model in eval mode, and put each of its modules back as it was.

    Some hooks compute a weight and leave it at the module, in the dtype of the last run.
    """
    if isinstance(model, torch.export.ExportedProgram):
        yield model.module()
        return
    modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    computed = [
        (vars(module), name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, torch.Tensor)
    ]
    try:
        for module, _ in modes:
            module.training = False
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for attributes, name, value in computed:
            attributes[name] = value


def _device_for(original: Any, converted: Any) -> torch.device | str:
    """Return where models run best; those whose graphs name a device, where they are."""
    bound = [model for model in (original, converted) if _names_a_device(model)]
    if bound:
        return next((tensor.device for model in bound for tensor in tensors_of(model)), "cpu")
    return "cuda" if torch.cuda.is_available() else "cpu"


def _names_a_device(model: Any) -> bool:
    """Tell whether a model makes tensors on the device on which it was traced, as graphs do."""
    if isinstance(model, torch.jit.ScriptModule | torch.export.ExportedProgram):
        return True
    return isinstance(model, torch.fx.GraphModule) and any(
        isinstance(leaf, torch.device)
        for node in model.graph.nodes
        for leaf in tree_leaves((node.args, node.kwargs))
    )


def _placed(original: Any, converted: Any, target: torch.device) -> tuple[Any, Any, torch.device]:
    """Give the models on `target`: themselves if they are there, else copies.

    Models that cannot be copied, or that span devices, are compared where they are.
    """
    homes = {t.device for model in (original, converted) for t in tensors_of(model)}
    if target.type == "cuda" and target.index is None:
        target = torch.device("cuda", torch.cuda.current_device())
    if homes <= {target}:
        return original, converted, target
    try:
        return copy.deepcopy(original).to(target), copy.deepcopy(converted).to(target), target
    except Exception as problem:
        if len(homes) > 1:
            raise BNCheckError(
                f"the models cannot be moved to {target}: {problem}; put both on one device"
            ) from problem
        return original, converted, homes.pop()

"""Follows the making of optimizers."""

from __future__ import annotations

import libcst as cst

from bncheck.events import Model, OptimizerBuilt
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Container, Members, Models, Opaque, Optimizer


def is_of_torch(name: str) -> bool:
    """Tell whether a class is an optimizer of torch's, and no schedule of learning rates."""
    return name.startswith("torch.optim.") and not name.startswith(
        ("torch.optim.lr_scheduler", "torch.optim.swa_utils")
    )


def is_built(name: str, arguments: Arguments) -> bool:
    """Tell whether a function makes an optimizer: torch's, or one by its name and parameters."""
    if is_of_torch(name):
        return True
    last = name.rpartition(".")[2].lower()
    return any(isinstance(v, Members) and v.parameters for v in arguments.all()) and (
        any(word in last for word in ("optim", "adam", "sgd", "lars", "lamb", "lion", "rmsprop"))
    )


def build(run: Run, node: cst.Call, arguments: Arguments) -> Optimizer:
    """Follow the making of an optimizer: note whose parameters it is given."""
    site = run.site(node)
    models: dict[Model, None] = {}
    stack = arguments.all()
    while stack:
        value = stack.pop()
        match value:
            case Members(model=model):
                models[model] = None
            case Models(models=given):
                models.update(dict.fromkeys(given))
            case Container(elements=elements):
                stack.extend(elements)
            case Opaque(holds=holds):
                models.update(dict.fromkeys(holds))
    for model in models:
        run.emit(OptimizerBuilt(site, model))
    return Optimizer()

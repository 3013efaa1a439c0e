"""Epochs of segmentation_models_pytorch: `TrainEpoch(model, ...)` and what its `run` does."""

from __future__ import annotations

import re

import libcst as cst

from bncheck.events import BackwardCall, Mode, ModeChange, OptimizerStep
from bncheck.source.timeline import networks
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Data, Models, Opaque, Tensor, Value
from bncheck.timeline import Loop

_EPOCH = re.compile(r"segmentation_models_pytorch\.utils\.train\.(?:Train|Valid)Epoch$")


def make(run: Run, node: cst.Call, name: str, arguments: Arguments) -> Opaque | None:
    """Return an epoch that keeps the model which it is given; None: something else is made."""
    model = arguments.get(0, "model")
    if not isinstance(model, Models) or not _EPOCH.match(name):
        return None
    epoch = Opaque(name.rpartition(".")[2], run.site(node), name)
    run.heap.set(epoch, "model", model)
    return epoch


def follow(run: Run, node: cst.Call, epoch: Opaque, arguments: Arguments) -> Opaque | None:
    """Follow `epoch.run(loader)`, which sets the mode itself; None: it is no such epoch."""
    model = run.heap.get(epoch, "model") if _EPOCH.match(epoch.type_name) else None
    if not isinstance(model, Models):
        return None
    trains = epoch.type_name.endswith(".TrainEpoch")
    for one in model.models:
        run.emit(ModeChange(run.site(node), one, Mode.TRAIN if trains else Mode.EVAL))
    given: Value | None = arguments.get(0, "dataloader")
    if trains and isinstance(given, Data):
        with run.round() as inside:
            batch = Tensor(given.loader.batch_size, loader=given.loader)
            networks.forward(run, node, model, Arguments([batch]))
            run.emit(BackwardCall(run.site(node)))
            run.emit(OptimizerStep(run.site(node)))
        run.emit(Loop(run.site(node), tuple(inside), given.loader))
    return Opaque("logs")

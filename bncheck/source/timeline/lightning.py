"""Follows Lightning's `trainer.fit(model, ...)`: the training step on the batches of its loader.

A trainer runs a network that was never in eval mode in train mode. What it does is kept apart from
the script's own steps: it manages modes, so that rules on modes have nothing to say of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bncheck.events import BackwardCall, OptimizerStep
from bncheck.graph import UNKNOWN
from bncheck.source.timeline import classes, functions, networks, sums
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.methods import leaves_modes_alone
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import (
    Class,
    Container,
    Data,
    Function,
    Models,
    Opaque,
    Settings,
    Tensor,
    Value,
)
from bncheck.timeline import Loop

_BEFORE = ("on_fit_start", "on_train_start", "on_train_epoch_start", "on_train_batch_start")
"""Hooks of a LightningModule that come before its training step."""
_STOPS = ("requires_grad", "freeze")
_LOADERS = ("train_dataloaders", "train_dataloader", "datamodule")
_OTHERWISE = ("sync_batchnorm", "inetuning")
"""What a file says whose trainer synchronises BatchNorm, or has a callback that freezes layers:
`BackboneFinetuning`, or one that is named after `finetuning`."""


def hooks_before_training(run: Run, cls: Class) -> Iterator[Function]:
    """Yield the hooks of a LightningModule that a trainer runs before its training step."""
    for name in ("setup", *_BEFORE):
        hook = classes.find(run, cls, name)
        if isinstance(hook, Function) and isinstance(hook.node, cst.FunctionDef):
            yield hook


def fit(run: Run, node: cst.Call, arguments: Arguments) -> None:
    """Follow `trainer.fit(model, ...)` where the model is a LightningModule of the project."""
    model = arguments.get(0, "model")
    cls = networks.class_of(run, model) if isinstance(model, Models) else None
    if cls is None or model is None or classes.framework(run.project, cls) != "lightning":
        return
    step = classes.find(run, cls, "training_step")
    if not isinstance(step, Function) or not leaves_modes_alone(run.project, cls):
        return
    if any(word in run.frame.module.text for word in _OTHERWISE):
        return
    followed = set(run.followed)
    with run.block() as steps:
        loader = _loader(run, node, model, cls, arguments)
        followed_on = loader is not None or any(word in cls.module.text for word in _STOPS)
        if followed_on:
            _train(run, node, model, cls, step, loader)
    # Each method of the module is followed by itself all the same.
    run.followed.intersection_update(followed)
    if followed_on:
        run.fits.append(tuple(steps))


def _train(
    run: Run, node: cst.Call, model: Value, cls: Class, step: Function, loader: Data | None
) -> None:
    """Follow what a trainer does with the batches of a loader, which need not be known."""
    for name in _BEFORE:
        hook = classes.find(run, cls, name)
        if isinstance(hook, Function):
            functions.follow(run, node, classes.bound(hook, model), Arguments())
    made = loader.loader if loader is not None else None
    batch = Tensor(made.batch_size if made is not None else UNKNOWN, loader=made)
    with run.round() as inside:
        given = Arguments([batch, Opaque("batch_idx")])
        functions.follow(run, node, classes.bound(step, model), given)
        run.emit(BackwardCall(run.site(node)))
        run.emit(_step(run, node))
    run.emit(Loop(run.site(node), tuple(inside), made))


def _step(run: Run, node: cst.Call) -> OptimizerStep:
    """Return the optimizer's step; it stands at the trainer where that gathers batches."""
    owner = node.func.value if isinstance(node.func, cst.Attribute) else node.func
    gathers = sums.told(run, owner, "accumulate_grad_batches")
    if gathers is None:
        return OptimizerStep(run.site(node))
    made, count = gathers
    return OptimizerStep(run.site(made), count)


def _loader(
    run: Run, node: cst.Call, model: Value, cls: Class, arguments: Arguments
) -> Data | None:
    """Return the loader of a fit: given, of the data module, or of the module itself."""
    given = [arguments.keywords.get(name) for name in _LOADERS]
    value = next((one for one in [*arguments.positional[1:2], *given] if one is not None), model)
    owner = networks.class_of(run, value) if not isinstance(value, Class) else None
    if owner is not None:
        made = classes.find(run, owner, "train_dataloader")
        if not isinstance(made, Function):
            return None
        value = functions.follow(run, node, classes.bound(made, value), Arguments())
    if isinstance(value, Container) and value.keys is None and len(value.elements) == 1:
        value = value.elements[0]
    return value if isinstance(value, Data) else None


def save_hyperparameters(run: Run, owner: object, arguments: Arguments) -> None:
    """Follow `self.save_hyperparameters()` in a constructor: its parameters stand in `hparams`."""
    first = arguments.positional[0] if arguments.positional else None
    if isinstance(first, Settings):
        run.heap.set(owner, "hparams", first)
    elif first is None:
        names = {name: value for name, value in run.frame.names.items() if name != "self"}
        run.heap.set(owner, "hparams", Settings(names))

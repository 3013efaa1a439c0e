"""Loads a model from a file without running code from it, and remembers how it was stored."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from bncheck.errors import BNCheckError
from bncheck.model.checkpoints import Checkpoint, load_into, open_checkpoint
from bncheck.model.kinds import Kind, container_kind


@dataclass(frozen=True)
class Loaded:
    """A model and what is needed to store a changed one in the same way."""

    path: Path
    kind: Kind
    model: Any
    """An `nn.Module`, `torch.jit.ScriptModule` or `torch.export.ExportedProgram`."""
    extra_files: Mapping[str, Any] = field(default_factory=dict)
    """What a TorchScript archive or exported program holds beside the model."""
    checkpoint: Checkpoint | None = None
    """What surrounds a state dict, or a module inside a dict, in the file."""


def load(
    path: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    trust: Sequence[str] = (),
    instead: str = "",
) -> Loaded:
    """Load a model of any kind, onto the CPU; which one is told from the content.

    `architecture` is `package.module:callable`, which returns the model that a state dict is
    loaded into. `trust` names packages whose classes a pickle may hold. `instead` ends the advice
    for weights without a model.

    Raises BNCheckError, with what to do, for a file that is missing, damaged, not a model, or that
    wants classes which nobody trusts.
    """
    file = Path(path)
    if not file.exists():
        raise BNCheckError(f"{file} does not exist")
    kind = container_kind(file)
    if architecture is not None and kind in (Kind.TORCHSCRIPT, Kind.EXPORTED):
        raise BNCheckError(f"{file} is {kind.one}, which holds its own graph; leave --arch out")
    match kind:
        case Kind.TORCHSCRIPT:
            from bncheck.model.scripted import load_torchscript

            return Loaded(file, kind, *load_torchscript(file))
        case Kind.EXPORTED:
            from bncheck.model.exported import load_exported

            return Loaded(file, kind, *load_exported(file))
    checkpoint = open_checkpoint(file, kind, trust)
    if isinstance(checkpoint.content, nn.Module):
        if architecture is not None:
            raise BNCheckError(f"{file} is {Kind.MODULE.one}; leave --arch out")
        return Loaded(file, Kind.MODULE, checkpoint.content, checkpoint=checkpoint)
    kind = kind or Kind.STATE_DICT
    if architecture is None:
        raise BNCheckError(
            f"{file} is {kind.one}: weights without a model; name what builds the model with "
            f"--arch package.module:callable{instead}"
        )
    model, checkpoint = load_into(build(architecture), checkpoint, file, architecture)
    return Loaded(file, kind, model, checkpoint=checkpoint)


def build(architecture: str) -> nn.Module:
    """Call what `package.module:callable` names and return the model that it builds.

    The working folder can be imported from, as with `python -m`.
    """
    module_name, colon, attribute = architecture.partition(":")
    if not (colon and module_name and attribute):
        raise BNCheckError(
            f"--arch {architecture} is not of the form package.module:callable, such as "
            "torchvision.models:resnet18"
        )
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        value: Any = importlib.import_module(module_name)
        for name in attribute.split("."):
            value = getattr(value, name)
        model = value if isinstance(value, nn.Module) else value()
    except (Exception, SystemExit) as problem:
        text = str(problem).strip().splitlines()
        raise BNCheckError(
            f"--arch {architecture} raised {type(problem).__name__}"
            f"{': ' + text[0] if text else ''}; it must be importable from here and build the "
            "model when it is called without arguments"
        ) from problem
    if not isinstance(model, nn.Module):
        raise BNCheckError(
            f"--arch {architecture} returned {type(model).__name__}; "
            "it must return a torch.nn.Module"
        )
    return model

"""The way of a model file through a conversion: load, convert, verify, store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from bncheck.convert.names import Names, compared_names
from bncheck.convert.outcome import Refusal, Step
from bncheck.errors import BNCheckError
from bncheck.model.inputs import example_inputs
from bncheck.model.kinds import Kind
from bncheck.model.load import Loaded, load
from bncheck.model.save import require_name, require_place, save
from bncheck.verification.compare import Verification
from bncheck.verification.latency import latencies
from bncheck.verification.locate import first_difference


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    path: Path
    output: Path | None
    """None: plan and verify only."""
    inputs: tuple[str, ...] = ()
    architecture: str | None = None
    trust: tuple[str, ...] = ()
    evaluate: bool = False
    """Switch a model in train mode to eval mode."""
    as_module: bool = False
    """Store a pickled module, whatever was read."""


class Converted(Protocol):
    """What every conversion returns."""

    @property
    def model(self) -> Any: ...  # noqa: D102
    @property
    def steps(self) -> tuple[Step, ...]: ...  # noqa: D102
    @property
    def refusals(self) -> tuple[Refusal, ...]: ...  # noqa: D102
    @property
    def verification(self) -> Verification | None: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102


Convert = Callable[[Any, tuple[Any, ...], dict[str, Any]], Converted]


@dataclass(frozen=True)
class Conversions:
    """A conversion as it is done to each kind of file."""

    name: str
    ways: Mapping[Kind, Convert]
    impossible: Mapping[Kind, str]
    """Why there is no way for the other kinds, and what to do instead."""
    in_eval_only: bool
    """Whether a model in train mode is refused."""
    without_model: str = ""
    """What can be done with weights whose model is not there."""


def of_layers(name: str, convert: Convert, *, weights: str, graph: str) -> Conversions:
    """Return a conversion that replaces layers and so needs a module; the texts say why."""
    weights += ", or give --as-module"
    return Conversions(
        name,
        {Kind.MODULE: convert},
        {
            Kind.STATE_DICT: weights,
            Kind.SAFETENSORS: weights,
            Kind.TORCHSCRIPT: graph,
            Kind.EXPORTED: graph,
        },
        in_eval_only=False,
    )


@dataclass(frozen=True)
class Outcome:
    """What was done, for the report."""

    loaded: Loaded
    result: Converted
    notes: tuple[str, ...]
    written: Path | None
    parameters: tuple[int, int]
    """Of the original and the converted model, as the next ones."""
    file_sizes: tuple[int, int | None]
    seconds: tuple[float, float] | None
    """Of one forward pass."""
    names: Names = field(default_factory=Names)


def convert_file(request: Request, conversions: Conversions) -> Outcome:
    """Load, convert, verify and, if that passes, store a model.

    Raises BNCheckError, before anything is written, for what cannot be loaded or converted.
    """
    if request.output is not None:
        require_place(request.output)
    loaded = load(
        request.path,
        architecture=request.architecture,
        trust=request.trust,
        instead=conversions.without_model,
    )
    kind = Kind.MODULE if request.as_module and _is_weights(loaded.kind) else loaded.kind
    if kind not in conversions.ways:
        raise BNCheckError(
            f"{conversions.name} does not take the {kind.value} {request.path}: "
            f"{conversions.impossible[kind]}"
        )
    if conversions.in_eval_only:
        _put_in_eval(loaded, request)
    if request.output is not None:
        require_name(request.output, kind)
    _refuse_broken_statistics(loaded)
    args, kwargs, note = example_inputs(loaded.model, request.inputs)
    result = conversions.ways[kind](loaded.model, args, kwargs)
    passed = result.verification is None or result.verification.passed
    size = request.path.stat().st_size
    written = None
    if passed and request.output is not None:
        save(result.model, loaded, request.output, as_module=kind is Kind.MODULE)
        written = request.output
    names = compared_names(loaded.model, result.model)
    where = "" if passed else _where_it_differs(loaded.model, result.model, args, kwargs)
    return Outcome(
        loaded=loaded,
        result=result,
        notes=(
            *filter(None, [note, where, _graph_note(result.model), device_note(loaded)]),
            *names.sentences(),
            *result.notes,
        ),
        written=written,
        parameters=(_count(loaded.model), _count(result.model)),
        file_sizes=(size, written.stat().st_size if written else None),
        seconds=latencies(loaded.model, result.model, args, kwargs) if passed else None,
        names=names,
    )


def _where_it_differs(original: Any, converted: Any, args: Any, kwargs: Any) -> str:
    """Name the layer from which on a wrong result differs, where both have layers to compare."""
    if isinstance(original, torch.jit.ScriptModule | torch.export.ExportedProgram):
        return ""
    try:
        name = first_difference(original, converted, args, kwargs)
    except Exception:  # the verdict stands; this only helps to find the cause
        return ""
    return f"the outputs differ from {name} on" if name else ""


def device_note(loaded: Loaded) -> str:
    """Say where the tensors of a file were, if not on the CPU."""
    devices = loaded.checkpoint.devices - {"cpu"} if loaded.checkpoint else frozenset()
    if not devices:
        return ""
    return f"its tensors were saved on {', '.join(sorted(devices))} and are stored on the CPU"


def _graph_note(model: Any) -> str:
    """Say what storing a graph module means."""
    if not isinstance(model, torch.fx.GraphModule):
        return ""
    return (
        "the result is a torch.fx.GraphModule, since its class could not do without the "
        "BatchNorms; its file holds code and loads with torch.load(weights_only=False); "
        "--keep-class keeps the class"
    )


def _is_weights(kind: Kind) -> bool:
    return kind in (Kind.STATE_DICT, Kind.SAFETENSORS)


def _put_in_eval(loaded: Loaded, request: Request) -> None:
    model = loaded.model
    if isinstance(model, torch.export.ExportedProgram):
        return
    if request.evaluate or _is_weights(loaded.kind):  # a state dict has no mode
        model.eval()
    elif any(getattr(module, "training", False) for module in model.modules()):
        raise BNCheckError(
            f"{request.path} was saved in train mode, where BatchNorm follows each batch; give "
            "--eval to switch it to eval mode"
        )


def _refuse_broken_statistics(loaded: Loaded) -> None:
    """Refuse a model with a BatchNorm that holds NaN or infinity."""
    model = loaded.model
    program = isinstance(model, torch.export.ExportedProgram)
    state = model.state_dict if program else model.state_dict()
    for name in state:
        owner, _, last = name.rpartition(".")
        if last != "running_mean":
            continue
        for part in ("running_mean", "running_var", "weight", "bias"):
            tensor = state.get(f"{owner}.{part}" if owner else part)
            if tensor is None or tensor.is_meta:
                continue
            if not bool(torch.isfinite(tensor).all()):
                raise BNCheckError(
                    f"the BatchNorm {owner or 'itself'} of {loaded.path} holds NaN or infinity in "
                    f"its {part}; the model is broken, and so would be every conversion of it"
                )


def _count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())

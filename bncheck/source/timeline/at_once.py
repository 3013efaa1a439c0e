"""Averages of all parameters at once: of lists of them, or of one vector that they are put into."""

from __future__ import annotations

import libcst as cst

from bncheck.events import AverageUpdate, Model
from bncheck.source.timeline import averages, weights
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Members, Opaque, Value, Weights

_WEIGHED = frozenset({"torch._foreach_lerp_", "torch._foreach_add_"})
"""`torch._foreach_add_(old, new, alpha=1 - decay)` behind one that multiplies."""


def call(run: Run, node: cst.Call, name: str, arguments: Arguments) -> Value | None:
    """Follow a function of torch's for lists or vectors of parameters; None: it is another one."""
    first, second = arguments.get(0, "self"), arguments.get(1, "tensors1")
    if name in _WEIGHED:
        into = _model(first)
        if into is not None and second is not None and _is_weighed(name, arguments):
            _note(run, node, into, weights.of(second))
        return Opaque() if into is not None else None
    if not name.startswith("torch.nn.utils."):
        return None
    match name.rpartition(".")[2]:
        case "parameters_to_vector" if model := _model(arguments.get(0, "parameters")):
            return Weights((model,))
        case "vector_to_parameters":
            into = _model(arguments.get(1, "parameters"))
            vector = arguments.get(0, "vec")
            kept = weights.of(vector) if vector is not None else None
            if into is not None and kept is not None and kept.mixed:
                _note(run, node, into, kept)
            return Opaque()
    return None


def _is_weighed(name: str, arguments: Arguments) -> bool:
    return name == "torch._foreach_lerp_" or arguments.get(None, "alpha") is not None


def _model(value: Value | None) -> Model | None:
    return value.model if isinstance(value, Members) and value.parameters else None


def _note(run: Run, node: cst.Call, into: Model, kept: Weights | None) -> None:
    """Note an average into a network of parameters that come from another one."""
    others = [model for model in kept.models if model is not into] if kept is not None else []
    if others:
        run.emit(AverageUpdate(run.site(node), into, others[0], averages.buffers(run, node)))

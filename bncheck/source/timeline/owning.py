"""What becomes of a value that is made an attribute of a network."""

from __future__ import annotations

from bncheck.events import Model
from bncheck.graph import UNKNOWN
from bncheck.source.timeline.parts import part_holds
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import Constant, Models, Opaque, Value


def take_in(run: Run, model: Model, name: str, value: Value) -> None:
    """Make a value an attribute of a network: another network becomes a part of it."""
    if isinstance(value, Constant) and isinstance(value.value, bool):
        value = Constant(value.value, fixed=False)  # A switch, which others may set.
    run.heap.set(model, name, value)
    if isinstance(value, Models):
        for part in value.models:
            cls = run.classes.get(model)
            if part.holds_batch_norm is True:
                model.holds_batch_norm = True
                model.norm_kinds |= part.norm_kinds
            elif part.holds_batch_norm is UNKNOWN and model.holds_batch_norm is False:
                model.holds_batch_norm = UNKNOWN
            if model.within(part):
                continue
            if part.parent is not None and not is_nameless(part.parent):
                if not part.within(model):
                    part.kept_by.append(model)
                continue
            part.parent = model
            if (
                part.holds_batch_norm is UNKNOWN
                and cls is not None
                and part_holds(run.project, cls, name) is True
            ):
                part.holds_batch_norm = True
    elif isinstance(value, Opaque):
        value.owner = model
        if value.model is not None and not model.within(value.model):
            value.model.parent = value.model.parent or model


def is_nameless(model: Model) -> bool:
    """Tell whether a network was made for a part alone: `self.encoder = Pretext().encoder`."""
    return model.name in {"", model.type_name.rpartition(".")[2]}

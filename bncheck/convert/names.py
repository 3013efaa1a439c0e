"""Which names of parameters and buffers a conversion takes away, brings or puts apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

SHOWN = 3
"""How many names a sentence lists."""


@dataclass(frozen=True)
class Names:
    """The names in two state dicts, as far as they differ."""

    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    """Names of what was one tensor with another before, and no longer is."""
    moved: bool = False
    """Whether what both have comes in another order."""
    stored: tuple[str, ...] = ()
    """Buffers that the state dict leaves out, and that a stored graph module will have in its."""

    def sentences(self) -> Iterator[str]:
        """Say what is not as it was, but for what went with a BatchNorm."""
        if self.apart:
            yield f"no longer tied to what they were one with: {_listed(self.apart)}"
        if self.moved:
            yield "its state dict has another order"
        if self.stored:
            what = _listed(self.stored)
            yield f"the stored graph has in its state dict what the model left out: {what}"


def compared_names(original: Any, converted: Any) -> Names:
    """Compare the names of two models, in the form of their state dicts."""
    before, after = _state(original), _state(converted)
    kept = [name for name in before if name in after]
    tied = {name: key for name, key in before.items() if list(before.values()).count(key) > 1}
    stored: list[str] = []
    if isinstance(converted, torch.fx.GraphModule):
        stored = [name for name, _ in converted.named_buffers() if name not in after]
    return Names(
        gone=tuple(name for name in before if name not in after),
        new=tuple(name for name in after if name not in before),
        apart=tuple(_put_apart(tied, after)),
        moved=kept != [name for name in after if name in before],
        stored=tuple(stored),
    )


def _put_apart(tied: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    groups: dict[Any, list[str]] = {}
    for name, key in tied.items():
        if name in after:
            groups.setdefault(key, []).append(name)
    for names in groups.values():
        for name in names[1:]:
            if after[name] != after[names[0]]:
                yield name


def _state(model: Any) -> dict[str, Any]:
    """Return what tells the tensors of a state dict apart, by their names."""
    program = isinstance(model, torch.export.ExportedProgram)
    state = model.state_dict if program else model.state_dict()
    return {
        name: (value.data_ptr(), value.shape) if value.numel() and not value.is_meta else name
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more

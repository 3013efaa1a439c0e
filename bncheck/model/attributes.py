"""Attributes of modules, which code that runs, or is traced, may set to something else."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import fx, nn

_REGISTERED = ("_parameters", "_buffers", "_modules")


class Attributes:
    """The attributes that the modules of a model had; what is written into one stays there."""

    def __init__(self, model: Any) -> None:
        self._before = [(path, module, _attributes(module)) for path, module in _modules(model)]

    def put_back(self) -> None:
        """Give every module its attributes back."""
        for _, module, attributes in self._before:
            for place, old in attributes.items():
                now = vars(module)[place] if place else vars(module)
                if now.keys() != old.keys() or any(now[name] is not old[name] for name in old):
                    now.clear()
                    now.update(old)

    def put_into(self, copied: nn.Module) -> None:
        """Give a copy of the model, or what was made of one, what a run has changed since.

        That is attributes other than parameters, buffers and modules.
        """
        there = dict(copied.named_modules(remove_duplicate=False))
        for path, module, attributes in self._before:
            old, now, other = attributes[""], vars(module), there.get(path)
            if type(other) is not type(module):
                continue
            for name in old.keys() | now.keys():
                if name not in old:
                    vars(other).pop(name, None)
                elif name in vars(other) and now.get(name) is not old[name]:
                    with suppress(Exception):  # such as for what autograd has computed
                        vars(other)[name] = copy.deepcopy(old[name])


@contextmanager
def attributes_kept(model: Any) -> Iterator[Attributes]:
    """Give every module back the attributes that it had; give what they were.

    A tracer hands the model's code proxies, which it may keep.
    """
    before = Attributes(model)
    try:
        yield before
    finally:
        before.put_back()


def proxied_buffer(model: nn.Module) -> str | None:
    """Return the name of a buffer or parameter that a tracer's proxy has taken the place of."""
    for path, module in model.named_modules():
        for place in ("_parameters", "_buffers"):
            for name, value in vars(module)[place].items():
                if isinstance(value, fx.Proxy):
                    return f"{path}.{name}" if path else str(name)
    return None


def _modules(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules whose attributes are Python's, with their paths."""
    if isinstance(model, nn.Module):
        for path, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                yield path, module


def _attributes(module: nn.Module) -> dict[str, dict[str, Any]]:
    """Return copies of the mappings that hold attributes, the module's own under no name."""
    return {"": dict(vars(module)), **{place: dict(vars(module)[place]) for place in _REGISTERED}}

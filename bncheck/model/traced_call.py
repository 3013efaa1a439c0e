"""The call behind a node of a layer graph that was traced, and what depends on parameters alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import fx

from bncheck.model.arguments import DEFAULTS
from bncheck.model.operations import Call

Stored = Mapping[fx.Node, tuple[str, torch.Tensor]]
"""Inputs of a graph that are parameters and buffers, as in an exported program."""
NOTHING_STORED: Stored = MappingProxyType({})


@dataclass(frozen=True)
class Constant:
    """A value that depends on nothing but parameters and buffers."""

    source: fx.Node
    reads: frozenset[str]
    """Names of the parameters and buffers that it is computed from."""
    name: str | None
    """The parameter or buffer that it is, when it is one unchanged."""


@dataclass
class TracedCall:
    """The call behind a node of the layer graph."""

    source: fx.Node
    call: Call
    arguments: dict[str, Any]
    """Plain values, `Node`s and `Constant`s by argument name."""
    computed: dict[str, Constant] = field(default_factory=dict)
    """Roles whose tensor is computed from parameters, not a parameter itself."""
    reads: frozenset[str] = frozenset()
    """Every parameter and buffer that the call depends on directly."""
    writes: frozenset[str] = frozenset()
    """The parameters and buffers that the call writes over."""
    from_sizes: bool = False
    """Whether some argument was computed from sizes, or from other facts that are no tensors."""
    observed: bool = False
    """Whether a hook or the caller sees the result."""
    affine: tuple[tuple[str, tuple[Constant, ...]], ...] = ()
    """For a BatchNorm that is spelled out: its operations and their constants."""
    inside: tuple[fx.Node, ...] = ()
    """The calls before `source` that became one with it, the last first."""
    product: Any = None
    """For a layer that is spelled out: its product, as `bncheck.convert.products` tells it."""
    entry: fx.Node | None = None
    """What the call, or the first of several that became one, reads first."""
    factor_and_offset: tuple[torch.Tensor, torch.Tensor] | None = None
    """What it multiplies its one tensor by and adds to it, once that was asked for."""
    _run: Callable[[Sequence[torch.Tensor]], Any] | None = None
    _evaluate: Callable[[Constant], Any] | None = None

    def setting(self, name: str) -> Any:
        """Return a setting of a layer as this call gives it, or its default."""
        return self.arguments.get(name, DEFAULTS[name])

    def run(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Make the call again with other tensors in the place of the node's inputs."""
        assert self._run is not None
        with torch.no_grad():
            result = self._run(inputs)
        assert isinstance(result, torch.Tensor)
        return result

    def value(self, constant: Constant) -> Any:
        """Compute an argument that depends on parameters and buffers alone."""
        assert self._evaluate is not None
        return self._evaluate(constant)

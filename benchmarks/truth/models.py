"""What a model to be run is: how it is built, and the inputs to try."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Inputs = Callable[[torch.device, nn.Module], tuple[tuple[Any, ...], dict[str, Any]]]


@dataclass(frozen=True)
class Model:
    """How one model is built, and the inputs to try in turn."""

    name: str
    family: str
    build: Callable[[], nn.Module]
    inputs: tuple[Inputs, ...]


def images(*sizes: tuple[int, ...]) -> tuple[Inputs, ...]:
    """Return one candidate for each shape: a float tensor of it, alone."""

    def candidate(size: tuple[int, ...]) -> Inputs:
        return lambda device, network: ((torch.rand(size, device=device),), {})

    return tuple(candidate(size) for size in sizes)


def sampled(models: Iterator[Model], per_family: int) -> list[Model]:
    """Take some models of each family, spread evenly over its list."""
    families: dict[str, list[Model]] = defaultdict(list)
    for model in models:
        families[model.family].append(model)
    chosen = []
    for family in families.values():
        step = max(1, len(family) / per_family)
        chosen += [family[int(i * step)] for i in range(min(per_family, len(family)))]
    return chosen

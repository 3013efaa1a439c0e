"""Which channels of which layers reach which other layers directly, by measurement.

Every layer gives what it gave on an example, whatever it is given, but for one channel that is
moved by one; what other layers are then given shows how far that goes. As nothing else is
computed, and as layers that reach no layer in common are moved at the same time, this is cheap
enough for real networks; only what is not zero is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

ELEMENTS = 2**24
"""How many numbers the largest tensor of a run may have."""

See = Callable[[str, int, Tensor], None]
"""From a layer, the number of the call and its input."""


@dataclass
class Effect:
    """What moving one channel changes of one input: only its channels that change."""

    channels: Tensor
    values: Tensor
    """By channel, in the shape of the input without batch and channel."""


@dataclass
class Reach:
    """All effects, by the layer that is given something, the call, and what was moved."""

    into: dict[str, list[dict[tuple[str, int], Effect]]] = field(default_factory=dict)
    """Keys are a layer and one of its channels."""


@dataclass
class Recorded:
    """What layers saw and gave on one sample."""

    layers: Mapping[str, nn.Module]
    inputs: Mapping[str, list[Tensor]]
    outputs: Mapping[str, list[Tensor]]
    axis: Callable[[nn.Module, Tensor], int]
    """Where the channels of a layer stand in a tensor with a batch."""
    run: Callable[[int], Any]
    """Runs the model on so many copies of the sample."""

    def channels(self, name: str) -> int:
        """Return how many channels a layer gives."""
        out = self.outputs[name][0]
        return out.shape[self.axis(self.layers[name], out)]


def measure_reach(recorded: Recorded) -> Reach:
    """Move every channel of every layer that ran."""
    if any(recorded.channels(name) == 0 for name in recorded.outputs):
        raise ValueError("a layer without output channels cannot be probed")
    reaches = _layers_reached(recorded)
    found = Reach({name: [{} for _ in calls] for name, calls in recorded.inputs.items()})
    largest = max(out[0].numel() for out in recorded.outputs.values())
    step = max(1, ELEMENTS // max(largest, 1))
    for group in _groups(reaches):
        total = max(map(recorded.channels, group))
        for start in range(0, total, step):
            _move_group(recorded, reaches, group, range(start, min(start + step, total)), found)
    return found


def _move_group(
    recorded: Recorded,
    reaches: Mapping[str, set[str]],
    group: list[str],
    channels: range,
    found: Reach,
) -> None:
    """Move one channel in each row of a batch, the same one of every layer of a group."""
    source = {reader: name for name in group for reader in reaches[name]}

    def see(name: str, call: int, x: Tensor) -> None:
        if name not in source:
            return
        effect = (x - recorded.inputs[name][call]).movedim(
            recorded.axis(recorded.layers[name], x), 1
        )
        changed = effect.flatten(2).ne(0).any(2) if effect.dim() > 2 else effect.ne(0)
        for row in torch.nonzero(changed.any(1)).flatten().tolist():
            places = torch.nonzero(changed[row]).flatten()
            key = (source[name], channels[row])
            found.into[name][call][key] = Effect(places, effect[row, places].clone())

    amounts = {
        name: [(row, channel, 1.0) for row, channel in enumerate(channels)
               if channel < recorded.channels(name)]
        for name in group
    }  # fmt: skip
    with _held(recorded, len(channels), amounts, see):
        recorded.run(len(channels))


def _layers_reached(recorded: Recorded) -> dict[str, set[str]]:
    """Return, by layer, the layers that it reaches, by moving all its channels by other amounts."""
    names = list(recorded.outputs)
    found: dict[str, set[str]] = {name: set() for name in names}
    generator = torch.Generator().manual_seed(5)
    largest = max(out[0].numel() for out in recorded.outputs.values())
    step = max(1, ELEMENTS // max(largest, 1))
    for start in range(0, 2 * len(names), step):
        rows = [(names + names)[place] for place in range(start, min(start + step, 2 * len(names)))]
        amounts: dict[str, list[tuple[int, int, float]]] = {}
        for row, name in enumerate(rows):
            drawn = (torch.rand(recorded.channels(name), generator=generator) + 0.5).tolist()
            amounts.setdefault(name, []).extend((row, c, a) for c, a in enumerate(drawn))

        def see(name: str, call: int, x: Tensor, rows: list[str] = rows) -> None:
            changed = (x - recorded.inputs[name][call]).flatten(1).ne(0).any(1)
            for row in torch.nonzero(changed).flatten().tolist():
                found[rows[row]].add(name)

        with _held(recorded, len(rows), amounts, see):
            recorded.run(len(rows))
    return found


def _groups(reaches: Mapping[str, set[str]]) -> list[list[str]]:
    """Return layers in groups of which no two reach a layer in common."""
    groups: list[tuple[list[str], set[str]]] = []
    for name, reached in reaches.items():
        if not reached:
            continue
        for names, taken in groups:
            if not taken & reached:
                names.append(name)
                taken |= reached
                break
        else:
            groups.append(([name], set(reached)))
    return [names for names, _ in groups]


@contextmanager
def _held(
    recorded: Recorded,
    rows: int,
    amounts: Mapping[str, list[tuple[int, int, float]]],
    see: See,
) -> Iterator[None]:
    """Let layers give what they gave, without computing it, and channels of some rows moved."""
    calls: dict[str, int] = {}

    def forward(name: str, x: Tensor) -> Tensor:
        call = calls[name] = calls.get(name, -1) + 1
        see(name, call, x)
        base = recorded.outputs[name][call]
        axis = recorded.axis(recorded.layers[name], base)
        result = base.expand(rows, *base.shape[1:]).clone()
        moved = result.movedim(axis, 1)
        for row, channel, amount in amounts.get(name, ()):
            moved[row, channel] += amount
        return result

    for name in recorded.outputs:
        layer = recorded.layers[name]
        layer.forward = lambda x, *_, name=name: forward(name, x)
    try:
        yield
    finally:
        for name in recorded.outputs:
            del recorded.layers[name].forward

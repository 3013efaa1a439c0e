"""By how much to move the channels of layers so that what they reach is shifted as is wanted."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from reach import Effect
from torch import Tensor

Atom = tuple[str, int]
"""One output channel of a layer."""


def all_of(effects: list[dict[Atom, Effect]]) -> Iterator[tuple[Atom, Effect]]:
    for call in effects:
        yield from call.items()


def total(values: Tensor) -> Tensor:
    """Sum magnitudes over all but the first two dimensions."""
    return values.abs().reshape(*values.shape[:2], -1).sum(2)


def components(reached: dict[Atom, set[int]]) -> list[tuple[list[Atom], set[int]]]:
    """Return atoms that reach channels in common, together with those channels."""
    found: list[tuple[list[Atom], set[int]]] = []
    for atom, channels in reached.items():
        atoms, together = [atom], set(channels)
        rest = []
        for other in found:
            if other[1] & together:
                atoms, together = other[0] + atoms, together | other[1]
            else:
                rest.append(other)
        found = [*rest, (atoms, together)]
    return found


def solved(
    effects: list[dict[Atom, Effect]],
    atoms: list[Atom],
    channels: set[int],
    shift: Tensor,
    inputs: list[Tensor],
) -> Tensor | None:
    """Return by how much to move each atom for these channels to be shifted, if that is exact."""
    place = {channel: i for i, channel in enumerate(sorted(channels))}
    matrices, targets = [], []
    for call, base in zip(effects, inputs, strict=True):
        size = base[0, 0].numel()
        matrix = torch.zeros(len(place), size, len(atoms), dtype=shift.dtype)
        for column, atom in enumerate(atoms):
            if atom in call:
                rows = [place[channel] for channel in call[atom].channels.tolist()]
                matrix[rows, :, column] = call[atom].values.reshape(len(rows), size)
        matrices.append(matrix.flatten(0, 1))
        targets.append(shift[sorted(channels)].repeat_interleave(size))
    matrix, target = torch.cat(matrices), torch.cat(targets)
    solution = torch.linalg.lstsq(matrix, target[:, None], driver="gelsd").solution[:, 0]
    exact = torch.allclose(matrix @ solution, target, rtol=1e-8, atol=1e-8)
    return solution if exact else None

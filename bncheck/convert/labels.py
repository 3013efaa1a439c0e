"""Labels: for each element of a tensor, which affine map `x -> scale * x + shift` it is given.

A label is a row of a `LabelTable`; a labelling is an integer tensor of the shape of the tensor it
speaks of, mostly expanded views that take no memory. What only moves data moves its labels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

UNDETERMINED = -1
"""No one has asked anything of this element."""
IDENTITY = 0
"""The map `1 * x + 0`."""
OBSERVED = "a hook or other code sees"
"""What is said of a value that something besides the graph's operations may read."""


Change = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From scales, shifts and rows of values that go with them to new scales and shifts."""


class Blocked(Exception):  # noqa: N818
    """A map cannot pass here; the text says why, as the end of a sentence about a BatchNorm."""


class LabelTable:
    """Affine maps by label, in float64."""

    def __init__(self) -> None:
        self.scale = torch.ones(1, dtype=torch.float64)
        self.shift = torch.zeros(1, dtype=torch.float64)
        self._variants: dict[object, dict[tuple[float, ...], int]] = {}
        self._known: dict[tuple[float, ...], int] = {}

    def add(self, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Return the labels of maps; both tensors are float64 of one shape `(n,)`.

        Maps that are the same but for rounding have one label: what reaches a tensor along two
        ways, over a factor here and a sum there, is no disagreement. The label IDENTITY is not
        among them, since it says that nothing is asked.
        """
        start = len(self.scale)
        keys = zip(*(part.tolist() for part in (*_rounded(scale), *_rounded(shift))), strict=True)
        labels: list[int] = []
        new: list[int] = []
        for place, key in enumerate(keys):
            label = self._known.setdefault(key, start + len(new))
            if label == start + len(new):
                new.append(place)
            labels.append(label)
        self.scale = torch.cat([self.scale, scale[new]])
        self.shift = torch.cat([self.shift, shift[new]])
        return torch.tensor(labels, dtype=torch.long)

    def scales(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the scale of each label; 1 where undetermined."""
        return self.scale[labels.clamp(min=IDENTITY)]

    def shifts(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the shift of each label; 0 where undetermined."""
        return self.shift[labels.clamp(min=IDENTITY)]

    def variant(
        self,
        labels: torch.Tensor,
        key: object,
        change: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
        inverse: object = None,
    ) -> torch.Tensor:
        """Return labels of changed maps; the same label and `key` always give the same variant.

        `change` takes scales and shifts and returns new ones. Undetermined elements stay so. The
        variant `inverse` of a changed label is the label that it was made from.
        """
        one = torch.zeros([1] * labels.dim(), dtype=torch.long)
        nothing = torch.zeros(1, 0)
        return self._changed(labels, nothing, one, key, lambda s, t, _: change(s, t), inverse)

    def variant_by(
        self,
        labels: torch.Tensor,
        values: torch.Tensor,
        key: object,
        change: Change,
        inverse: object,
    ) -> torch.Tensor:
        """Return labels of maps that are changed by values, other ones at other places.

        `values` has the axes of the labels, along which it may have size 1, and one more, which
        `change` is given in rows beside the scales and shifts. All else is as for `variant`.
        """
        rows, which = values.flatten(0, -2).unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
        return self._changed(labels, rows, which.view(values.shape[:-1]), key, change, inverse)

    def _changed(
        self,
        labels: torch.Tensor,
        rows: torch.Tensor,
        which: torch.Tensor,
        key: object,
        change: Change,
        inverse: object,
    ) -> torch.Tensor:
        small = squeezed(labels)
        width = len(rows)
        pairs = torch.where(small == UNDETERMINED, UNDETERMINED, small * width + which)
        present = distinct(pairs)
        values = [tuple(row) for row in rows.tolist()]
        names: list[tuple[float, ...]] = [
            (pair // width, *values[pair % width]) for pair in present.tolist()
        ]
        known = self._variants.setdefault(key, {})
        missing = [place for place, pair in enumerate(present.tolist())
                   if pair != UNDETERMINED and names[place] not in known]  # fmt: skip
        if missing:
            old = present[missing] // width
            scale, shift = change(self.scale[old], self.shift[old], rows[present[missing] % width])
            plain = (scale == 1) & (shift == 0)
            new = torch.zeros(len(missing), dtype=torch.long)
            new[~plain] = self.add(scale[~plain], shift[~plain])
            back = self._variants.setdefault(inverse, {}) if inverse is not None else {}
            for place, changed in zip(missing, new.tolist(), strict=True):
                name = names[place]
                known[name] = changed
                if changed != IDENTITY:
                    inverted = (changed, *name[1:])
                    back[inverted] = int(name[0])
        table = torch.tensor(
            [
                UNDETERMINED if pair == UNDETERMINED else known[name]
                for pair, name in zip(present.tolist(), names, strict=True)
            ],
            dtype=torch.long,
        )
        return table[torch.searchsorted(present, pairs)].expand(labels.shape)

    def scale_only(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the labels of the same maps without their shifts."""
        return self.variant(labels, "scale only", lambda s, t: (s, torch.zeros_like(t)))


def _rounded(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mantissas without their last ten bits, and exponents."""
    mantissa, exponent = torch.frexp(values)
    return (mantissa * 2.0**43).round(), exponent.double()


def distinct(labels: torch.Tensor) -> torch.Tensor:
    """Return the labels that occur, in order."""
    found: torch.Tensor = squeezed(labels).unique()  # type: ignore[no-untyped-call]
    return found


def per_channel(channels: torch.Tensor, shape: tuple[int, ...], *axes: int) -> torch.Tensor:
    """Return the labelling of a tensor of `shape` that has one label per index of some axes.

    The channels go through the indices of the last of `axes` fastest.
    """
    others = [axis for axis in range(len(shape)) if axis not in axes]
    order = [*axes, *others]
    full = channels.view([shape[axis] for axis in axes] + [1] * len(others))
    return full.permute([order.index(axis) for axis in range(len(shape))]).expand(shape)


def squeezed(labels: torch.Tensor) -> torch.Tensor:
    """Return the labelling with each dimension that is only expanded narrowed to size 1."""
    for axis, (size, stride) in enumerate(zip(labels.shape, labels.stride(), strict=True)):
        if stride == 0 and size > 1:
            labels = labels.narrow(axis, 0, 1)
    return labels


def uniform(labels: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """Return the labels with `axes` reduced to size 1.

    Raises Blocked where two determined elements along `axes` differ.
    """
    small = squeezed(labels)
    axes = tuple(axis % labels.dim() for axis in axes)
    if 0 in small.shape or not axes:
        return (
            small
            if not axes
            else labels.new_full(
                [1 if i in axes else n for i, n in enumerate(small.shape)], UNDETERMINED
            )
        )
    top = small.amax(axes, keepdim=True)
    if bool(((small != top) & (small != UNDETERMINED)).any()):
        raise Blocked("asks for different scales within one channel")
    return top


def channels_of(labels: torch.Tensor, *axes: int) -> torch.Tensor:
    """Return the label of each index of some axes, shape `(n,)`; Blocked where it is not one.

    The channels go through the indices of the last of `axes` fastest.
    """
    others = tuple(axis for axis in range(labels.dim()) if axis not in axes)
    reduced = uniform(labels, others) if others else labels
    sizes = [labels.shape[axis] if axis in axes else 1 for axis in range(labels.dim())]
    return reduced.expand(sizes).permute(*axes, *others).reshape(-1)


def merge(known: torch.Tensor | None, new: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Return both labellings in one, and whether it says more than `known` did.

    Raises Blocked where they disagree.
    """
    if known is None:
        return new, bool((squeezed(new) != UNDETERMINED).any())
    a, b = squeezed(known), squeezed(new)
    open_a, open_b = a == UNDETERMINED, b == UNDETERMINED
    if bool(((a != b) & ~open_a & ~open_b).any()):
        raise Blocked("and something else ask for different scales of the same values")
    if not bool((open_a & ~open_b).any()):
        return known, False
    return torch.where(open_a, b, a).expand(known.shape), True


def scatter(positions: torch.Tensor, labels: torch.Tensor, size: int) -> torch.Tensor:
    """Return the labels of what was read, given where each element was read from.

    `size` is how many elements there are. Raises Blocked where two readers of one want different
    maps.
    """
    places, wanted = positions.reshape(-1), labels.reshape(-1)
    asked = wanted != UNDETERMINED
    places, wanted = places[asked], wanted[asked]
    found = torch.full((size,), UNDETERMINED)
    found[places] = wanted
    if not torch.equal(found[places], wanted):
        raise Blocked("asks for different scales of values that are copies of each other")
    return found

"""The attributes of objects, in layers: a branch writes into its own, and only that is joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bncheck.source.timeline.joining import join
from bncheck.source.timeline.values import Constant, Opaque, Value


@dataclass(eq=False)
class Heap:
    """Owner and attribute to value."""

    below: Heap | None = None
    written: dict[object, dict[str, Value]] = field(default_factory=dict)

    def get(self, owner: object, name: str) -> Value | None:
        """Return an attribute; None where it was never written."""
        layer: Heap | None = self
        while layer is not None:
            attributes = layer.written.get(owner)
            if attributes is not None and name in attributes:
                return attributes[name]
            layer = layer.below
        return None

    def set(self, owner: object, name: str, value: Value) -> None:
        """Write an attribute."""
        self.written.setdefault(owner, {})[name] = value

    def at_the_bottom(self, owner: object, name: str, value: Value) -> None:
        """Write what an attribute was from the start, for what no branch writes."""
        layer = self
        while layer.below is not None:
            layer = layer.below
        layer.written.setdefault(owner, {}).setdefault(name, value)

    def of(self, owner: object) -> dict[str, Value]:
        """Return every attribute of one owner."""
        found: dict[str, Value] = {}
        layer: Heap | None = self
        while layer is not None:
            for name, value in layer.written.get(owner, {}).items():
                found.setdefault(name, value)
            layer = layer.below
        return found

    def on_top(self) -> Heap:
        """Return a heap that reads through to this one and writes into itself."""
        return Heap(below=self)

    def absorb(self, layers: list[Heap], usual: int | None = None) -> None:
        """Write what each of the layers on top of this one has, joined.

        `usual` is the position of the one that the settings as they are lead to.
        """
        keys = dict.fromkeys(key for layer in layers for key in layer.written_here())
        for owner, name in keys:
            values = [value for layer in layers if (value := layer.get(owner, name)) is not None]
            if len(values) < len(layers) and isinstance(values[0], Constant):
                values.append(Opaque(name))  # What it is where nothing is written is not known.
            first = values[0]
            same = all(value is first for value in values[1:])
            chosen = layers[usual].get(owner, name) if usual is not None else None
            self.set(owner, name, first if same else join(values, chosen))

    def written_here(self) -> Iterator[tuple[object, str]]:
        """Yield the owner and name of each attribute that this layer writes."""
        for owner, attributes in self.written.items():
            for name in attributes:
                yield owner, name

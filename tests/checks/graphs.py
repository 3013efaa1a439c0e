"""Layer graphs built by hand."""

from __future__ import annotations

from bncheck.checks import all_checks
from bncheck.graph import Kind, Layer, LayerGraph, Node, Site

_DEFAULTS: dict[Kind, dict[str, object]] = {
    Kind.BATCH_NORM: {
        "num_features": 8, "dimensions": 2, "momentum": 0.1, "eps": 1e-5, "affine": True,
        "track_running_stats": True,
    },
    Kind.CONVOLUTION: {"bias": False, "out_channels": 8, "dimensions": 2},
    Kind.LINEAR: {"bias": False, "out_channels": 8},
}  # fmt: skip


class Network:
    """A graph with one input; what `layer` constructs and `call` computes stands in it."""

    def __init__(self) -> None:
        self.graph = LayerGraph("network")
        self.input = self.call(Kind.INPUT)

    def layer(self, kind: Kind, **attributes: object) -> Layer:
        """Construct a layer; its place is its number, such as `layer 0`."""
        number = len(self.graph.layers)
        given = {**_DEFAULTS.get(kind, {}), **attributes}
        site = Site("network.py", f"layer {number}")
        made = Layer(kind, f"torch.nn.{kind.name}", f"layer{number}", site, given)
        self.graph.layers.append(made)
        return made

    def call(self, what: Layer | Kind, *inputs: Node, **attributes: object) -> Node:
        """Apply a layer or an operation; its place is its number, such as `call 3`."""
        layer = what if isinstance(what, Layer) else None
        kind = what.kind if isinstance(what, Layer) else what
        site = Site("network.py", f"call {len(self.graph.nodes)}")
        return self.graph.add(Node(kind, "", site, layer, attributes, list(inputs)))

    def chain(self, *parts: Layer | Kind) -> Node:
        """Apply one after the other, from the input on."""
        node = self.input
        for part in parts:
            node = self.call(part, node)
        return node

    def found(self, code: str) -> list[str]:
        """Return where a rule objects."""
        return [str(match.site.mark) for match in all_checks()[code].function(self.graph)]

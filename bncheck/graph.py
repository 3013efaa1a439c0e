"""The one graph that both readers fill and every structure rule looks at.

Nodes are applications of layers or operations, edges are tensors. What a reader does not
understand is an `OPAQUE` node, never a guess, and an attribute that it cannot know is `UNKNOWN`.
This module imports neither libcst nor torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Unknown(Enum):
    """The third value of a fact that is not a constant: neither yes nor no."""

    UNKNOWN = "unknown"

    __hash__ = object.__hash__  # Enum's own is written in Python

    def __bool__(self) -> bool:
        raise TypeError("an unknown fact is neither true nor false; compare it with `is`")

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown.UNKNOWN


@dataclass(frozen=True)
class Symbol:
    """A value that is not a constant but is the same wherever its expression is the same."""

    expression: str


@dataclass(frozen=True)
class Site:
    """Where something stands.

    `path` is the file as it was given. `mark` is a syntax node in source, and the dotted module
    or node name in a model file. Positions are looked up only for sites that end in a finding.
    """

    path: str
    mark: object

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Site)
            and self.path == other.path
            and (
                self.mark is other.mark or (isinstance(self.mark, str) and self.mark == other.mark)
            )
        )

    def __hash__(self) -> int:
        return hash((self.path, self.mark if isinstance(self.mark, str) else id(self.mark)))


class Kind(Enum):
    """What a node does, in terms that rules and plans ask about."""

    INPUT = "input"
    OUTPUT = "output"
    CONVOLUTION = "convolution"
    TRANSPOSED_CONVOLUTION = "transposed convolution"
    LINEAR = "linear"
    BATCH_NORM = "batch norm"
    INSTANCE_NORM = "instance norm"
    LAYER_NORM = "layer norm"
    GROUP_NORM = "group norm"
    ACTIVATION = "activation"
    DROPOUT = "dropout"
    IDENTITY = "identity"
    POOLING = "pooling"
    PADDING = "padding"
    UPSAMPLING = "upsampling"
    RESHAPE = "reshape"
    ADD = "add"
    CONCAT = "concat"
    RECURRENT = "recurrent"
    ATTENTION = "attention"
    OPERATION = "operation"
    """Understood, and of no further interest: a multiplication, a mean, a loss."""
    JOIN = "join"
    """One of its inputs, on different paths through the code."""
    OPAQUE = "opaque"
    """Not understood."""

    __hash__ = object.__hash__  # Enum's own is written in Python, and kinds are asked for a lot


PRODUCERS: Final = frozenset({Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.LINEAR})
"""Layers with a weight and, perhaps, a bias that is added to each output channel."""

BATCH_STATISTICS: Final = frozenset({Kind.BATCH_NORM, Kind.INSTANCE_NORM})
NORMS: Final = BATCH_STATISTICS | {Kind.GROUP_NORM, Kind.LAYER_NORM}
"""Normalisations that subtract a mean per channel, and with it any bias before them."""


@dataclass(eq=False)
class Layer:
    """One constructed layer instance.

    `attributes` holds, where they apply, `bias`, `in_channels`, `out_channels`, `num_features`,
    `dimensions` (1, 2 or 3), `momentum`, `eps`, `affine`, `track_running_stats`: each a constant,
    a `Symbol` or `UNKNOWN`; defaults are filled in. Readers of source also say of a layer

    - `built_in_forward`: True when the forward pass itself constructs it, at each call, with no
      condition that could keep it from one call to the next (BN106);
    - `bias_argument`, of an instance of the project's own subclass: the position of its
      constructor's bias, `keyword` if it takes one by name only, `torch` if the constructor is
      torch's, UNKNOWN if a caller can't turn the bias off (BN101's fix);
    - `initialised_at`, of an instance of the project's own subclass: where that calls torch's
      constructor, and `constants_given`, whether its caller chose the momentum or eps (BN107);
    - `mentioned`: False when no code but the constructors reads the attribute that holds it,
      neither a method nor, by that name, another class that was read (BN105);
    - `kept_in_eval`: True when the network's own `train` method, or its forward, puts the layer in
      eval mode, or may do so (BN101).
    """

    kind: Kind
    type_name: str
    """Qualified, such as `torch.nn.Conv2d`."""
    name: str
    """Attribute path from the root, such as `features.0.conv`; empty where it has none."""
    site: Site | None
    """Where it is constructed."""
    attributes: Mapping[str, object] = field(default_factory=dict)

    def get(self, name: str) -> object:
        """Return an attribute, `UNKNOWN` where the reader did not see it."""
        return self.attributes.get(name, UNKNOWN)


@dataclass(eq=False)
class Node:
    """One application of a layer or an operation in the forward pass.

    Calls have attributes too. A functional norm has `functional` (True), those of the layer, and

    - `running_statistics`: True when the running mean that it is given is kept by the module (an
      attribute, such as `self.running_mean`), False when it is None or a tensor made on the spot;
    - `training` and `training_given`: the argument, and whether it was given at all (BN108).

    A reshape and an input have `rank`, the number of dimensions of the output, where it is known; a
    flattening has `flattened_from`, the first dimension that it flattens, if that goes to the last.
    A concatenation has `dimension`, if all that it joins is known. Of an operation readers of
    source say `elementwise` (True), or `rank_change`, by how much the rank of its output differs
    from that of its one input; a parameter that it reads besides is taken not to widen it. Of a
    mean or a sum that keeps the dimensions which it goes over, these are `reduced`; of pooling
    `output_size` is what is left of the image. What only takes a part of some dimensions has those
    as `cropped`, counted from the first (0) or the last (-1).
    """

    kind: Kind
    name: str
    site: Site | None
    """Where it is called."""
    layer: Layer | None = None
    """The layer that is applied; None for a functional call."""
    attributes: Mapping[str, object] = field(default_factory=dict)
    inputs: list[Node] = field(default_factory=list)
    """Tensors read, in order; parameters are not among them."""
    consumers: list[Node] = field(default_factory=list)
    """Each reader of the output once per read."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Traced models only: role (`weight`, `bias`, `running_mean`, ...) to parameter name."""
    shape: tuple[int, ...] | None = None
    """Traced models only: shape of the output, where it was seen."""

    def get(self, name: str) -> object:
        """Return the attribute of the call or else of its layer, `UNKNOWN` where unseen."""
        if name in self.attributes:
            return self.attributes[name]
        return self.layer.get(name) if self.layer is not None else UNKNOWN


@dataclass(eq=False)
class LayerGraph:
    """The layers of one network and how tensors flow between them."""

    name: str
    """The class, function or file that it was read from."""
    nodes: list[Node] = field(default_factory=list)
    """In an order in which they can run."""
    layers: list[Layer] = field(default_factory=list)
    """Every layer constructed, applied or not."""
    complete: bool = True
    """Whether the forward pass was understood fully."""
    symbolic: bool = False
    """Whether the network's parameters are symbols, since no call that gives them was seen."""
    apart: dict[str, Layer] = field(default_factory=dict)
    """By name: layers of parts that this forward does not reach, read as networks of their own."""
    otherwise: Callable[[], LayerGraph] | None = None
    """Reads the network again, more closely, where that may tell more; for what has a finding.

    Nothing is known there of what callers of the forward may leave to a default, if that can be
    read, and layers are `kept_in_eval`."""
    guessed: bool = False
    """Whether a number of layers, and with it what doubles from one to the next, was assumed."""
    _uses: dict[int, list[Node]] = field(default_factory=dict, repr=False)
    _counted: int = 0

    def add(self, node: Node) -> Node:
        """Append a node whose `inputs` are already in the graph, and tell them of it."""
        self.nodes.append(node)
        for source in node.inputs:
            source.consumers.append(node)
        return node

    def of_kind(self, *kinds: Kind) -> Iterator[Node]:
        """Yield the nodes of these kinds, in order."""
        return (node for node in self.nodes if node.kind in kinds)

    def uses(self, layer: Layer) -> list[Node]:
        """Return the nodes that apply this layer."""
        if self._counted != len(self.nodes):
            self._uses = {}
            for node in self.nodes:
                if node.layer is not None:
                    self._uses.setdefault(id(node.layer), []).append(node)
            self._counted = len(self.nodes)
        return self._uses.get(id(layer), [])


def direct_producer(node: Node) -> Node | None:
    """Return what computes a node's first input, seen through identities; None without one."""
    source = node.inputs[0] if node.inputs else None
    while source is not None and source.kind is Kind.IDENTITY and source.inputs:
        source = source.inputs[0]
    return source


def only_consumer(node: Node) -> Node | None:
    """Return the one reader of a node's output, seen through identities; None if not just one."""
    while len(node.consumers) == 1:
        consumer = node.consumers[0]
        if consumer.kind is not Kind.IDENTITY:
            return consumer
        node = consumer
    return None


def readers(node: Node) -> list[Node]:
    """Return what reads a node's output on any path, seen through identities and joins.

    What leaves each channel of a convolution whole, and only crops its image, is seen through as
    well. An identity, join or crop that nothing reads stands for itself: where it goes was not
    seen.
    """
    found: dict[Node, None] = {}
    waiting = node.consumers[::-1]
    rank = _rank(node)
    seen: set[Node] = set()
    while waiting:
        consumer = waiting.pop()
        if consumer in seen:
            continue
        seen.add(consumer)
        passes = consumer.kind in (Kind.IDENTITY, Kind.JOIN) or _crops_image(consumer, rank)
        if passes and consumer.consumers:
            waiting += consumer.consumers[::-1]
        else:
            found[consumer] = None
    return list(found)


def _rank(node: Node) -> int:
    """Return the number of dimensions of a layer's output; 0 where it is not known."""
    dimensions = node.get("dimensions")
    if node.shape is not None or node.kind not in PRODUCERS or type(dimensions) is not int:
        return len(node.shape or ())
    return dimensions + 2


def _crops_image(node: Node, rank: int) -> bool:
    """Tell whether a node takes a part of a tensor of this rank, if known, with all channels."""
    cropped = node.get("cropped")
    return isinstance(cropped, tuple) and rank > 0 and all(d % rank != 1 for d in cropped)

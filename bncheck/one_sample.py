"""Tells of a network's graph whether a BatchNorm sees one value per channel and sample.

It fails on a batch of one sample in train mode then. This module imports neither libcst nor torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bncheck.graph import UNKNOWN, Kind, LayerGraph, Node
from bncheck.shapes import Shapes

_KEEPS_SIZE = frozenset(
    {Kind.ACTIVATION, Kind.DROPOUT, Kind.IDENTITY, Kind.CONVOLUTION, Kind.BATCH_NORM}
)
_KEEPS_VALUES = frozenset({Kind.ACTIVATION, Kind.DROPOUT, Kind.IDENTITY})
_OF_IMAGES = frozenset({Kind.CONVOLUTION, Kind.POOLING, Kind.BATCH_NORM})


def fails_on_one_sample(graph: LayerGraph) -> bool:
    """Tell whether a BatchNorm of the network surely sees one value per channel and sample.

    That is a BatchNorm1d behind a linear layer or on what has no length, or one behind global
    pooling, or one on a map of one element.
    """
    shapes = Shapes()
    return any(
        (_behind_pooling(norm) or _without_length(norm, shapes) or _on_one_element(norm))
        and not _of_rows(norm)
        for norm in graph.of_kind(Kind.BATCH_NORM)
    )


def _behind_pooling(norm: Node) -> bool:
    """Tell whether global pooling, or for a BatchNorm1d a linear layer, leaves one value to it."""
    source = _source(norm)
    flattened = widened = False
    while source is not None:
        if source.kind is Kind.LINEAR:
            one_wide = not widened or source.get("out_channels") == norm.get("num_features")
            return norm.get("dimensions") == 1 and not flattened and one_wide
        if _pools_to_one(source, norm.get("dimensions")):
            return True
        if _flattens(source) and norm.get("dimensions") == 1:
            flattened = True
        elif source.kind is Kind.RESHAPE and source.name == "unsqueeze":
            widened = True
        elif source.kind not in _KEEPS_SIZE:
            return False
        source = _source(source)
    return False


def _without_length(norm: Node, shapes: Shapes) -> bool:
    """Tell whether a BatchNorm1d is given a row of features for each sample.

    So it is too where a linear layer behind it takes as many features as it has channels.
    """
    source = _source(norm)
    if norm.get("dimensions") != 1 or source is None:
        return False
    if shapes.rank(source) == 2:
        return True
    features = norm.get("num_features")
    return any(
        reader.kind is Kind.LINEAR and _same(reader.get("in_features"), features)
        for reader in _readers(norm)
    ) and all(len(node.inputs) == 1 or node.kind is not Kind.OPAQUE for node in _ancestors(norm))


def _on_one_element(norm: Node) -> bool:
    """Tell whether what is flattened behind a norm of images has no more values than channels.

    A linear layer that takes as many features as there are channels says so, and so does a
    convolution of each channel by itself with a large kernel and no padding, as MobileFaceNet has
    it instead of global pooling.
    """
    for flat in _readers(norm, small_kernels=True):
        if flat.kind is not Kind.RESHAPE or not _flattens(flat):
            continue
        source = _source(flat)
        while source is not None and source.kind in _KEEPS_VALUES | {Kind.BATCH_NORM}:
            source = _source(source)
        if source is None or source.kind is not Kind.CONVOLUTION:
            continue
        channels = source.get("out_channels")
        if any(
            reader.kind is Kind.LINEAR and _same(reader.get("in_features"), channels)
            for reader in _readers(flat)
        ):
            return True
        before: Node | None = source
        while before is not None and before.kind in _KEEPS_SIZE and not _is_global(before):
            before = _source(before) if _kernel(before) in (None, (1, 1)) else None
        if before is not None and _is_global(before) and before in _ancestors(norm):
            return True
    return False


def _is_global(node: Node) -> bool:
    """Tell whether this is a convolution of each channel by itself with a large kernel."""
    kernel = _kernel(node)
    return (
        kernel is not None
        and min(kernel) >= _LARGE
        and node.get("padding") in (0, (0, 0))
        and node.get("groups") != 1
        and _same(node.get("groups"), node.get("in_channels"))
    )


_LARGE = 4
"""Smaller kernels are used within a network as well."""


def _kernel(node: Node) -> tuple[int, int] | None:
    """Return the size of a convolution's kernel on images; None for what is none."""
    if node.kind is not Kind.CONVOLUTION or node.get("dimensions") != 2:
        return None
    size = node.get("kernel_size")
    if type(size) is int:
        return size, size
    if isinstance(size, tuple) and len(size) == 2 and all(type(side) is int for side in size):
        return size[0], size[1]
    return 0, 0


def _of_rows(norm: Node) -> bool:
    """Tell whether what reaches a norm may be several rows of each sample, such as its frames."""
    return any(
        (node.get("rows_of_a_sample") is True and not _flattens_image(node))
        or (node.kind is Kind.CONCAT and node.get("dimension") == 0)
        or node.name.endswith("einops.rearrange")
        for node in _ancestors(norm, _parts_samples)
    )


def _parts_samples(node: Node) -> bool:
    """Recognise `x.view(b, n, -1)`, which makes one sample of its rows again."""
    rank = node.get("rank")
    is_view = node.kind is Kind.RESHAPE and node.name in {"view", "reshape"}
    return is_view and type(rank) is int and rank > 2 and node.get("rows_of_a_sample") is not True


def _flattens_image(node: Node) -> bool:
    """Tell whether all of a map, or of what is embedded of a sample, becomes one row."""
    if node.get("rank") != 2:
        return False
    source = _source(node)
    while source is not None and source.kind in _KEEPS_VALUES:
        source = _source(source)
    if source is None:
        return False
    if source.name.endswith(".Embedding"):  # So many features as the number of fields asks for.
        return any(
            reader.kind is Kind.LINEAR and "len(" in str(reader.get("in_features"))
            for reader in _readers(node)
        )
    return source.kind in _OF_IMAGES and source.get("dimensions") != 1


def _source(node: Node) -> Node | None:
    return node.inputs[0] if node.inputs else None


def _ancestors(node: Node, ends: Callable[[Node], bool] | None = None) -> set[Node]:
    """Return every node that what reaches this one is computed from, up to those that end it."""
    found: set[Node] = set()
    waiting = [*node.inputs]
    while waiting:
        source = waiting.pop()
        if source not in found:
            found.add(source)
            if ends is None or not ends(source):
                waiting += source.inputs
    return found


def _readers(node: Node, small_kernels: bool = False) -> Iterator[Node]:
    """Yield what reads a node's output, seen through what leaves each value where it is.

    Through convolutions of one element, and norms between them, where small kernels are asked for.
    """
    waiting = [*node.consumers]
    seen: set[Node] = set()
    while waiting:
        reader = waiting.pop()
        if reader in seen:
            continue
        seen.add(reader)
        passes = reader.kind in _KEEPS_VALUES or (
            small_kernels and (reader.kind is Kind.BATCH_NORM or _kernel(reader) == (1, 1))
        )
        if passes:
            waiting += reader.consumers
        else:
            yield reader


def _same(one: object, other: object) -> bool:
    """Tell whether two sizes are the same number or the same symbol."""
    return type(one) is type(other) and one is not UNKNOWN and one == other and bool(one)


def _pools_to_one(node: Node, dimensions: object) -> bool:
    """Tell whether pooling, or a mean over all of an image's dimensions, leaves one value."""
    if node.kind is Kind.POOLING:
        size = node.get("output_size")
        return size == 1 or (isinstance(size, tuple | list) and set(size) == {1})
    reduced = node.get("reduced")
    if not isinstance(reduced, tuple) or type(dimensions) is not int:
        return False
    return {d % (dimensions + 2) for d in reduced} == set(range(2, dimensions + 2))


def _flattens(node: Node) -> bool:
    """Tell whether of what is pooled to one value only the batch and the channels are left."""
    return node.kind is Kind.RESHAPE and (
        node.name.lower() in {"flatten", "squeeze"} or node.get("rank") == 2
    )

"""BN101: a bias that the normalisation after it takes away again."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Fix, Lost, Match, SetKeyword
from bncheck.graph import (
    BATCH_STATISTICS,
    PRODUCERS,
    UNKNOWN,
    Kind,
    Layer,
    LayerGraph,
    Node,
    Site,
    readers,
)

_NAMES = {
    Kind.BATCH_NORM: "BatchNorm",
    Kind.INSTANCE_NORM: "InstanceNorm",
    Kind.GROUP_NORM: "a GroupNorm of single channels",
}


@check("BN101", LayerGraph)
def bias_before_norm(graph: LayerGraph) -> Iterator[Match]:
    """Yield each producer with a bias whose output goes straight, and only, into norms."""
    for node in graph.of_kind(*PRODUCERS):
        uses = _uses(graph, node)
        site = node.layer.site if node.layer is not None else node.site
        if not uses or uses[0] is not node or site is None or node.get("bias") is not True:
            continue
        if any(_of_sequences(use) for use in uses) or _seen_elsewhere(node.layer):
            continue
        norms = [readers(use) for use in uses]
        if not all(norms) or not all(
            subtracts_mean(norm) and _per_channel(node, norm) for found in norms for norm in found
        ):
            continue
        yield Match(
            site,
            f"{_with_bias(node)}, but its output goes straight into {_NAMES[norms[0][0].kind]}, "
            "which subtracts it again",
            "leave the bias out of the call"
            if _is_functional(node)
            else "pass bias=False; an existing checkpoint is mended by `bncheck debias`",
            fix=_without_bias(node.layer, site) if node.layer is not None else None,
            hint_in_some="some layers of this place need theirs: let the bias depend on the norm, "
            "as in bias=not use_norm or bias=norm_layer is None",
        )


def _is_functional(node: Node) -> bool:
    """Tell whether a node is a call such as `F.conv2d`, with no layer's own weight."""
    return node.layer is None and node.get("functional") is True


def _with_bias(node: Node) -> str:
    if _is_functional(node):
        return f"{node.name} is given a bias"
    name = node.layer.type_name.rpartition(".")[2] if node.layer else node.kind.value
    return f"{name} has a bias"


def subtracts_mean(norm: Node) -> bool:
    """Tell whether a norm subtracts the mean of each channel of what it is given."""
    if norm.kind is Kind.GROUP_NORM:
        return _has_single_channels(norm)
    if norm.kind not in BATCH_STATISTICS:
        return False
    if norm.get("functional") is not True:
        uses_batch = norm.get("track_running_stats") is False
        return uses_batch or norm.get("kept_in_eval") is not True
    # A functional call may be told to use the running statistics, whatever the mode.
    return norm.get("training") is not False and norm.get("use_input_stats") is not False


def _has_single_channels(norm: Node) -> bool:
    """Tell whether each group of a GroupNorm is one channel, as in InstanceNorm."""
    groups, channels = norm.get("num_groups"), norm.get("num_channels")
    shape = norm.inputs[0].shape if norm.inputs else None
    if shape is not None and len(shape) > 2:
        channels = shape[1]
    return groups is not UNKNOWN and groups == channels


def _per_channel(producer: Node, norm: Node) -> bool:
    """Tell whether the bias is one number for each of the norm's channels.

    A linear layer's features are the last dimension, which a norm takes for its channels only
    where there are two dimensions: InstanceNorm and GroupNorm never do, and BatchNorm for another
    number of channels, or of images, has its channels elsewhere.
    """
    if producer.kind is not Kind.LINEAR:
        return True
    if norm.kind is not Kind.BATCH_NORM or norm.get("dimensions") in (2, 3):
        return False
    features, channels = producer.get("out_channels"), norm.get("num_features")
    return not (type(features) is int and type(channels) is int and features != channels)


def _seen_elsewhere(layer: Layer | None) -> bool:
    """Tell whether other code reads the layer's weights in a forward, or hooks its output."""
    return layer is not None and (layer.get("shared") is True or layer.get("hooked") is True)


def _without_bias(layer: Layer, site: Site) -> Fix | None:
    """Return the fix at the call that constructs the layer; None if that call can't make it."""
    position: int | None = 2 if layer.kind is Kind.LINEAR else 7
    if ".Lazy" in layer.type_name and position is not None:
        position -= 1
    match layer.attributes.get("bias_argument", "torch"):
        case "torch":
            if not layer.type_name.startswith("torch.nn."):
                return None
        case "keyword":
            position = None
        case int(own):
            position = own
        case _:
            return None
    lost = Lost("bias", layer.type_name, layer.name)
    change = SetKeyword(site, "bias", "False", position)
    return Fix("Set bias=False", (change,), safe=False, loses=lost)


def _uses(graph: LayerGraph, node: Node) -> list[Node]:
    """Return where the layer is applied; an exported program has calls with parameters only.

    A functional call is a use of its own: without its bias, others keep theirs.
    """
    if node.layer is not None:
        return graph.uses(node.layer)
    if _is_functional(node):
        return [node]
    bias = node.parameters.get("bias")
    return [use for use in graph.nodes if bias is not None and use.parameters.get("bias") == bias]


def _of_sequences(node: Node) -> bool:
    """Tell whether a linear layer's channels are known to be last, and so not those of the norm."""
    return node.kind is Kind.LINEAR and node.shape is not None and len(node.shape) != 2

"""BN102: a BatchNorm for another number of channels than reaches it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Match
from bncheck.graph import UNKNOWN, Kind, LayerGraph, Node, Symbol

_KEEPS_CHANNELS = frozenset(
    {
        Kind.ACTIVATION,
        Kind.DROPOUT,
        Kind.IDENTITY,
        Kind.POOLING,
        Kind.UPSAMPLING,
        Kind.INSTANCE_NORM,
        Kind.GROUP_NORM,
    }
)
_KEEPS_RANK = frozenset(
    {Kind.LINEAR, Kind.ACTIVATION, Kind.DROPOUT, Kind.IDENTITY, Kind.BATCH_NORM}
)
_CONVOLUTIONS = frozenset({Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION})


@check("BN102", LayerGraph)
def feature_mismatch(graph: LayerGraph) -> Iterator[Match]:
    """Yield each BatchNorm whose `num_features` is provably not the channels of its input."""
    if graph.guessed:
        return
    for norm in graph.of_kind(Kind.BATCH_NORM):
        expected = norm.get("num_features")
        if norm.layer is None or norm.layer.site is None or len(norm.inputs) != 1:
            continue
        reaching = _channels(norm.inputs[0])
        if _differ(expected, reaching):
            yield Match(
                norm.layer.site,
                f"BatchNorm for {_shown(expected)} channels is given {_shown(reaching)}",
                f"pass num_features={_shown(reaching)}",
            )


def _channels(node: Node) -> object:
    """Return the size of dimension 1 of a node's output, as far as layers say it."""
    while True:
        if node.kind in _CONVOLUTIONS:
            return node.get("out_channels")
        if node.kind is Kind.LINEAR:
            return node.get("out_channels") if _is_flat(node) else UNKNOWN
        if node.kind is Kind.BATCH_NORM:
            # One that is wrong itself tells of no other: it will be given what reaches it.
            reaching = _channels(node.inputs[0]) if len(node.inputs) == 1 else UNKNOWN
            return node.get("num_features") if reaching is UNKNOWN else reaching
        if node.kind is Kind.JOIN:
            found = {_channels(source) for source in node.inputs}
            return found.pop() if len(found) == 1 else UNKNOWN
        if node.kind is Kind.CONCAT:
            return _sum_of_channels(node)
        if node.kind not in _KEEPS_CHANNELS or len(node.inputs) != 1:
            return UNKNOWN
        node = node.inputs[0]


def _sum_of_channels(node: Node) -> object:
    parts = [_channels(source) for source in node.inputs]
    if node.get("dimension") == 1 and parts and all(type(part) is int for part in parts):
        return sum(part for part in parts if isinstance(part, int))
    return UNKNOWN


def _is_flat(node: Node) -> bool:
    """Tell whether a node's output surely has two dimensions, so that the last is dimension 1."""
    while node.kind in _KEEPS_RANK:
        if len(node.inputs) != 1:
            return False
        node = node.inputs[0]
    return node.get("rank") == 2


def _differ(first: object, second: object) -> bool:
    """Tell whether two numbers of channels differ whatever the symbols in them stand for."""
    left, right = _product(first), _product(second)
    return left is not None and right is not None and left[1] == right[1] and left[0] != right[0]


def _product(value: object) -> tuple[int, Counter[str]] | None:
    """Return a number as a positive factor times names; None where it is no such product."""
    if type(value) is int and value > 0:
        return value, Counter()
    if not isinstance(value, Symbol):
        return None
    try:
        expression = ast.parse(value.expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return None
    factor, names = 1, Counter[str]()
    pending = [expression]
    while pending:
        match pending.pop():
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                pending += [left, right]
            case ast.Constant(value=int() as number) if number > 0:
                factor *= number
            case ast.Name() | ast.Attribute() as name:
                names[ast.unparse(name)] += 1
            case _:
                return None
    return factor, names


def _shown(value: object) -> str:
    return value.expression if isinstance(value, Symbol) else str(value)

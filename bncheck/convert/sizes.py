"""Which steps of a plan rest on the size of the example: what they pass may mean something else.

Labels are made at one size of the input. A step that passes layers, sums, pooling and the like is
right at every size. One that passes a view to fixed sizes, or a factor that was computed from a
size, may be right at this one alone. `torch.fx` keeps what was computed from sizes apart from what
is constant; `torch.export` does not, and may have taken a branch, so that all its steps may be so.
"""

from __future__ import annotations

import operator

from torch import fx, nn

from bncheck.convert.plan import Plan
from bncheck.convert.pooling import counts_elements
from bncheck.convert.whole import is_whole
from bncheck.graph import Kind, Node
from bncheck.model.traced_call import TracedCall

_KEEPS_AXES_WORDS = """
    permute transpose t mT T adjoint movedim moveaxis swapaxes swapdims unsqueeze slice select
    narrow getitem split split_with_sizes chunk unbind tensor_split pixel_shuffle pixel_unshuffle
    channel_shuffle native_channel_shuffle flip stack index_select
"""
_KEEPS_AXES = frozenset(_KEEPS_AXES_WORDS.split())
"""Movements of data whose constants count axes, channels or pieces."""


def steps_that_rest_on_size(plan: Plan) -> list[str]:
    """Return the names of the BatchNorms whose removal may be right at the example's size alone."""
    gone = [step.batch_norm for step in plan.steps]
    if plan.traced.how != "fx":
        return gone
    return [name for name in gone if any(_rests_on_size(plan, n) for n in _passed(plan, name))]


def _passed(plan: Plan, name: str) -> frozenset[Node]:
    """Return what computes or reads the tensors that the removal of a BatchNorm changes."""
    changed = plan.passed.get(name, frozenset())
    return changed.union(*(node.consumers for node in changed))


def _rests_on_size(plan: Plan, node: Node) -> bool:
    call = plan.traced.calls[node]
    if node.kind in {Kind.INPUT, Kind.OUTPUT, Kind.CONCAT, Kind.IDENTITY, Kind.BATCH_NORM}:
        return False
    if node.shape is not None and 0 in node.shape:  # a slice that has nothing in it at this size
        return True
    if node.kind is Kind.POOLING and counts_elements(node, plan.traced.calls):
        return True
    if is_whole(node, call):
        return True
    if node.kind is not Kind.RESHAPE:
        return call.from_sizes
    if call.call.name in {"flatten", "view", "reshape"}:
        return not _keeps_samples(plan, call)
    return call.from_sizes or call.call.name not in _KEEPS_AXES


def _keeps_samples(plan: Plan, call: TracedCall) -> bool:
    """Tell whether an operation flattens all axes behind some axis other than the first."""
    source = call.source
    if source.op == "call_module":
        layer = plan.traced.model.get_submodule(str(source.target))
        return isinstance(layer, nn.Flatten) and layer.start_dim > 0 and layer.end_dim == -1
    if call.call.name == "flatten":
        start = source.kwargs.get("start_dim", (*source.args, 0, 0)[1])
        return isinstance(start, int) and start > 0
    sizes = source.args[1:]
    sizes = tuple(sizes[0]) if sizes and isinstance(sizes[0], tuple | list) else sizes
    return len(sizes) == 2 and _counts_samples(sizes[0]) and bool(sizes[1] == -1)


def _counts_samples(size: object) -> bool:
    """Tell whether a value is `x.size(0)` or `x.shape[0]`."""
    if not isinstance(size, fx.Node) or len(size.args) != 2 or size.args[1] != 0:
        return False
    if size.op == "call_method" and size.target == "size":
        return True
    whole = size.args[0]
    return (
        size.target is operator.getitem
        and isinstance(whole, fx.Node)
        and (
            (whole.op == "call_method" and whole.target == "size")
            or (whole.target is getattr and whole.args[1] == "shape")
        )
    )

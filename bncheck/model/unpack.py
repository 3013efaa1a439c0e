"""Spells out the pieces of a split that are joined again without being named.

`torch.cat(x.chunk(2, 1))` and `torch.stack(x.unbind(1)[::-1])` hand on a whole tuple; with one
node for each member a graph says which tensor goes where.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from torch import fx

from bncheck.graph import Kind
from bncheck.model.observe import Observation
from bncheck.model.operations import PIECES, STACKS, describe


def unpack_pieces(graph_module: fx.GraphModule, seen: Observation) -> bool:
    """Let concatenations and stacks read the pieces themselves; tell whether anything changed."""
    modules = dict(graph_module.named_modules(remove_duplicate=False))
    graph = graph_module.graph
    changed = False
    for node in list(graph.nodes):
        if node in seen.lengths and node.op in {"call_function", "call_method"}:
            places = range(seen.lengths[node])
            if describe(node, modules).name in PIECES:
                changed |= _unpack(graph, node, places, node, modules)
    if changed:
        graph.lint()
        graph_module.recompile()
    return changed


def _unpack(
    graph: fx.Graph,
    tuple_node: fx.Node,
    places: Sequence[int],
    splitter: fx.Node,
    modules: dict[str, Any],
) -> bool:
    """Unpack what joins the pieces at these places, which `tuple_node` holds."""
    changed = False
    for user in list(tuple_node.users):
        call = describe(user, modules)
        if call.name == "getitem" and isinstance(user.args[1], slice):
            part = user.args[1]
            if all(isinstance(end, int | None) for end in (part.start, part.stop, part.step)):
                changed |= _unpack(graph, user, places[part], splitter, modules)
                if not user.users:
                    graph.erase_node(user)
            continue
        joins = call.kind is Kind.CONCAT or call.name in STACKS
        if joins and user.args and user.args[0] is tuple_node:
            with graph.inserting_before(user):
                pieces = [graph.call_function(operator.getitem, (splitter, p)) for p in places]
            user.args = (pieces, *user.args[1:])
            changed = True
    return changed

"""Networks of graphs: whether a BatchNorm of one sees a single value per channel and graph.

Such a BatchNorm stands behind the pooling of all nodes, and fails where a batch is of one graph.
"""

from __future__ import annotations

import re
from functools import lru_cache

import libcst as cst

from bncheck.source.module import dotted, statements
from bncheck.source.project import Project
from bncheck.source.timeline.classes import ancestry, members
from bncheck.source.timeline.constructors import assigned_in_init
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk_kinds

_POOLS = re.compile(r"^(?:global_(?:mean|add|max|sum|sort)_pool|(?:mean|sum|max)_nodes|gmp|gap)$")
"""Functions of torch_geometric and dgl that leave one row per graph."""


@lru_cache(maxsize=1024)
def sees_pooled_graphs(project: Project, cls: Class) -> bool:
    """Tell whether a `forward` hands what is pooled by graphs to a BatchNorm1d."""
    for ancestor in ancestry(project, cls).project:
        forward = members(ancestor.node).get("forward")
        if isinstance(forward, cst.FunctionDef):
            return _reaches(ancestor, forward)
    return False


def _reaches(cls: Class, forward: cst.FunctionDef) -> bool:
    made = assigned_in_init(cls.node)
    norms = {name for name, value in made.items() if _names_norm(value)}
    pooled: set[str] = set()
    for part in statements(forward.body.body):
        if not isinstance(part, cst.Assign | cst.Return):
            continue
        value = part.value
        if value is None:
            continue
        if any(True for _ in walk_kinds(value, (cst.Subscript,))):
            continue  # It may be spread over the nodes again.
        calls = list(walk_kinds(value, (cst.Call,)))
        if any(_is_of(call, norms) and _takes(call, pooled) for call in calls):
            return True
        if isinstance(part, cst.Assign):
            names = set().union(*(identifiers(target.target) for target in part.targets))
            holds_pooled = bool(identifiers(value) & pooled) or any(map(_pools, calls))
            pooled = pooled | names if holds_pooled else pooled - names
    return False


def _takes(call: cst.Call, pooled: set[str]) -> bool:
    """Tell whether a call is given what is pooled, or what it pools itself."""
    return any(
        not identifiers(argument.value).isdisjoint(pooled)
        or any(map(_pools, walk_kinds(argument.value, (cst.Call,))))
        for argument in call.args
    )


def _names_norm(node: cst.BaseExpression) -> bool:
    return "BatchNorm1d" in identifiers(node)


def _pools(call: cst.Call) -> bool:
    name = (dotted(call.func) or "").rpartition(".")[2]
    return _POOLS.match(name) is not None


def _is_of(call: cst.Call, norms: set[str]) -> bool:
    owner, _, name = (dotted(call.func) or "").partition(".")
    return owner == "self" and name in norms

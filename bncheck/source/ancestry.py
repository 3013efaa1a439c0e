"""Where a syntax node stands in its tree; libcst's nodes do not know their parents."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst


def ancestors(wanted: cst.CSTNode, tree: cst.CSTNode) -> list[cst.CSTNode]:
    """Return the nodes from the tree's root down to the wanted one; empty if it is not there.

    It walks the whole tree: for the few nodes that end in a finding.
    """
    trail: list[cst.CSTNode] = []
    stack: list[tuple[cst.CSTNode, int]] = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        del trail[depth:]
        trail.append(node)
        if node is wanted:
            return trail
        stack.extend((child, depth + 1) for child in node.children)
    return []


def descendants(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield a node and everything in it, in no particular order."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(current.children)

"""What is asked of one node of a torch.fx graph alone."""

from __future__ import annotations

from torch import fx

from bncheck.graph import Kind


def is_first_member_or_idle(node: fx.Node) -> bool:
    """Tell whether a node is the first member of the tuple it reads, or another no one reads."""
    member = getattr(node.target, "__name__", "") == "getitem"
    return member and (node.args[1:] == (0,) or not node.users)


def kind_of_attribute(name: str) -> Kind:
    """Return what reading an attribute of a tensor does."""
    return Kind.RESHAPE if name in {"T", "mT", "H", "mH"} else Kind.OPERATION


def module_path(node: fx.Node) -> str:
    """Return the path of the innermost module whose code a node is in."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    last = next(reversed(stack.values()))
    return str(last[0]) if isinstance(last, tuple) else ""


def owner_of(name: str) -> str:
    """Return the path of the module that a parameter belongs to."""
    return name.rpartition(".")[0]

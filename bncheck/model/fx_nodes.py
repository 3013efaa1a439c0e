"""What is asked of one node of a torch.fx graph alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from bncheck.graph import Kind
from bncheck.model.operations import EXTREMES, MEMBERS, PIECES, Call


def is_first_member_or_idle(node: fx.Node) -> bool:
    """Tell whether a node is the first member of the tuple it reads, or another no one reads."""
    member = getattr(node.target, "__name__", "") == "getitem"
    return member and (node.args[1:] == (0,) or not node.users)


def drops_anything(
    node: fx.Node, modules: Mapping[str, nn.Module], arguments: Mapping[str, Any]
) -> bool:
    """Tell whether a dropout with these arguments drops anything at all."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return module.training and getattr(module, "p", None) != 0
    training = bool(arguments.get("training", True))
    if not isinstance(node.target, str) and node.kwargs.get("train") is False:
        training = False
    if isinstance(node.target, torch._ops.OpOverload):
        training = bool(node.args[2] if len(node.args) > 2 else training)
    return training and arguments.get("p") != 0


def gives_pieces(call: Call) -> bool:
    """Tell whether a call that gives several tensors is a split, or a maximum and its places."""
    largest = call.kind is Kind.POOLING and "max_pool" in call.name
    return call.name in PIECES or call.name in EXTREMES or largest


def member_read(node: fx.Node) -> Any:
    """Return the place of the member that a node reads, by its number or name."""
    place = node.args[1]
    return MEMBERS[place] if isinstance(place, str) else place


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

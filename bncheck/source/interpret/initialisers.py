"""Functions that set the weights of a finished network: they don't change what it computes with.

Many go through all of its layers, or recurse into them, and cost more than to read the network.
One is passed over if its name says what it does and its text stores and constructs no part.
"""

from __future__ import annotations

import re
from functools import cache

import libcst as cst

from bncheck.source.interpret.dispatch import Evaluate, expression
from bncheck.source.interpret.values import Function
from bncheck.source.outline import body_text

_NAME = re.compile(
    r"init\w*_(?:weight|param|bias)|(?:weight|param)s?_init|reset_param|initiali[sz]e|^named_apply$",
    re.IGNORECASE,
)
_BUILDS = re.compile(
    r"\.(?!data\b)\w+\s*(?::[^=\n]+)?=(?!=)|\]\s*=(?!=)|\bnn\.[A-Z]\w*\((?<!nn\.Parameter\()"
    r"|setattr|\.(?:add_module|register_\w+|append|extend|insert|update|pop|setdefault)\("
    r"|__dict__|\b_modules\b|\bglobal\b|\bnonlocal\b"
)


def initialiser(node: cst.BaseExpression) -> Evaluate | None:
    """Return what evaluates the function of a call that initialises weights by its name."""
    if not isinstance(node, cst.Call):
        return None
    function = node.func
    name = function.attr if isinstance(function, cst.Attribute) else function
    if not isinstance(name, cst.Name) or not _NAME.search(name.value):
        return None
    return expression(function)


def builds_nothing(function: object) -> bool:
    """Tell whether a function of the project stores and constructs no part of a network."""
    return isinstance(function, Function) and _builds_nothing(function.node)


@cache
def _builds_nothing(node: cst.FunctionDef | cst.Lambda) -> bool:
    if isinstance(node, cst.Lambda):
        return False
    text = body_text(node)
    return text is not None and not _BUILDS.search(text)

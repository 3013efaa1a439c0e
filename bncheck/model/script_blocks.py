"""Branches and loops of TorchScript as calls: what they read goes in, what they compute comes out.

Nothing more is known of them; they are run to see the shapes of what comes out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from bncheck.errors import BNCheckError
from bncheck.model.script_graph import Attribute, attribute, nodes
from bncheck.model.script_operators import (
    SILENT,
    UnreadableScriptError,
    arguments_of,
    constant,
    is_module,
    operator_of,
    structural,
    written,
)

Known = dict[str, Any]
"""What each value is, by its name, of which a graph has each once."""
STORED = ("prim::Constant", "prim::GetAttr")


def only_raises(block: Any) -> bool:
    """Tell whether a block ends in an exception, whatever it is given."""
    return any(node.kind() == "prim::RaiseException" for node in block.nodes())


def changes_nothing(block: Any) -> bool:
    """Tell whether a block has no results and writes nowhere: it only checks and warns."""
    return not list(block.outputs()) and not any(
        written(node) or node.kind() == "prim::SetAttr" for node, _ in nodes(block)
    )


def values_from_outside(node: Any) -> tuple[list[Any], list[Any]]:
    """Return the values that a branch or loop reads and does not compute, and those it changes.

    Raises UnreadableScriptError where it writes over a tensor.
    """
    blocks = [inner for block in node.blocks() for inner in _with_inner_blocks(block)]
    computed = {value.debugName() for block in blocks for value in block.inputs()}
    found = {value.debugName(): value for value in node.inputs()}
    read = []
    for block in blocks:
        for one in block.nodes():
            computed.update(value.debugName() for value in one.outputs())
            read += list(one.inputs())
        read += list(block.outputs())
    found.update({v.debugName(): v for v in read if v.debugName() not in computed})
    changed = {}
    for block in blocks:
        for one in block.nodes():
            for value in written(one):
                if value.debugName() in found and value.type().kind() == "TensorType":
                    raise UnreadableScriptError(
                        f"the TorchScript calls {one.kind()} under a condition or in a loop, and "
                        "writes over a tensor that is read elsewhere too"
                    )
                if value.debugName() in found:
                    changed[value.debugName()] = value
    return [value for value in found.values() if not is_module(value)], list(changed.values())


def tensors_within(module: Any, node: Any) -> Iterator[tuple[Any, Attribute]]:
    """Yield the parameters and constants that a branch or loop reads, by the values that do."""
    for block in node.blocks():
        for one, _ in nodes(block):
            if one.kind() in STORED and not is_module(one.output()):
                read = attribute(module, one.output())
                if read is not None:
                    yield one.output(), read


def batch_norms_within(module: Any, node: Any) -> Iterator[str]:
    """Yield the names of the BatchNorms that a branch or loop applies."""
    for block in node.blocks():
        for one, _ in nodes(block):
            if one.kind() == "aten::batch_norm":
                statistics = attribute(module, one.inputsAt(3))
                yield statistics.name.rpartition(".")[0] if statistics else "batch_norm"


def control_flow(
    module: Any, node: Any, names: list[str], changed: list[str]
) -> Callable[..., tuple[Any, ...]]:
    """Return a function that runs a branch or loop, given the values of these names.

    It returns what the node does, and then what the lists that it `changed` are after it.
    """

    def run_control_flow(*values: Any) -> tuple[Any, ...]:
        known = dict(zip(names, values, strict=True))
        known.update({name: copy.copy(known[name]) for name in changed})
        results = _results(module, node, known)
        return (*results, *(known[name] for name in changed))

    return run_control_flow


def _with_inner_blocks(block: Any) -> Iterator[Any]:
    yield block
    for node in block.nodes():
        for inner in node.blocks():
            yield from _with_inner_blocks(inner)


def _run(module: Any, block: Any, known: Known) -> list[Any]:
    for node in block.nodes():
        names = [value.debugName() for value in node.outputs()]
        if node.kind() in STORED and (names[0] in known or is_module(node.output())):
            continue
        known.update(zip(names, _results(module, node, known), strict=False))
    return [known[value.debugName()] for value in block.outputs()]


def _results(module: Any, node: Any, known: Known) -> list[Any]:
    kind = node.kind()
    if kind == "prim::RaiseException":
        raise BNCheckError("the original model does not run on the example input: it raises")
    if kind in SILENT:
        return []
    if kind in STORED:
        return [constant(module, node)]
    given = [known[value.debugName()] for value in node.inputs()]
    if kind == "prim::If":
        then, otherwise = node.blocks()
        return _run(module, then if given[0] else otherwise, known)
    if kind == "prim::Loop":
        return _looped(module, node, given, known)
    packed = structural(node, given)
    if packed is not None:
        return list(packed)
    arguments, keywords = arguments_of(node, given)
    result = operator_of(node)(*arguments, **keywords)
    return list(result) if len(list(node.outputs())) > 1 else [result]


def _looped(module: Any, node: Any, given: list[Any], known: Known) -> list[Any]:
    times, going, *carried = given
    (block,) = node.blocks()
    names = [value.debugName() for value in block.inputs()]
    count = 0
    while going and count < times:
        known.update(zip(names, (count, *carried), strict=True))
        going, *carried = _run(module, block, known)
        count += 1
    return carried

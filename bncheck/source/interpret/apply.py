"""Applying a module to tensors: its forward, or what torch.nn does in its place."""

from __future__ import annotations

from bncheck.graph import Kind, Site
from bncheck.source.interpret.attributes import bind, find
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.operations import tensor_of
from bncheck.source.interpret.problems import PathEndsError
from bncheck.source.interpret.replay import replay
from bncheck.source.interpret.values import (
    MISSING,
    Arguments,
    Branches,
    Either,
    Function,
    Instance,
    Tensor,
    children,
    options,
    tensors_in,
)


def apply(machine: Machine, value: Instance, arguments: Arguments, site: Site | None) -> object:
    """Return what calling an object gives."""
    if value.recipe is not None:
        result = replay(machine, value, arguments, lambda v, a: _forward(machine, v, a, site))
        if result is not MISSING:
            return result
    return _forward(machine, value, arguments, site)


def _forward(machine: Machine, value: Instance, arguments: Arguments, site: Site | None) -> object:
    from bncheck.source.interpret.calls import call

    if value.cls is not None:
        for name in ("forward", "__call__") if value.is_module else ("__call__",):
            found = find(value.cls, name)
            if isinstance(found, Function):
                bound = bind(machine, found, value, value.cls, site)
                return call(machine, bound, arguments, site)
    if value.base is None:
        return machine.opaque("call of an object", site, list(arguments.values()))
    return apply_base(machine, value, arguments, site)


def apply_base(
    machine: Machine, value: Instance, arguments: Arguments, site: Site | None
) -> object:
    """Return what torch.nn's own forward of a module gives."""
    given = list(arguments.values())
    if value.base == "Sequential":
        if value.cls is not None:
            machine.names.applied.add(value.cls)
        result: object = given[0] if given else None
        for _, child in children(value):
            result = apply_item(machine, child, result, site)
        return result
    if value.layer is None:
        return machine.opaque(f"forward of {value.base}", site, given)
    if machine.graph is None:
        return machine.opaque("layer outside a forward", site, given)
    first = tensor_of(machine, given[0], site) if given else None
    if value.layer.kind is Kind.IDENTITY and first is None:
        return given[0] if given else None
    inputs = [first] if first is not None else []
    inputs += [tensor for other in given[len(inputs) :] for tensor in tensors_in(other)]
    if not inputs:
        inputs = [machine.add(Kind.OPAQUE, "unknown value", site, [])]
        machine.doubt("unknown input of a layer")
    kind = value.layer.kind
    return machine.add(kind, value.layer.type_name, site, inputs, None, value.layer)


def apply_item(machine: Machine, child: object, given: object, site: Site | None) -> object:
    """Apply one child of a Sequential, which may be one of several."""
    from bncheck.source.interpret.calls import call

    if isinstance(child, Branches):
        results = []
        for run in child.options:
            result = given
            for inner in run:
                result = apply_item(machine, inner, result, site)
            results.append(result)
        return machine.join_all(results)
    if isinstance(child, Either):
        found = []
        for option in options(child):
            try:
                found.append(call(machine, option, Arguments([given]), site))
            except PathEndsError:
                continue
        if not found:
            raise PathEndsError
        return machine.join_all(found)
    return call(machine, child, Arguments([given]), site)


__all__ = ["Tensor", "apply", "apply_base", "apply_item"]

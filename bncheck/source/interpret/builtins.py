"""Calls of what is not the project's: built-ins, the standard library, torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final, cast

import libcst as cst

from bncheck.graph import Site, Symbol
from bncheck.source.interpret.containers import fill
from bncheck.source.interpret.facts import note
from bncheck.source.interpret.fields import field
from bncheck.source.interpret.functional import torch_function
from bncheck.source.interpret.iteration import (
    adjacent,
    chained,
    chained_items,
    dictionary_of,
    enumerated,
    every,
    filtered,
    iterator_of,
    length,
    list_of,
    mapped,
    maximum,
    minimum,
    next_item,
    range_of,
    repeated,
    reversed_of,
    set_of,
    some,
    sorted_of,
    total,
    tuple_of,
    zipped,
)
from bncheck.source.interpret.layers import CONTAINERS, layer_kind, make_layer
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.openmmlab import OPENMMLAB_CALLS
from bncheck.source.interpret.reflection import (
    get_attribute,
    has_attribute,
    is_callable,
    is_instance,
    is_subclass,
    named_tuple,
    set_attribute,
    signature_of,
    type_of,
)
from bncheck.source.interpret.sequences import (
    items_of,
)
from bncheck.source.interpret.symbols import whole
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Arguments,
    External,
    Instance,
    List,
    Parameter,
    Partial,
    is_constant,
    truth,
)
from bncheck.source.module import dotted
from bncheck.source.timm_builder import TIMM_BUILDERS, of_the_network

Call = Callable[[Machine, Arguments, "Site | None"], object]

_FALSE: Final = frozenset(
    {
        "torch.jit.is_scripting", "torch.jit.is_tracing", "torch.onnx.is_in_onnx_export",
        "torch._jit_internal.is_scripting", "torch.compiler.is_compiling",
        "torch.fx._symbolic_trace.is_fx_tracing", "torch.jit.is_scripting_",
    }
)  # fmt: skip
_SAME: Final = frozenset(
    {
        "torch.nn.utils.spectral_norm", "torch.nn.utils.weight_norm", "torch.jit.script",
        "torch.nn.utils.parametrizations.spectral_norm", "torch.compile",
        "torch.nn.utils.parametrizations.weight_norm", "copy.copy", "torch.jit.ignore",
        "torch.jit.script_if_tracing", "torch.nn.utils.parametrize.register_parametrization",
    }
)  # fmt: skip
_CREATING: Final = ("torch.nn.Parameter", "torch.nn.init.", "torch.nn.parameter.")


def call_external(machine: Machine, name: str, arguments: Arguments, site: Site | None) -> object:
    """Return what calling something outside the project gives."""
    if name.startswith("torch.nn.") and name.count(".") == 2:
        made = _torch_module(machine, name.rpartition(".")[2], arguments, site)
        if made is not MISSING:
            return made
    found = _CALLS.get(name)
    if found is not None:
        return found(machine, arguments, site)
    if name in _FALSE:
        return False
    if name in _SAME:
        return arguments.positional[0] if arguments.positional else UNKNOWN
    if name.startswith(_CREATING):
        return Parameter()
    if name.startswith("math.") or name in _CONSTANT_FUNCTIONS:
        return _constant(name, arguments)
    if name.startswith("torch.nn.functional.") or (
        name.startswith("torch.") and not name.startswith(_NOT_PLAIN)
    ):
        return torch_function(machine, name, arguments, site)
    if machine.graph is None:
        for value in arguments.values():
            if isinstance(value, Instance) and value.base == "Sequential" and value.site:
                machine.names.handed[value.site] = value
    return machine.opaque(f"call of {name.removeprefix('builtins.')}", site, [*arguments.values()])


def _build_by_timm(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return the network of the project that `build_model_with_cfg` makes."""
    from bncheck.source.interpret.calls import call

    network = arguments.at(0, arguments.keywords.get("model_cls", UNKNOWN))
    keywords = of_the_network(arguments.keywords)
    return call(machine, network, Arguments([], keywords, arguments.open), site)


_NOT_PLAIN: Final = (
    "torch.utils.", "torch.distributed", "torch.autograd", "torch.jit.", "torch.cuda.",
    "torch.onnx.", "torch.fx.", "torch.nn.", "torch.hub.", "torch.ops.",
    "torch.load", "torch.device", "torch.is_", "torch.no_grad", "torch.manual_seed",
)  # fmt: skip


def _torch_module(machine: Machine, short: str, arguments: Arguments, site: Site | None) -> object:
    if short in CONTAINERS:
        machine.layer()
        made = Instance(None, short, site)
        fill(machine, made, arguments)
        if short == "Sequential" and machine.sequentials is not None:
            machine.sequentials.append(made)
        return made
    kind = layer_kind(short)
    if kind is None:
        return MISSING
    made = Instance(None, short, site)
    machine.layer()
    made.layer = make_layer(short, kind, arguments, site)
    if machine.graph is not None:
        note(made.layer, "constructed_in", "forward, perhaps" if _decorated(machine) else "forward")
    return made


_RUN_EACH_TIME: Final = re.compile(
    r".*\bjit\b.*|(?:.*\.)?(?:(?:static|class|abstract)method|property|override|final|no_grad"
    r"|inference_mode|enable_grad|compile|autocast|auto_fp16|force_fp32|custom_fwd)"
)


def _decorated(machine: Machine) -> bool:
    """Tell whether what is being run may keep its result from one call to the next."""
    return any(
        running
        and isinstance(node, cst.FunctionDef)
        and any(not _RUN_EACH_TIME.fullmatch(_text_of(d)) for d in node.decorators)
        for node, running in machine.active.items()
    )


def _text_of(decorator: cst.Decorator) -> str:
    called = decorator.decorator
    return dotted(called.func if isinstance(called, cst.Call) else called) or "unknown"


def _partial(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    if not arguments.positional:
        return UNKNOWN
    rest = Arguments(arguments.positional[1:], dict(arguments.keywords), arguments.open)
    return Partial(arguments.positional[0], rest)


def _deep_copy(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    from bncheck.source.interpret.copying import deep_copy

    return deep_copy(arguments.at(0))


def _replace(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    from bncheck.source.interpret.copying import changed_copy

    return changed_copy(machine, arguments)


def _member_value(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return a value that no other member of an enumeration has."""
    return machine.steps


def _checkpoint(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    from bncheck.source.interpret.calls import call

    if not arguments.positional:
        return UNKNOWN
    own = {"use_reentrant", "preserve_rng_state", "determinism_check", "debug", "context_fn"}
    keywords = {k: v for k, v in arguments.keywords.items() if k not in own}
    rest = Arguments(arguments.positional[1:], keywords)
    return call(machine, arguments.positional[0], rest, site)


def _checkpoint_sequential(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    from bncheck.source.interpret.apply import apply_item

    functions = arguments.at(0)
    items = items_of(machine, functions)
    result = arguments.keywords.get("input", arguments.at(2))
    if items is None:
        return machine.opaque("checkpoint_sequential", site, [*arguments.values()])
    for item in items:
        result = apply_item(machine, item, result, site)
    return result


def _regular_expression(name: str) -> Call:
    """Return `re.<name>` for a constant pattern that cannot take long on a short string."""

    def run(machine: Machine, arguments: Arguments, site: Site | None) -> object:
        given = arguments.positional
        if arguments.keywords or not all(isinstance(v, str) and len(v) < 200 for v in given):
            return UNKNOWN
        texts = cast("list[str]", given)
        if not texts or re.search(r"[*+}][*+{)]|\)[*+{?]", texts[0].replace("*)", ")")):
            return UNKNOWN
        try:
            found = getattr(re, name)(*texts)
        except (re.error, TypeError):
            return UNKNOWN
        return List(found) if isinstance(found, list) else found

    return run


_CONSTANT_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "builtins.int": int,
    "builtins.float": float,
    "builtins.bool": bool,
    "builtins.str": str,
    "builtins.abs": abs,
    "builtins.round": round,
    "builtins.divmod": divmod,
    "builtins.ord": ord,
    "builtins.chr": chr,
    "numpy.prod": math.prod,
    "numpy.log2": math.log2,
    "numpy.sqrt": math.sqrt,
    "numpy.ceil": math.ceil,
    "numpy.floor": math.floor,
}
_MATH: Final = frozenset(
    {"ceil", "floor", "sqrt", "log", "log2", "log10", "prod", "exp", "gcd", "pow", "trunc"}
)


def _constant(name: str, arguments: Arguments) -> object:
    short = name.rpartition(".")[2]
    function = _CONSTANT_FUNCTIONS.get(name) or (getattr(math, short) if short in _MATH else None)
    given = [
        tuple(value.state) if isinstance(value, List) and value.state is not None else value
        for value in arguments.positional
    ]
    if name == "builtins.bool" and given:
        known = truth(given[0])
        return UNKNOWN if known is None else known
    if function is not None and is_constant(tuple(given)) and not arguments.keywords:
        try:
            return function(*given)
        except (TypeError, ValueError, ArithmeticError):
            return UNKNOWN
    if name == "builtins.int" and len(given) == 1 and isinstance(given[0], Symbol):
        return whole(given[0])
    return UNKNOWN


_CALLS: Final[dict[str, Call]] = {
    **OPENMMLAB_CALLS,
    **dict.fromkeys(TIMM_BUILDERS, _build_by_timm),
    "builtins.len": length,
    "builtins.range": range_of,
    "builtins.enumerate": enumerated,
    "builtins.zip": zipped,
    "builtins.list": list_of,
    "builtins.tuple": tuple_of,
    "builtins.dict": dictionary_of,
    "collections.OrderedDict": dictionary_of,
    "builtins.set": set_of,
    "builtins.frozenset": set_of,
    "builtins.reversed": reversed_of,
    "builtins.sorted": sorted_of,
    "builtins.map": mapped,
    "builtins.filter": filtered,
    "builtins.all": every,
    "builtins.any": some,
    "builtins.getattr": get_attribute,
    "builtins.hasattr": has_attribute,
    "builtins.setattr": set_attribute,
    "builtins.isinstance": is_instance,
    "builtins.callable": is_callable,
    "builtins.issubclass": is_subclass,
    "typing.cast": lambda m, a, s: a.at(1),
    "builtins.type": type_of,
    "builtins.min": minimum,
    "builtins.max": maximum,
    "builtins.sum": total,
    "builtins.next": next_item,
    "builtins.iter": iterator_of,
    "builtins.print": lambda m, a, s: None,
    **{f"re.{name}": _regular_expression(name) for name in ("split", "findall", "sub")},
    "functools.partial": _partial,
    "collections.namedtuple": named_tuple,
    "inspect.signature": signature_of,
    "copy.deepcopy": _deep_copy,
    "dataclasses.replace": _replace,
    "dataclasses.field": field,
    "attr.ib": field,
    "attr.attrib": field,
    "attrs.field": field,
    "torch.utils.checkpoint.checkpoint": _checkpoint,
    "torch.utils.checkpoint.checkpoint_sequential": _checkpoint_sequential,
    "itertools.chain": chained,
    "itertools.chain.from_iterable": chained_items,
    "itertools.pairwise": adjacent,
    "enum.auto": _member_value,
    "itertools.repeat": repeated,
    "warnings.warn": lambda m, a, s: None,
    "torch.is_tensor": lambda m, a, s: is_instance(
        m, Arguments([a.at(0), External("torch.Tensor")]), s
    ),
}

"""Calls of what is not the project's: built-ins, the standard library, torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final, cast

import libcst as cst

from bncheck.graph import Site, Symbol
from bncheck.source.interpret.attributes import attribute, find
from bncheck.source.interpret.containers import add_child, fill
from bncheck.source.interpret.facts import note
from bncheck.source.interpret.functional import torch_function
from bncheck.source.interpret.layers import CONTAINERS, layer_kind, make_layer
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.reflection import named_tuple, signature_of
from bncheck.source.interpret.sequences import (
    ROUNDS,
    items_of,
    known_items,
    known_rounds,
    rounds_of,
)
from bncheck.source.interpret.values import (
    MISSING,
    UNKNOWN,
    Arguments,
    Class,
    Dictionary,
    Either,
    External,
    Function,
    Instance,
    List,
    Native,
    Parameter,
    Partial,
    Tensor,
    Unknown,
    is_constant,
    tensors_in,
    truth,
)
from bncheck.source.module import dotted

Call = Callable[[Machine, Arguments, "Site | None"], object]

_MOST_ITEMS: Final = 2_000
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
    return machine.opaque(f"call of {name.removeprefix('builtins.')}", site, [*arguments.values()])


_NOT_PLAIN: Final = (
    "torch.utils.", "torch.distributed", "torch.autograd", "torch.jit.", "torch.cuda.",
    "torch.onnx.", "torch.fx.", "torch.nn.", "torch.hub.", "torch.ops.",
    "torch.load", "torch.device", "torch.is_", "torch.no_grad", "torch.manual_seed",
)  # fmt: skip


def _torch_module(machine: Machine, short: str, arguments: Arguments, site: Site | None) -> object:
    if short in CONTAINERS:
        made = Instance(None, short, site)
        fill(machine, made, arguments)
        return made
    kind = layer_kind(short)
    if kind is None:
        return MISSING
    made = Instance(None, short, site)
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


def _given(arguments: Arguments, position: int, default: object = UNKNOWN) -> object:
    return arguments.positional[position] if len(arguments.positional) > position else default


def _length(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    value = _given(arguments, 0)
    items = known_items(machine, value)
    if items is None and isinstance(value, Symbol):
        return Symbol(f"len({value.expression})")
    return UNKNOWN if items is None else len(items)


def _range(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    ends = arguments.positional
    if ends and all(isinstance(end, int) for end in ends) and len(ends) <= 3:
        try:
            numbers = range(*cast("list[int]", ends))
        except ValueError:
            return UNKNOWN
        return tuple(numbers) if len(numbers) <= _MOST_ITEMS else UNKNOWN
    match ends:
        case [Symbol()] | [int(), Symbol()]:
            machine.guessed = True
            start = ends[0] if isinstance(ends[0], int) else 0
            return tuple(range(start, start + ROUNDS))
    return UNKNOWN


def _enumerate(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    items = known_rounds(machine, _given(arguments, 0))
    start = arguments.keywords.get("start", _given(arguments, 1, 0))
    if items is None or not isinstance(start, int):
        return UNKNOWN
    return List([(number, item) for number, item in enumerate(items, start)])


def _zip(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    given = arguments.positional
    columns = [known_items(machine, value) for value in given if not isinstance(value, Symbol)]
    if columns and len(columns) < len(given) and None not in columns:
        count = min(len(column) for column in columns if column is not None)
        columns = [_as_many(machine, value, count) for value in given]
    elif not columns:
        columns = [known_rounds(machine, value) for value in given]
    if not columns or any(column is None for column in columns):
        return UNKNOWN
    return List(list(zip(*[column or [] for column in columns], strict=False)))


def _as_many(machine: Machine, value: object, count: int) -> list[object] | None:
    """Return the items of a value; a parameter has as many as what is iterated beside it."""
    if isinstance(value, Symbol):
        return [Symbol(f"{value.expression}[{place}]") for place in range(count)]
    return known_items(machine, value)


def _list(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    if not arguments.positional:
        return List([])
    return List(rounds_of(machine, arguments.positional[0]))


def _tuple(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    if not arguments.positional:
        return ()
    items = known_items(machine, arguments.positional[0])
    return UNKNOWN if items is None else tuple(items)


def _dict(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    found: dict[object, object] = {}
    if arguments.open:
        return Dictionary(None)
    if arguments.positional:
        first = arguments.positional[0]
        if isinstance(first, Dictionary) and first.state is not None:
            found.update(first.state)
        else:
            pairs = known_items(machine, first) if not isinstance(first, Dictionary) else None
            if pairs is None:
                return Dictionary(None)
            for pair in pairs:
                if not (isinstance(pair, tuple) and len(pair) == 2 and is_constant(pair[0])):
                    return Dictionary(None)
                found[pair[0]] = pair[1]
    found.update(arguments.keywords)
    return Dictionary(found)


def _set(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    items = known_items(machine, _given(arguments, 0, ()))
    if items is None or not is_constant(tuple(items)):
        return UNKNOWN
    return frozenset(items)


def _reversed(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    items = known_items(machine, _given(arguments, 0))
    return List(None if items is None else items[::-1])


def _sorted(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    items = known_items(machine, _given(arguments, 0))
    if items is None or not is_constant(tuple(items)) or arguments.keywords:
        return List(None)
    try:
        return List(sorted(items))  # type: ignore[type-var]
    except TypeError:
        return List(None)


def _map(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    from bncheck.source.interpret.calls import call

    items = known_items(machine, _given(arguments, 1))
    if items is None or len(arguments.positional) != 2:
        return List(None)
    return List([call(machine, arguments.positional[0], Arguments([i]), site) for i in items])


def _all(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    return _every(machine, arguments, False)


def _any(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    return _every(machine, arguments, True)


def _every(machine: Machine, arguments: Arguments, stop: bool) -> object:
    items = known_items(machine, _given(arguments, 0))
    if items is None:
        return UNKNOWN
    truths = [truth(item) for item in items]
    if stop in truths:
        return stop
    return UNKNOWN if None in truths else not stop


def _getattr(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    value, name = _given(arguments, 0), _given(arguments, 1)
    if not isinstance(name, str):
        return UNKNOWN
    default = _given(arguments, 2, MISSING)
    if default is not MISSING and value is None:
        return default
    if default is not MISSING and _has(machine, value, name) is False:
        return default
    if default is not MISSING and _has(machine, value, name) is None:
        found = attribute(machine, value, name, site)
        return found if found is default else UNKNOWN
    return attribute(machine, value, name, site)


def _hasattr(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    name = _given(arguments, 1)
    known = _has(machine, _given(arguments, 0), name) if isinstance(name, str) else None
    return UNKNOWN if known is None else known


def _has(machine: Machine, value: object, name: str) -> bool | None:
    if isinstance(value, Instance):
        if name in value.state:
            return True
        if value.cls is None:
            return (value.layer is not None and name in value.layer.attributes) or None
        found = find(value.cls, name)
        if found is MISSING:
            return False
        if not isinstance(found, External):
            return True
        plain = value.base in {"Module", "Sequential", "ModuleList", "ModuleDict"}
        known = attribute(machine, value, name, None) is not UNKNOWN
        return True if known else (False if plain else None)
    if isinstance(value, (External, Function, Tensor)):
        return True if isinstance(value, External) else None
    if isinstance(value, Class):
        found = find(value, name)
        return False if found is MISSING else None if isinstance(found, External) else True
    return None


def _setattr(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    value, name = _given(arguments, 0), _given(arguments, 1)
    if isinstance(value, Instance):
        add_child(machine, value, name, _given(arguments, 2))
    return None


def _isinstance(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    value, kinds = _given(arguments, 0), _given(arguments, 1)
    wanted = list(kinds) if isinstance(kinds, tuple) else [kinds]
    if isinstance(value, Either):
        found = {_is_one(option, wanted) for option in value.options}
        known = found.pop() if len(found) == 1 else None
    else:
        known = _is_one(value, wanted)
    return UNKNOWN if known is None else known


_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "builtins.int": (int,),
    "builtins.float": (float,),
    "builtins.str": (str,),
    "builtins.bool": (bool,),
    "builtins.tuple": (tuple,),
    "builtins.list": (List,),
    "builtins.dict": (Dictionary,),
    "collections.OrderedDict": (Dictionary,),
    "builtins.set": (frozenset,),
    "torch.Tensor": (Tensor, Parameter),
    "typing.Sequence": (tuple, List, str),
    "typing.Collection": (tuple, List, str, Dictionary, frozenset),
    "typing.Hashable": (tuple, str, int, float, frozenset, Class, Function, Instance),
    "enum.EnumMeta": (),
    "typing.Iterable": (tuple, List, str, Dictionary, frozenset),
    "typing.Callable": (Function, Class, Partial),
    "typing.Mapping": (Dictionary,),
    "numbers.Number": (int, float),
    "functools.partial": (Partial,),
    "builtins.type": (Class, External),
    "types.FunctionType": (Function,),
}


def _is_one(value: object, wanted: list[object]) -> bool | None:
    if isinstance(value, (Unknown, Symbol)):
        return None
    answers = [_is(value, kind) for kind in wanted]
    if True in answers:
        return True
    return None if None in answers else False


def _is(value: object, kind: object) -> bool | None:
    if isinstance(kind, External):
        name = kind.name.replace("collections.abc.", "typing.")
        if name == "enum.EnumMeta" and isinstance(value, (Class, External)):
            return None
        if name in _TYPES:
            if isinstance(value, External):
                # Of what is outside the project, only torch.nn's names are known to be classes.
                return name == "builtins.type" if value.name.startswith("torch.nn.") else None
            return isinstance(value, _TYPES[name])
        if isinstance(value, Instance):
            short = name.rpartition(".")[2]
            if name == "torch.nn.Module":
                return True if value.is_module else None
            if value.cls is not None:
                known = [a for a in value.cls.order if isinstance(a, External)]
                if kind in known:
                    return True
                return False if all(a.name.startswith("torch.nn.") for a in known) else None
            return value.base == short if name.startswith("torch.nn.") else None
        return False if is_constant(value) else None
    if isinstance(kind, Class):
        if isinstance(value, Instance):
            if value.cls is None:
                return False
            if kind in value.cls.order:
                return True
            unknown = [a for a in value.cls.order if isinstance(a, External)]
            return False if all(a.name.startswith("torch.nn.") for a in unknown) else None
        return False if is_constant(value) or isinstance(value, (List, Tensor)) else None
    return None


def _issubclass(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    value, kinds = _given(arguments, 0), _given(arguments, 1)
    wanted = list(kinds) if isinstance(kinds, tuple) else [kinds]
    if not isinstance(value, Class):
        return UNKNOWN
    known = [kind for kind in wanted if isinstance(kind, (Class, External))]
    if any(kind in value.order for kind in known):
        return True
    return False if len(known) == len(wanted) else UNKNOWN


def _callable(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    value = _given(arguments, 0)
    if isinstance(value, (Unknown, Symbol, Either)):
        return UNKNOWN
    return isinstance(value, (Function, Class, Partial, External, Native)) or (
        isinstance(value, Instance) and value.is_module
    )


def _type(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    value = _given(arguments, 0)
    if isinstance(value, Instance):
        if value.cls is not None:
            return value.cls
        return External(f"torch.nn.{value.base}")
    if isinstance(value, Partial):
        return External("functools.partial")
    torch_class = isinstance(value, External) and value.name.startswith("torch.nn.")
    return External("builtins.type") if torch_class else UNKNOWN


def _partial(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    if not arguments.positional:
        return UNKNOWN
    rest = Arguments(arguments.positional[1:], dict(arguments.keywords), arguments.open)
    return Partial(arguments.positional[0], rest)


def _deep_copy(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    from bncheck.source.interpret.copying import deep_copy

    return deep_copy(_given(arguments, 0))


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

    functions = _given(arguments, 0)
    items = items_of(machine, functions)
    result = arguments.keywords.get("input", _given(arguments, 2))
    if items is None:
        return machine.opaque("checkpoint_sequential", site, [*arguments.values()])
    for item in items:
        result = apply_item(machine, item, result, site)
    return result


def _chain(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    found: list[object] = []
    for value in arguments.positional:
        items = items_of(machine, value)
        if items is None:
            return List(None)
        found += items
    return List(found)


def _minimum(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    return _extreme(machine, arguments, site, min)


def _maximum(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    return _extreme(machine, arguments, site, max)


def _extreme(machine: Machine, arguments: Arguments, site: Site | None, best: Any) -> object:
    if any(True for value in arguments.values() for _ in tensors_in(value)):
        return machine.opaque("min or max of tensors", site, [*arguments.values()])
    given: list[Any] | None = arguments.positional
    if len(arguments.positional) == 1:
        given = known_items(machine, arguments.positional[0])
    if given and all(isinstance(value, (int, float)) for value in given):
        return best(given)
    if (
        given
        and any(isinstance(value, Symbol) for value in given)
        and is_constant(tuple(value for value in given if not isinstance(value, Symbol)))
    ):
        texts = (v.expression if isinstance(v, Symbol) else repr(v) for v in given)
        return Symbol(f"{best.__name__}({', '.join(texts)})")
    return UNKNOWN


def _sum(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    from bncheck.source.interpret.operations import binary_operation

    items = known_items(machine, _given(arguments, 0))
    if items is None:
        return machine.opaque("sum", site, [*arguments.values()])
    if not items:
        return _given(arguments, 1, 0)
    result = items[0]
    for item in items[1:]:
        result = binary_operation(machine, "+", result, item, site)
    return result


def _next(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    value = _given(arguments, 0)
    if isinstance(value, List) and value.state:
        machine.change(value)
        items = known_items(machine, value)
        return UNKNOWN if items is None else value.state.pop(0)
    return UNKNOWN


def _first(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    value = _given(arguments, 0)
    if isinstance(value, (tuple, List)):
        return List(items_of(machine, value))
    return value


def _repeat(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    value, times = _given(arguments, 0), _given(arguments, 1)
    if isinstance(times, int) and 0 <= times <= _MOST_ITEMS:
        return List([value] * times)
    return UNKNOWN


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
        inner = given[0].expression
        return given[0] if "/" not in inner else Symbol(f"int({inner})")
    return UNKNOWN


_CALLS: Final[dict[str, Call]] = {
    "builtins.len": _length,
    "builtins.range": _range,
    "builtins.enumerate": _enumerate,
    "builtins.zip": _zip,
    "builtins.list": _list,
    "builtins.tuple": _tuple,
    "builtins.dict": _dict,
    "collections.OrderedDict": _dict,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.reversed": _reversed,
    "builtins.sorted": _sorted,
    "builtins.map": _map,
    "builtins.all": _all,
    "builtins.any": _any,
    "builtins.getattr": _getattr,
    "builtins.hasattr": _hasattr,
    "builtins.setattr": _setattr,
    "builtins.isinstance": _isinstance,
    "builtins.callable": _callable,
    "builtins.issubclass": _issubclass,
    "typing.cast": lambda m, a, s: _given(a, 1),
    "builtins.type": _type,
    "builtins.min": _minimum,
    "builtins.max": _maximum,
    "builtins.sum": _sum,
    "builtins.next": _next,
    "builtins.iter": _first,
    "builtins.print": lambda m, a, s: None,
    **{f"re.{name}": _regular_expression(name) for name in ("split", "findall", "sub")},
    "functools.partial": _partial,
    "collections.namedtuple": named_tuple,
    "inspect.signature": signature_of,
    "copy.deepcopy": _deep_copy,
    "torch.utils.checkpoint.checkpoint": _checkpoint,
    "torch.utils.checkpoint.checkpoint_sequential": _checkpoint_sequential,
    "itertools.chain": _chain,
    "itertools.repeat": _repeat,
    "warnings.warn": lambda m, a, s: None,
    "torch.is_tensor": lambda m, a, s: _isinstance(
        m, Arguments([_given(a, 0), External("torch.Tensor")]), s
    ),
}

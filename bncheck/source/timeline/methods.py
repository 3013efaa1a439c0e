"""Which methods of a network are followed by themselves: those that a rule could speak of.

A network's own mode is unknown in its methods, and no training step is known to come before or
after one. So most that name `train` or `no_grad`, as a new head or a fold of its layers does,
cannot break a rule, and to follow them costs more than all else in a library of networks.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from bncheck.graph import UNKNOWN
from bncheck.source.module import dotted
from bncheck.source.project import Defined, Project
from bncheck.source.timeline import classes, ingredients
from bncheck.source.timeline.known import OPTIMIZER_WORDS
from bncheck.source.timeline.syntax import assigned, mentions
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk_kinds

SWITCHES = frozenset(
    """
    eval train requires_grad requires_grad_ no_grad inference_mode checkpoint checkpoint_sequential
    """.split()  # noqa: SIM905
)
"""What a method must name for it to be followed by itself."""
_WITHOUT_GRADIENT = frozenset({"no_grad", "inference_mode", "set_grad_enabled"})
_FIXES = _WITHOUT_GRADIENT | {"requires_grad", "requires_grad_"}
_FOLLOWS_ANOTHER = frozenset({"zip", "lerp_", "copy_", "deepcopy", "ema"})
"""What names an average of another network, which may well be in train mode."""
_CHECKPOINTS = frozenset({"checkpoint", "checkpoint_sequential", "checkpoint_wrapper"})
_DOES = frozenset(
    """
    eval backward step load_state_dict DataLoader DataParallel DistributedDataParallel
    convert_sync_batchnorm update_bn trace trace_module script export prepare prepare_fx
    AveragedModel momentum from_pretrained create_model hub
    """.split()  # noqa: SIM905
)
"""What matters wherever it stands."""
_STATE = frozenset({"parameters", "named_parameters", "buffers", "state_dict"})
"""What is averaged when two of them are gone through at once."""
_NOT_CALLED = re.compile(
    r"\.(?:eval|train)[ \t]*(?:[;#]|$)|\.training\b[^=\n]*=(?!=)", re.MULTILINE
)
"""A mode that is named but not called, or assigned."""
_MODES = frozenset({"eval", "train", "training"})
_MAX_HOPS = 3

_HARMLESS = frozenset(
    """
    append extend insert items keys values get pop update setdefault split join format replace
    startswith endswith lower upper strip copy to type float half view reshape permute transpose
    expand repeat flatten unsqueeze squeeze sum mean min max abs sqrt pow exp log clamp clone
    detach contiguous index_select gather numel dim size new_zeros new_ones new_tensor
    register_buffer register_parameter apply named_parameters parameters modules
    named_modules children named_children cat stack rfind find index count
    """.split()  # noqa: SIM905
)
"""Methods of tensors, texts and containers, and those of modules that run no forward pass."""
_BUILTINS = frozenset(dir(builtins))


def method_matters(project: Project, cls: Class, node: cst.FunctionDef, pedantic: bool) -> bool:
    """Tell whether a rule could speak of a network's method when nothing is known of its caller."""
    if node.name.value == "training_step":
        names_all = mentions(cls.node)
        if names_all & _FIXES and "eval" not in names_all:
            return True
    if not mentions(node) & SWITCHES and not _hands_on(cls, node):
        return False
    names: set[str] = set()
    followed = list(_followed(project, cls, node))
    for code, _ in followed:
        names |= mentions(code)
    if names & _DOES or any(OPTIMIZER_WORDS.search(name) for name in names):
        return True
    if "zip" in names and names & _STATE:
        return True
    if names & _CHECKPOINTS and _may_hold(project, cls, pedantic):
        return True
    if names & _WITHOUT_GRADIENT and any(_runs_something(code, where) for code, where in followed):
        return True
    init = classes.members(cls.node).get("__init__")
    if init is not None and mentions(init) & _MODES:
        return True
    return any(_leaves_a_mode_uncalled(where.module.text) for _, where in followed)


def leaves_modes_alone(project: Project, cls: Class) -> bool:
    """Tell whether a class, and what it derives from, calls no `eval()` and keeps no average."""
    family = [mentions(other.node) for other in classes.ancestry(project, cls).project]
    return not any("eval" in names or names & _FOLLOWS_ANOTHER for names in family)


def _hands_on(cls: Class, node: cst.FunctionDef) -> bool:
    """Tell whether a forward pass hands layers to a method that checkpoints what it is given."""
    if node.name.value != "forward" or not mentions(cls.node) & _CHECKPOINTS:
        return False
    own = classes.members(cls.node)
    called = [own[name] for name in mentions(node) & own.keys()]
    return any(
        isinstance(code, cst.FunctionDef) and mentions(code) & _CHECKPOINTS for code in called
    )


@lru_cache(maxsize=64)
def _leaves_a_mode_uncalled(text: str) -> bool:
    return _NOT_CALLED.search(text) is not None


def _may_hold(project: Project, cls: Class, pedantic: bool) -> bool:
    most = ingredients.may_hold(project, cls)
    if most is False or (most is UNKNOWN and not pedantic):
        return False
    holds = ingredients.holds(project, cls)[0]
    return holds is True or (pedantic and holds is not False)


def _followed(
    project: Project, cls: Class, node: cst.FunctionDef
) -> Iterator[tuple[cst.FunctionDef, Class]]:
    """Yield a method and the methods and functions that it names, in a few steps.

    What it constructs is left out.
    """
    family = classes.ancestry(project, cls).project
    seen: set[cst.CSTNode] = {node}
    waiting = [(node, cls, 0)]
    while waiting:
        code, where, hops = waiting.pop()
        yield code, where
        if hops == _MAX_HOPS:
            continue
        for name in mentions(code):
            found = [(classes.members(c.node).get(name), c) for c in family]
            if name in where.module.bindings:
                found += [
                    (meaning.binding, Class(cls.node, meaning.module))
                    for meaning in project.resolve(name, where.module)
                    if isinstance(meaning, Defined) and isinstance(meaning.binding, cst.FunctionDef)
                ]
            for other, origin in found:
                if other.__class__ is not cst.FunctionDef or name == "__init__":
                    continue
                if other not in seen:
                    seen.add(other)
                    waiting.append((other, origin, hops + 1))


def _runs_something(code: cst.FunctionDef, where: Class) -> bool:
    """Tell whether a function calls with an argument what may be a network."""
    own = assigned(code) | {p.name.value for p in walk_kinds(code, (cst.Param,))}
    return any(
        part.args and _may_be_a_network(part.func, own, where)
        for part in walk_kinds(code, (cst.Call,))
    )


def _may_be_a_network(
    func: cst.BaseExpression, own: frozenset[str] | set[str], where: Class
) -> bool:
    bound = where.module.bindings
    match func:
        case cst.Name(value=name):
            return name in own or (name not in bound and name not in _BUILTINS)
        case cst.Attribute(value=owner, attr=cst.Name(value=name)):
            root = (dotted(owner) or "").partition(".")[0]
            if name.endswith("_") or name in _HARMLESS or (root in bound and root not in own):
                return False
            return not (isinstance(owner, cst.Call) and dotted(owner.func) == "super")
    return True

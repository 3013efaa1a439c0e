"""What a function or class that keeps a network it is given is handed by what calls it.

It is asked where nothing that is followed calls it: a notebook does, a framework, a user. Where no
file names a caller, the other functions and classes of its own file show what it works on, or the
networks of the project do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import libcst as cst

from bncheck.events import Fact, Origin
from bncheck.graph import UNKNOWN
from bncheck.source.module import Assigned, SourceModule, dotted
from bncheck.source.project import Defined, Project
from bncheck.source.timeline import classes, ingredients, known, parts
from bncheck.source.timeline.constructors import assigned_in_init, put_into
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import mentions
from bncheck.source.timeline.values import Class
from bncheck.source.walk import walk_kinds

_MOST_CALLERS = 8
"""Files that are looked into for calls of one name."""
_NO_NETWORK = re.compile(r"loss|criterion|head|metric|layer|block|dataset|config", re.IGNORECASE)
"""Names of classes that no one takes for the network itself."""
_WITHOUT_WEIGHTS = re.compile(r"loss|crit|act|transform|aug|metric|pool", re.IGNORECASE)

_Code = cst.FunctionDef | cst.Module


@dataclass(frozen=True)
class HandedOver:
    """Asks whether a parameter's network holds BatchNorm, only where a finding hangs on it."""

    project: Project
    module: SourceModule
    parameter: cst.Name

    def __call__(self) -> Fact:
        """Return what callers hand over, or what the file or the project shows."""
        for definition, function in _functions(self.module):
            names = [one.name for one in _parameters(function)]
            if any(name is self.parameter for name in names):
                return given(self.project, self.module, definition, function, self.parameter.value)
        return UNKNOWN


def note_questions(run: Run) -> None:
    """Let the models that an entry point is given be asked what they hold."""
    for model in run.models:
        name = model.site.mark
        if model.origin is Origin.PARAMETER and model.parent is None and isinstance(name, cst.Name):
            model.confirm = HandedOver(run.project, run.project.module(model.site.path), name)


def given(
    project: Project,
    module: SourceModule,
    definition: cst.ClassDef | cst.FunctionDef,
    function: cst.FunctionDef,
    parameter: str,
) -> Fact:
    """Tell whether what a function is given holds BatchNorm; of a class, its constructor is meant.

    UNKNOWN as well where some callers hand over one that does and others one that does not.
    """
    if definition is function or function.name.value == "__init__":
        facts = set(_of_callers(project, definition, function, parameter))
        if facts:
            return facts.pop() if len(facts) == 1 else UNKNOWN
    shown = _shown_by_the_file(project, module, definition)
    if shown is UNKNOWN:
        shown = _shown_by_the_project(project)
    return True if shown is True else UNKNOWN


def part_given(project: Project, cls: Class, part: str) -> Fact:
    """Tell the same of a part that a network's constructor is given: `self.encoder = encoder`.

    Of a teacher, and of what other code puts in eval mode, that is UNKNOWN.
    """
    said = project.said
    if known.JUDGES.search(part) or said.put_in_eval(part) or said.keep_parts_in_eval:
        return UNKNOWN
    init = classes.members(cls.node).get("__init__")
    value = assigned_in_init(cls.node).get(part)
    if not isinstance(init, cst.FunctionDef) or not isinstance(value, cst.Name):
        return UNKNOWN
    if value.value not in {one.name.value for one in _parameters(init)[1:]}:
        return UNKNOWN
    facts = set(_of_callers(project, cls.node, init, value.value))
    return facts.pop() if len(facts) == 1 else UNKNOWN


def applied_parts(node: cst.ClassDef) -> frozenset[str]:
    """Return the parts that a network's constructor is given and that its forward pass calls."""
    init, forward = (classes.members(node).get(name) for name in ("__init__", "forward"))
    if not isinstance(init, cst.FunctionDef) or not isinstance(forward, cst.FunctionDef):
        return frozenset()
    names = {one.name.value for one in _parameters(init)[1:]}
    called = {dotted(call.func) for call in walk_kinds(forward.body, (cst.Call,))}
    return frozenset(
        part
        for part, value in assigned_in_init(node).items()
        if isinstance(value, cst.Name)
        and value.value in names
        and f"self.{part}" in called
        and not _WITHOUT_WEIGHTS.search(part)
    )


def is_part_of_one_that_trains(project: Project, cls: Class) -> bool:
    """Tell whether another network makes one of a class for a part, and has others that train.

    Nothing in it, or in the project, may keep the part in eval mode.
    """
    name, said = cls.node.name.value, project.said
    if known.JUDGES.search(name) or not said.train_networks or said.keep_parts_in_eval:
        return False
    return any(
        isinstance(node, cst.ClassDef)
        and node is not cls.node
        and _trains_beside(project, Class(node, module), cls)
        for module in islice(project.calling(name), _MOST_CALLERS)
        for bindings in module.bindings.values()
        for node in bindings
    )


def _trains_beside(project: Project, outer: Class, cls: Class) -> bool:
    """Tell whether a network makes a part of a class, and others that its forward pass calls."""
    made = assigned_in_init(outer.node)
    kept = {
        part
        for part, value in made.items()
        if isinstance(value, cst.Call) and _is_called(project, outer.module, value, cls.node)
    }
    return (
        bool(kept)
        and not any(map(known.JUDGES.search, kept))
        and not any(map(project.said.put_in_eval, kept))
        and mentions(outer.node).isdisjoint(("eval", "deepcopy", "no_grad"))
        and bool(parts.trainable(outer.node) - kept)
        and classes.is_network(project, outer) is True
        and classes.own_train(project, outer) is False
        and not classes.framework(project, outer)
    )


def _is_called(
    project: Project,
    module: SourceModule,
    call: cst.Call,
    definition: cst.ClassDef | cst.FunctionDef,
) -> bool:
    """Tell whether a call of a file is one of a function or class."""
    name = dotted(call.func) or ""
    return name.rpartition(".")[2] == definition.name.value and any(
        isinstance(meaning, Defined) and meaning.binding is definition
        for meaning in project.resolve(name, module)
    )


def _parameters(function: cst.FunctionDef) -> list[cst.Param]:
    return [*function.params.params, *function.params.kwonly_params]


def _functions(
    module: SourceModule,
) -> Iterator[tuple[cst.ClassDef | cst.FunctionDef, cst.FunctionDef]]:
    """Yield the functions and methods at the top of a file, and what each is defined by."""
    for bindings in module.bindings.values():
        for binding in bindings:
            match binding:
                case cst.FunctionDef():
                    yield binding, binding
                case cst.ClassDef():
                    for member in classes.members(binding).values():
                        if isinstance(member, cst.FunctionDef):
                            yield binding, member


def _of_callers(
    project: Project,
    definition: cst.ClassDef | cst.FunctionDef,
    function: cst.FunctionDef,
    parameter: str,
) -> Iterator[Fact]:
    """Yield what each call of a function or class in the project hands over for a parameter."""
    skipped = 0 if definition is function else 1
    position = [one.name.value for one in function.params.params[skipped:]]
    for caller in islice(project.calling(definition.name.value), _MOST_CALLERS):
        for code, call in _calls(caller):
            if not _is_called(project, caller, call, definition):
                continue
            value = _argument(call, parameter, position)
            if value is not None:
                yield _holds(project, caller, code, value)


def _calls(module: SourceModule) -> Iterator[tuple[_Code, cst.Call]]:
    """Yield the calls of a file, and the function that each stands in, or the file itself."""
    inner: set[cst.CSTNode] = set()
    for _, function in _functions(module):
        for call in walk_kinds(function.body, (cst.Call,)):
            inner.add(call)
            yield function, call
    for call in walk_kinds(module.tree, (cst.Call,)):
        if call not in inner:
            yield module.tree, call


def _argument(call: cst.Call, parameter: str, position: list[str]) -> cst.BaseExpression | None:
    """Return what a call gives for a parameter; None: nothing that can be told."""
    for place, argument in enumerate(call.args):
        if argument.star:
            return None
        if argument.keyword is not None:
            if argument.keyword.value == parameter:
                return argument.value
        elif place < len(position) and position[place] == parameter:
            return argument.value
    return None


def _holds(project: Project, module: SourceModule, code: _Code, value: cst.BaseExpression) -> Fact:
    """Tell whether what an expression makes holds BatchNorm, by what it names."""
    if isinstance(value, cst.Name):
        if isinstance(code, cst.FunctionDef):
            values = [made for made in put_into(code, value.value) if made is not value]
        else:
            bindings = module.bindings.get(value.value, ())
            values = [b.value for b in bindings if isinstance(b, Assigned)]
        calls = [made for made in values if isinstance(made, cst.Call)]
        return _together(_of_a_call(project, module, made) for made in calls)
    return _of_a_call(project, module, value) if isinstance(value, cst.Call) else UNKNOWN


def _of_a_call(project: Project, module: SourceModule, call: cst.Call) -> Fact:
    facts: set[Fact] = set()
    for part in ingredients.ingredients_of(project, call, module):
        if isinstance(part.definition, cst.ClassDef | cst.FunctionDef) and part.module is not None:
            facts.add(ingredients.made_by(project, part.definition, part.module))
        else:
            facts.add(part.fact)
    return True if True in facts else UNKNOWN if UNKNOWN in facts or not facts else False


def _together(facts: Iterator[Fact]) -> Fact:
    """Return what is known of a name that is bound several times, as by `model = model.to(gpu)`."""
    known = {fact for fact in facts if fact is not UNKNOWN}
    return known.pop() if len(known) == 1 else UNKNOWN


def _shown_by_the_file(
    project: Project, module: SourceModule, definition: cst.ClassDef | cst.FunctionDef
) -> Fact:
    """Tell whether the networks that a file makes or defines hold BatchNorm, all of them.

    UNKNOWN: it makes none; False: not all of them do.
    """
    facts: set[Fact] = set()
    for bindings in module.bindings.values():
        for binding in bindings:
            if binding is definition or not isinstance(binding, cst.ClassDef | cst.FunctionDef):
                continue
            if _NO_NETWORK.search(binding.name.value):
                continue
            fact = ingredients.made_by(project, binding, module)
            if fact is True or (
                isinstance(binding, cst.ClassDef)
                and classes.is_network(project, Class(binding, module)) is True
            ):
                facts.add(fact)
    return facts == {True} if facts else UNKNOWN


@lru_cache(maxsize=4)
def _shown_by_the_project(project: Project) -> Fact:
    """Tell whether all networks that a project defines, and makes no part of another, hold it."""
    modules = project.deriving("Module")
    found = [
        Class(node, module)
        for module in modules
        for bindings in module.bindings.values()
        for node in bindings
        if isinstance(node, cst.ClassDef)
    ]
    parts_named = {
        name for cls in found for name in mentions(cls.node) if name != cls.node.name.value
    }
    wholes = [
        cls
        for cls in found
        if cls.node.name.value not in parts_named
        and not _NO_NETWORK.search(cls.node.name.value)
        and classes.is_network(project, cls) is True
    ]
    facts = {ingredients.holds(project, cls)[0] for cls in wholes}
    return True if facts == {True} else UNKNOWN

"""Follows one entry point: on what its file's body leaves, or on an object of its class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import libcst as cst

from bncheck.config import Settings
from bncheck.events import AverageUpdate, Model, Origin
from bncheck.graph import UNKNOWN
from bncheck.source.module import SourceModule
from bncheck.source.project import Defined, Project
from bncheck.source.timeline import (
    classes,
    construction,
    functions,
    handed_over,
    hooks,
    ingredients,
    lightning,
)
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.closer import CloserLook
from bncheck.source.timeline.distrust import changed_elsewhere
from bncheck.source.timeline.methods import leaves_modes_alone
from bncheck.source.timeline.one_value import note_one_value_norms
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.setup import set_up_by
from bncheck.source.timeline.statements import run_body
from bncheck.source.timeline.values import (
    Class,
    Constant,
    Data,
    Frame,
    Function,
    Instance,
    Models,
    Opaque,
    Value,
)
from bncheck.timeline import Entry, Timeline, occurrences


@dataclass(frozen=True)
class Before:
    """What a file's body, but for its main part, leaves for its functions."""

    run: Run

    @classmethod
    def of(cls, module: SourceModule, project: Project, settings: Settings) -> Before:
        """Run a file's body."""
        run = start(module, project, settings, set())
        run_body(run, module.tree.body)
        return cls(run)

    def start(self, followed: set[cst.CSTNode], distrusted: frozenset[str]) -> Run:
        """Return a run that goes on from there; other code may change what has some names."""
        before = self.run
        # A switch at the top of a file is there to be edited.
        names = {
            name: Constant(value.value, fixed=False)
            if isinstance(value, Constant) and isinstance(value.value, bool)
            else value
            for name, value in before.frame.names.items()
        }
        frame = Frame(before.frame.module, "", names)
        run = Run(
            before.project,
            before.settings,
            frame,
            list(before.steps),
            list(before.before),
            before.heap.on_top(),
            list(before.models),
            list(before.loaders),
            dict(before.parts),
            dict(before.classes),
            globals={**before.globals, frame.module: frame},
            followed=followed,
        )
        for name in distrusted & frame.names.keys():
            run.escape(frame.module.tree, [frame.names[name]], "")
        for module, kept in before.globals.items():
            if module is not frame.module:
                run.escape(module.tree, kept.names.values(), "")
        return run


def start(
    module: SourceModule, project: Project, settings: Settings, followed: set[cst.CSTNode]
) -> Run:
    """Return a run that is to begin with a file's body."""
    frame = Frame(module, "")
    run = Run(project, settings, frame, followed=followed)
    run.globals[module] = frame
    return run


def from_function(
    before: Before,
    followed: set[cst.CSTNode],
    node: cst.FunctionDef,
    owner: cst.ClassDef | None,
    made_as: Class | None = None,
) -> Timeline:
    """Follow a function or method that nothing in its file was seen to call.

    A method is one of an object of `made_as`, a class that derives from its owner, where given.
    """
    module = before.run.frame.module
    makers = set_up_by(before.run.project, module, node, owner)
    family = classes.ancestry(before.run.project, Class(owner, module)) if owner else None
    bases = family.project[1:] if family is not None else ()
    distrusted = changed_elsewhere(module, [node, *makers], owner, bases)
    run = before.start(followed, distrusted)
    driver, alone = "", False
    only_evaluated: frozenset[str] = frozenset()
    function = Function(node, module, node.name.value)
    if owner is None:
        for maker in makers:
            _enter(run, Function(maker, module, maker.name.value))
        if makers:
            made = [value for name, value in run.frame.names.items() if name in distrusted]
            run.escape(module.tree, made, "")
    else:
        own_class = made_as or Class(owner, module)
        driver = classes.framework(run.project, own_class)
        alone = driver == "lightning" and leaves_modes_alone(run.project, own_class)
        receiver = _receiver(run, own_class, owner)
        for maker in makers:
            method = Function(maker, module, maker.name.value, owner=own_class)
            _enter(run, classes.bound(method, receiver))
        if driver == "lightning" and node.name.value == "training_step":
            for hook in lightning.hooks_before_training(run, own_class):
                _enter(run, classes.bound(hook, receiver))
        _leave_to_others(run, own_class, receiver, distrusted)
        name = f"{owner.name.value}.{node.name.value}"
        method_of = Class(owner, module)
        function = classes.bound(Function(node, module, name, owner=method_of), receiver)
    if node.name.value != "__init__" and node not in followed:  # Else the receiver is made by it.
        _enter(run, function)
    followed.add(node)
    note_one_value_norms(run)
    handed_over.note_questions(run)
    if owner is not None and driver == "lightning" and _averages(run):
        only_evaluated = hooks.only_evaluated(run.project, Class(owner, module))
    return Timeline(
        function.name,
        module.path,
        Entry.FUNCTION if owner is None else Entry.METHOD,
        (*run.before, *run.steps),
        tuple(run.models),
        tuple(run.loaders),
        driven_by=driver,
        leaves_modes_alone=alone,
        only_evaluated=only_evaluated,
        managed=frozenset(run.settings.mode_managed_by),
        said=run.project.said,
        minimum_batch_size=run.settings.minimum_batch_size,
        fits=tuple(run.fits),
    )


def _averages(run: Run) -> bool:
    return any(isinstance(o.event, AverageUpdate) for o in occurrences(tuple(run.steps)))


def _enter(run: Run, function: Function) -> None:
    """Follow a function with nothing known of what it is given."""
    code = function.node
    assert isinstance(code, cst.FunctionDef)
    parameters = [*code.params.params, *code.params.kwonly_params]
    skip = 1 if function.receiver is not None else 0
    given = _all_given(run, function.module, parameters[skip:])
    functions.enter(run, cst.Call(func=code.name), function, Arguments(keywords=given))


_NORM_SWITCH = re.compile(r"(?:^|_)(?:bn|batch_?norm)(?:_|$)", re.IGNORECASE)


def _all_given(run: Run, module: SourceModule, parameters: Sequence[cst.Param]) -> dict[str, Value]:
    """Return what an entry point gets; what is a class by default is left to that."""
    return {
        parameter.name.value: _given(run, parameter)
        for parameter in parameters
        if not _is_a_class(run, module, parameter.default)
    }


def _is_a_class(run: Run, module: SourceModule, default: cst.BaseExpression | None) -> bool:
    match default:
        case cst.Name(value=name) if name[:1].isupper() and name not in ("None", "True", "False"):
            return isinstance(run.module_level(name, module), Class)
    return False


def _given(run: Run, parameter: cst.Param) -> Value:
    """Return what an entry point gets for a parameter: a default that is a name is usual.

    A switch for BatchNorm that is off by default is left off: there is none unless somebody asks.
    """
    name = parameter.name.value
    if parameter.default is not None:
        default = functions.default_of(parameter.default)
        if isinstance(default, Constant) and isinstance(default.value, str):
            return Constant(default.value, fixed=False)
        if default == Constant(False) and _NORM_SWITCH.search(name):
            return default
    return Opaque(name, run.site(parameter.name), parameter=True)


def _receiver(run: Run, cls: Class, owner: cst.ClassDef) -> Value:
    """Return an object of the class: after `__init__`, and whatever else its users do to it."""
    if classes.is_network(run.project, cls) is not False:
        holds, kinds = ingredients.holds_when(run.project, cls, construction.defaults(cls))
        model = Model(
            "self",
            Origin.SELF,
            f"{cls.module.name}.{owner.name.value}",
            run.site(owner.name),
            holds,
            kinds,
            starts_in_eval=UNKNOWN,
            overrides_train=classes.own_train(run.project, cls),
            driven_by=classes.framework(run.project, cls),
        )
        if holds is True:
            definition = Defined(cls.module, owner.name.value, cls.node)
            usual = construction.usually_given(run, cls)
            model.confirm = CloserLook(definition, run.project, usual)
        run.classes[model] = cls
        run.models.append(model)
        made: Value = Models((model,))
    else:
        made = Instance(cls)
    init = classes.find(run, cls, "__init__")
    if isinstance(init, Function) and isinstance(init.node, cst.FunctionDef):
        parameters = [*init.node.params.params[1:], *init.node.params.kwonly_params]
        given = _all_given(run, init.module, parameters)
        arguments = Arguments(keywords=given)
        functions.follow(run, cst.Call(func=owner.name), classes.bound(init, made), arguments)
    if isinstance(made, Models):
        run.escape(owner.name, [made], "")
    return made


def _leave_to_others(run: Run, cls: Class, made: Value, distrusted: frozenset[str]) -> None:
    """Note that other code may have changed what an object of a class keeps."""
    unknown = classes.ancestry(run.project, cls).unknown
    for name, value in run.heap.of(made.models[0] if isinstance(made, Models) else made).items():
        if not isinstance(value, Data) and (unknown or name in distrusted):
            run.escape(cls.node.name, [value], "")

"""Chooses what to follow from: a file's body, and what nothing in the file calls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import libcst as cst

from bncheck.config import Settings
from bncheck.events import Model, Origin
from bncheck.graph import UNKNOWN
from bncheck.source.module import Imported, SourceModule, statements
from bncheck.source.project import Project
from bncheck.source.timeline import (
    classes,
    construction,
    facts,
    functions,
    ingredients,
    known,
    stops,
)
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.distrust import changed_elsewhere, leave_averages
from bncheck.source.timeline.factories import is_one_of_many
from bncheck.source.timeline.keepers import infers, kept_models
from bncheck.source.timeline.lost_freezes import lost_freezes
from bncheck.source.timeline.methods import SWITCHES, leaves_modes_alone, method_matters
from bncheck.source.timeline.one_value import note_one_value_norms
from bncheck.source.timeline.relevance import relevant
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.statements import run_body
from bncheck.source.timeline.syntax import mentions, places
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
from bncheck.timeline import Entry, Timeline

_RELEVANT = tuple(
    """
    parameters eval train no_grad inference_mode set_grad_enabled backward load_state_dict
    DataLoader requires_grad requires_grad_ convert_sync_batchnorm DataParallel
    DistributedDataParallel trace export checkpoint AveragedModel momentum __main__
    """.split()  # noqa: SIM905
)
_RELEVANT_CALLS = ("jit.script(", ".prepare", "DataLoader(")
"""A file without any of these does nothing to a model, and starts nothing that does."""


def timelines(module: SourceModule, project: Project, settings: Settings) -> list[Timeline]:
    """Return a timeline for each entry point of the module."""
    text = module.text
    if not (
        any(next(places(word, text), -1) >= 0 for word in _RELEVANT)
        or any(call in text for call in _RELEVANT_CALLS)
    ):
        return []
    followed: set[cst.CSTNode] = set()
    shows, in_test = _shows_batch_norm(module), _is_test(module)
    body = _start(module, project, settings, followed)
    body.runs_main = True
    run_body(body, module.tree.body)
    note_one_value_norms(body)
    leave_averages(body, (n for _, n, _ in _candidates(project, module) if n not in followed))
    freeze_tests = tuple(facts.freeze_tests(module))
    # Else no check asks for a file's classes but for its freezing tests.
    looks_at_classes = freeze_tests or next(places("def train", module.text), -1) >= 0
    found = [
        Timeline(
            module.name,
            module.path,
            Entry.MODULE,
            (*body.before, *body.steps),
            tuple(body.models),
            tuple(body.loaders),
            shows,
            in_test,
            managed=frozenset(settings.mode_managed_by),
            said=project.said,
            minimum_batch_size=settings.minimum_batch_size,
            classes=tuple(facts.module_classes(module, project)) if looks_at_classes else (),
            freeze_tests=freeze_tests,
            gradient_stops=tuple(stops.gradient_stops(module, project)),
            lost_freezes=tuple(lost_freezes(module, project)),
        )
    ]
    kept = kept_models(body)
    candidates = [
        (name, node, owner)
        for name, node, owner in _candidates(project, module)
        if node not in followed
        and (
            _may_start(project, module, node, owner, settings)
            or infers(project, module, node, owner, kept)
        )
    ]
    if not candidates:
        return found
    before = _Before.of(module, project, settings)
    driver = _driver(module)
    inner = _named_in_functions(project, module)
    for stage in range(4):
        # What nothing else in the file names comes first: it calls the others. A constructor
        # comes last: where another method of its class was followed, so was it.
        for name, node, owner in candidates:
            if node in followed or (name == "__init__") is not (stage == _LAST):
                continue
            if stage == 0 and is_named_again(name, module.text):
                continue
            if stage == 1 and name in inner:
                continue
            if stage and owner is None and is_one_of_many(project, module, node):
                continue
            timeline = _from_function(before, followed, node, owner)
            timeline.shows_batch_norm, timeline.is_test = shows, in_test
            timeline.driven_by = timeline.driven_by or (driver if owner is None else "")
            found.append(timeline)
    return found


_LAST = 3


def _named_in_functions(project: Project, module: SourceModule) -> frozenset[str]:
    """Return the names in the bodies of functions, but for a function's own in itself."""
    found: set[str] = set()
    for statement in statements(module.tree.body):
        match statement:
            case cst.FunctionDef(name=cst.Name(value=name), body=body):
                found |= mentions(body) - {name}
            case cst.ClassDef() if not _may_have_entries(project, module, statement):
                found |= mentions(statement.body)
    for name, node, owner in _candidates(project, module):
        if owner is not None:
            found |= mentions(node.body) - {name}
    return frozenset(found)


def _may_start(
    project: Project,
    module: SourceModule,
    node: cst.FunctionDef,
    owner: cst.ClassDef | None,
    settings: Settings,
) -> bool:
    if owner is not None:
        cls = Class(owner, module)
        if node.name.value == "__init__":
            return classes.is_network(project, cls) is False
        if classes.is_network(project, cls) is True:
            return method_matters(project, cls, node, settings.pedantic)
    return relevant(project, module, node, hops=1) or (
        owner is not None and _calls_what_matters(project, module, node, owner)
    )


def _calls_what_matters(
    project: Project, module: SourceModule, node: cst.FunctionDef, owner: cst.ClassDef
) -> bool:
    """Tell whether a method names others of its class that do something to a model."""
    methods = classes.members(owner)
    named = (methods[name] for name in mentions(node.body) & methods.keys())
    return any(
        isinstance(method, cst.FunctionDef) and relevant(project, module, method, hops=1)
        for method in named
    )


def is_named_again(name: str, text: str) -> bool:
    """Tell whether a text names a function anywhere but where it is defined."""
    return len(list(islice(places(name, text), 2))) > 1


@dataclass(frozen=True)
class _Before:
    """What a file's body, but for its main part, leaves for its functions."""

    run: Run

    @classmethod
    def of(cls, module: SourceModule, project: Project, settings: Settings) -> _Before:
        """Run a file's body."""
        run = _start(module, project, settings, set())
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


def _start(
    module: SourceModule, project: Project, settings: Settings, followed: set[cst.CSTNode]
) -> Run:
    frame = Frame(module, "")
    run = Run(project, settings, frame, followed=followed)
    run.globals[module] = frame
    return run


_WRAPPERS = frozenset(
    """
    DataParallel DistributedDataParallel DDP convert_sync_batchnorm convert_syncbn_model
    """.split()  # noqa: SIM905
)
"""A constructor that names none of these starts nothing by itself."""


def _may_have_entries(project: Project, module: SourceModule, node: cst.ClassDef) -> bool:
    """Tell by the words in a class whether a method of it may start, without parsing it."""
    return bool(mentions(node) & SWITCHES) or relevant(project, module, node, hops=1)


def _candidates(
    project: Project,
    module: SourceModule,
) -> Iterator[tuple[str, cst.FunctionDef, cst.ClassDef | None]]:
    for statement in statements(module.tree.body):
        match statement:
            case cst.FunctionDef(name=cst.Name(value=name)):
                yield name, statement, None
            case cst.ClassDef() if _may_have_entries(project, module, statement):
                for name, member in classes.members(statement).items():
                    if not isinstance(member, cst.FunctionDef):
                        continue
                    if name != "__init__" or mentions(member) & _WRAPPERS:
                        yield name, member, statement


def _from_function(
    before: _Before,
    followed: set[cst.CSTNode],
    node: cst.FunctionDef,
    owner: cst.ClassDef | None,
) -> Timeline:
    module = before.run.frame.module
    distrusted = changed_elsewhere(module, node, owner)
    run = before.start(followed, distrusted)
    site_node = cst.Call(func=node.name)
    driver, alone = "", False
    function = Function(node, module, node.name.value)
    if owner is not None:
        own_class = Class(owner, module)
        driver = classes.framework(run.project, own_class)
        alone = driver == "lightning" and leaves_modes_alone(run.project, own_class)
        receiver = _receiver(run, own_class, owner, distrusted)
        name = f"{owner.name.value}.{node.name.value}"
        function = classes.bound(Function(node, module, name, owner=own_class), receiver)
    arguments = Arguments()
    parameters = [*node.params.params, *node.params.kwonly_params]
    skip = 1 if function.receiver is not None else 0
    for parameter in parameters[skip:]:
        arguments.keywords[parameter.name.value] = _given(run, parameter)
    if node.name.value != "__init__":  # It made the receiver.
        functions.enter(run, site_node, function, arguments)
    followed.add(node)
    note_one_value_norms(run)
    return Timeline(
        function.name,
        module.path,
        Entry.FUNCTION if owner is None else Entry.METHOD,
        (*run.before, *run.steps),
        tuple(run.models),
        tuple(run.loaders),
        driven_by=driver,
        leaves_modes_alone=alone,
        managed=frozenset(run.settings.mode_managed_by),
        said=run.project.said,
        minimum_batch_size=run.settings.minimum_batch_size,
    )


def _given(run: Run, parameter: cst.Param) -> Value:
    """Return what an entry point gets for a parameter: a default that is a name is usual."""
    if parameter.default is not None:
        default = functions.default_of(parameter.default)
        if isinstance(default, Constant) and isinstance(default.value, str):
            return Constant(default.value, fixed=False)
    name = parameter.name.value
    return Opaque(name, run.site(parameter.name), parameter=True)


def _receiver(run: Run, cls: Class, owner: cst.ClassDef, distrusted: frozenset[str]) -> Value:
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
        run.classes[model] = cls
        run.models.append(model)
        made: Value = Models((model,))
    else:
        made = Instance(cls)
    init = classes.find(run, cls, "__init__")
    if isinstance(init, Function) and isinstance(init.node, cst.FunctionDef):
        parameters = [*init.node.params.params[1:], *init.node.params.kwonly_params]
        given = {p.name.value: _given(run, p) for p in parameters}
        arguments = Arguments(keywords=given)
        functions.follow(run, cst.Call(func=owner.name), classes.bound(init, made), arguments)
    if isinstance(made, Models):
        run.escape(owner.name, [made], "")
    for name, value in run.heap.of(made.models[0] if isinstance(made, Models) else made).items():
        if isinstance(value, Data):
            continue
        if name in distrusted or classes.ancestry(run.project, cls).unknown:
            run.escape(owner.name, [value], "")
    return made


_TEST_FOLDER = re.compile(r"(?:^|/)(?:tests|benchmarks?)/")
_TEST_NAME = re.compile(r"(?:^|/)test(?:ing)?/|(?:^|/)(?:test_[^/]*|[^/]*_test)\.py$")
_UNIT_TEST = re.compile(
    r"\b(?:pytest|unittest|TestCase)\b|^ *(?:async )?def test\w*\([^)]*\)[\s\S]*?^ +assert\b",
    re.MULTILINE,
)


def _is_test(module: SourceModule) -> bool:
    """Tell unit tests and benchmarks from scripts that evaluate, such as `test_segmentation.py`."""
    if _TEST_FOLDER.search(module.path):
        return True
    return bool(_TEST_NAME.search(module.path) and _UNIT_TEST.search(module.text))


def _shows_batch_norm(module: SourceModule) -> bool:
    if "BatchNorm" in module.text:
        return True
    for bindings in module.bindings.values():
        for binding in bindings:
            if isinstance(binding, Imported) and binding.module.startswith(known.ZOOS):
                return True
    return False


def _driver(module: SourceModule) -> str:
    """Return the framework whose callbacks a file's functions are likely to be."""
    for bindings in module.bindings.values():
        for binding in bindings:
            if isinstance(binding, Imported):
                top = binding.module.partition(".")[0]
                if top in {"ignite", "fastai", "catalyst", "mmcv", "mmengine", "detectron2"}:
                    return known.FRAMEWORKS[top]
    return ""

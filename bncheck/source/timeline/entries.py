"""Chooses what to follow from: a file's body, and what nothing in the file calls."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import libcst as cst

from bncheck.config import Settings
from bncheck.source.module import Imported, SourceModule, statements
from bncheck.source.project import Project
from bncheck.source.timeline import (
    classes,
    facts,
    handed_on,
    known,
    model_libraries,
    stops,
)
from bncheck.source.timeline.distrust import leave_averages
from bncheck.source.timeline.entering import Before, from_function, start
from bncheck.source.timeline.factories import is_one_of_many
from bncheck.source.timeline.keepers import acts, infers, kept_models
from bncheck.source.timeline.lost_freezes import lost_freezes
from bncheck.source.timeline.methods import SWITCHES, method_matters
from bncheck.source.timeline.one_value import note_one_value_norms
from bncheck.source.timeline.other_stops import other_stops
from bncheck.source.timeline.relevance import relevant
from bncheck.source.timeline.statements import run_body
from bncheck.source.timeline.subclasses import concrete
from bncheck.source.timeline.syntax import mentions, places
from bncheck.source.timeline.unit_tests import is_test
from bncheck.source.timeline.values import (
    Class,
)
from bncheck.timeline import Entry, Timeline

_RELEVANT = tuple(
    """
    parameters eval train no_grad inference_mode set_grad_enabled backward load_state_dict
    DataLoader requires_grad requires_grad_ convert_sync_batchnorm DataParallel
    DistributedDataParallel trace export checkpoint AveragedModel momentum __main__
    """.split()  # noqa: SIM905
)
_RELEVANT_CALLS = ("jit.script(", ".prepare", "DataLoader(", "Trainer(")
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
    shows, in_test = _shows_batch_norm(module), is_test(project, module)
    body = start(module, project, settings, followed)
    body.runs_main = True
    run_body(body, module.tree.body)
    if not _driver(module):
        handed_on.follow_noted(body)
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
            gradient_stops=(
                *stops.gradient_stops(module, project),
                *other_stops(module, project),
            ),
            lost_freezes=tuple(lost_freezes(module, project)),
            fits=tuple(body.fits),
        )
    ]
    # Of what unit tests construct nothing sure is said, and there may be thousands of them.
    if in_test and not settings.pedantic and "batchnorm" not in text.lower() and not shows:
        return found
    kept = kept_models(body)
    candidates = [
        (name, node, owner)
        for name, node, owner in _candidates(project, module)
        if node not in followed
        and (
            _may_start(project, module, node, owner, settings)
            or infers(project, module, node, owner, kept)
            or acts(project, module, node, owner)
        )
    ]
    if not candidates:
        return found
    before = Before.of(module, project, settings)
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
            made_as = concrete(project, module, owner, node) if owner is not None else ()
            for cls in (None, *made_as):
                seen = followed if cls is None else followed - {node}
                timeline = from_function(before, seen, node, owner, cls)
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


def _shows_batch_norm(module: SourceModule) -> bool:
    if "BatchNorm" in module.text:
        return True
    for bindings in module.bindings.values():
        for binding in bindings:
            if isinstance(binding, Imported) and binding.module.startswith(model_libraries.ZOOS):
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

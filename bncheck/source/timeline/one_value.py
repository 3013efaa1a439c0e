"""Tells whether a BatchNorm of a model sees one value per channel, so that one sample fails."""

from __future__ import annotations

import re
from itertools import chain

import libcst as cst

from bncheck.events import Fact, ForwardCall, Model, Origin
from bncheck.graph import UNKNOWN
from bncheck.one_sample import fails_on_one_sample
from bncheck.source.module import dotted
from bncheck.source.project import Defined, External, Project
from bncheck.source.single import Given, graph_of
from bncheck.source.timeline.classes import ancestry, members
from bncheck.source.timeline.closer import CloserLook
from bncheck.source.timeline.constructors import assigned_in_init
from bncheck.source.timeline.pooled_graphs import sees_pooled_graphs
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import identifiers, mentions
from bncheck.source.timeline.values import Class, Models
from bncheck.source.walk import walk_kinds
from bncheck.timeline import occurrences

_ZOO = re.compile(
    r"deeplabv3|DeepLabV3|inception_v3|"
    r"segmentation_models_pytorch.*\.(?:[Pp][Ss][Pp](?:[Nn]et)?|PAN|pan|UPerNet|upernet)$"
)
"""Models with image pooling and BatchNorm behind it; Inception's auxiliary head has it too."""

_POOLING = frozenset({"ASPP", "ASPPPooling", "DeepLabHead"})
"""Classes of torchvision's with BatchNorm behind image pooling."""
_POOLING_FROM = frozenset(f"torchvision.models.segmentation.deeplabv3.{n}" for n in _POOLING)

_WHOLE = re.compile(
    r"torchvision\.models\.segmentation\.(?:deeplabv3\.)?deeplabv3_\w+$|"
    r"segmentation_models_pytorch\.(?:\w+\.)*(?:DeepLabV3|DeepLabV3Plus|PSPNet|PAN|UPerNet)$"
)
"""The same as classes and functions that a network of the project makes or derives from."""
_WHOLE_WORDS = frozenset(
    """
    deeplabv3_resnet50 deeplabv3_resnet101 deeplabv3_mobilenet_v3_large DeepLabV3 DeepLabV3Plus
    PSPNet PAN UPerNet
    """.split()  # noqa: SIM905
)

_HEADS = frozenset({"fc", "_fc", "classifier", "head", "heads", "last_linear"})
"""Attributes of library networks that hold what runs behind their pooling."""
_KEEPS_ONE = re.compile(r"(?:ReLU6?|LeakyReLU|ELU|GELU|SiLU|Tanh|Sigmoid|Dropout|Identity)$")


def note_one_value_norms(run: Run) -> None:
    """Set `one_value_norm` on the models that are called and whose network is known.

    `one_value_per_graph` too, where batches are of graphs.
    """
    of_graphs = any(loader.graphs for loader in run.loaders)
    for occurrence in occurrences((*run.steps, *chain.from_iterable(run.fits))):
        event = occurrence.event
        if isinstance(event, ForwardCall) and event.model.one_value_norm is UNKNOWN:
            known = _fact(event.model, run.classes, run.project)
            parts = _parts(run, event.model) if known is UNKNOWN else ()
            if any(
                _fact(part, run.classes, run.project) is True and not _lacks(event.model, name)
                for name, part in parts
            ):
                known = True
            event.model.one_value_norm = known
            cls = run.classes.get(event.model) if of_graphs else None
            if cls is not None and event.model.holds_batch_norm is True:
                event.model.one_value_per_graph = sees_pooled_graphs(run.project, cls)


def _parts(run: Run, model: Model) -> list[tuple[str, Model]]:
    """Return the networks in attributes that a network's `forward` runs, such as its head."""
    names = _run_in_forward(run, model)
    held = [(name, value) for name, value in run.heap.of(model).items() if name in names]
    return [(n, part) for n, value in held if isinstance(value, Models) for part in value.models]


def _lacks(model: Model, part: str) -> bool:
    """Tell whether a network has no such part as it is made: an auxiliary head that is off."""
    look = model.confirm
    return isinstance(look, CloserLook) and not look.part and look.lacks(part)


def _run_in_forward(run: Run, model: Model) -> frozenset[str]:
    """Return the names in a network's `forward`; a library's runs the head that it is given."""
    cls = run.classes.get(model)
    if cls is None:
        return _HEADS if model.origin is Origin.ZOO else frozenset()
    for ancestor in ancestry(run.project, cls).project:
        forward = members(ancestor.node).get("forward")
        if isinstance(forward, cst.FunctionDef):
            return identifiers(forward)
    return frozenset()


def _fact(model: Model, classes: dict[Model, Class], project: Project) -> Fact:
    if model.type_name in _POOLING_FROM:
        return True
    if model.holds_batch_norm is not True:
        return UNKNOWN
    if model.origin is Origin.ZOO:
        return True if _ZOO.search(model.type_name) else UNKNOWN
    if model in classes:
        return _of_class(classes[model], project, _constants(model))
    if model.parent in classes:
        return _of_part(model, classes[model.parent], project)
    if isinstance(model.site.mark, cst.Call):
        return _of_sequential(model.site.mark)
    return UNKNOWN


def _of_part(part: Model, cls: Class, project: Project) -> Fact:
    """Look at the call that makes a part in the constructor of the network that keeps it."""
    made = assigned_in_init(cls.node).get(part.name.rpartition(".")[2])
    name = dotted(made.func) if isinstance(made, cst.Call) else None
    if name is None or not isinstance(made, cst.Call):
        return UNKNOWN
    if name.rpartition(".")[2] == "Sequential":
        return _of_sequential(made)
    for meaning in project.resolve(name, cls.module):
        if isinstance(meaning, Defined) and isinstance(meaning.binding, cst.ClassDef):
            return _of_class(Class(meaning.binding, meaning.module), project, frozenset())
    return UNKNOWN


def _constants(model: Model) -> Given:
    """Return what a script gives the constructor, as far as it is constant."""
    look = model.confirm
    if not isinstance(look, CloserLook) or look.part:
        return frozenset()
    return frozenset((name, value) for name, value in look.given if value is not UNKNOWN)


def _of_class(cls: Class, project: Project, given: Given) -> Fact:
    key = id(cls.node), given
    if key not in project.one_value_norms:
        definition = Defined(cls.module, cls.node.name.value, cls.node)
        graph = graph_of(definition, project, given)
        found = graph is not None and fails_on_one_sample(graph)
        project.one_value_norms[key] = found or _pools_by_library(cls, project)
    return project.one_value_norms[key] or UNKNOWN


def _pools_by_library(cls: Class, project: Project) -> bool:
    """Tell whether a network derives from a library's with image pooling, or makes one.

    That is torchvision's pooling for DeepLab, or a whole network that has such.
    """
    family = ancestry(project, cls)
    if any(map(_has_pooling, family.external)):
        return True
    words = _POOLING | _WHOLE_WORDS
    for ancestor in family.project:
        init = members(ancestor.node).get("__init__")
        if not isinstance(init, cst.FunctionDef) or words.isdisjoint(mentions(init)):
            continue
        names = filter(None, (dotted(call.func) for call in walk_kinds(init.body, (cst.Call,))))
        for name in names:
            if name.rpartition(".")[2] in words and any(
                isinstance(meaning, External) and _has_pooling(meaning.name)
                for meaning in project.resolve(name, ancestor.module)
            ):
                return True
    return False


def _has_pooling(name: str) -> bool:
    return name in _POOLING_FROM or bool(_WHOLE.match(name))


def _of_sequential(call: cst.Call) -> Fact:
    """Look for a BatchNorm1d behind a linear layer in `nn.Sequential(...)`."""
    behind_linear = False
    for argument in call.args:
        if not isinstance(argument.value, cst.Call):
            behind_linear = False
            continue
        name = (dotted(argument.value.func) or "").rpartition(".")[2]
        if name in {"Linear", "LazyLinear"}:
            behind_linear = True
        elif behind_linear and name in {"BatchNorm1d", "LazyBatchNorm1d"}:
            return True
        elif not _KEEPS_ONE.search(name):
            behind_linear = False
    return UNKNOWN

"""Which functions can do anything to a model: the others need not be followed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from bncheck.source.module import Assigned, SourceModule
from bncheck.source.outline import body_text
from bncheck.source.project import Defined, External, ModuleObject, Project
from bncheck.source.timeline.known import IMPORTERS
from bncheck.source.timeline.model_libraries import ZOOS, zoo_model
from bncheck.source.timeline.registries import registered
from bncheck.source.timeline.syntax import mentions

WORDS = frozenset(
    """
    eval train no_grad inference_mode set_grad_enabled DataLoader load_state_dict backward
    requires_grad_ requires_grad DataParallel DistributedDataParallel convert_sync_batchnorm
    update_bn trace script export checkpoint AveragedModel parse_args momentum
    """.split()  # noqa: SIM905
)
"""What a function that matters names, or what it calls names."""
_TOGETHER = (frozenset({"zip", "parameters"}), frozenset({"Trainer", "fit"}))
"""Words that matter beside each other: an average, and Lightning's training."""

_MAX_HOPS = 5
_FACTORY_HOPS = 3


def relevant(
    project: Project, module: SourceModule, node: cst.CSTNode, hops: int = _MAX_HOPS
) -> bool:
    """Tell whether a function or class, or what it uses of the project, names what matters."""
    return _relevant(project, module, node, hops)


@lru_cache(maxsize=65536)
def _relevant(project: Project, module: SourceModule, node: cst.CSTNode, hops: int) -> bool:
    names = mentions(node)
    if names & WORDS or any(all_of <= names for all_of in _TOGETHER):
        return True
    return bool(hops) and any(
        found is not node and _relevant(project, origin, found, hops - 1)
        for name in names
        if name in module.bindings
        for origin, found in _definitions(project, name, module)
    )


_SWITCHING = frozenset({"eval", "train", "training"})


def may_switch(project: Project, module: SourceModule, node: cst.CSTNode) -> bool:
    """Tell whether a function, or what it uses of the project, may change a model's mode."""
    return _may_switch(project, module, node, _MAX_HOPS)


@lru_cache(maxsize=65536)
def _may_switch(project: Project, module: SourceModule, node: cst.CSTNode, hops: int) -> bool:
    names = mentions(node)
    if names & _SWITCHING or not hops:
        return True
    return any(
        found is not node and _may_switch(project, origin, found, hops - 1)
        for name in names & module.bindings.keys()
        for origin, found in _definitions(project, name, module)
    )


def _definitions(
    project: Project, name: str, module: SourceModule
) -> Iterator[tuple[SourceModule, cst.FunctionDef | cst.ClassDef]]:
    for meaning in project.resolve(name, module):
        match meaning:
            case Defined(module=origin, binding=(cst.FunctionDef() | cst.ClassDef()) as found):
                yield origin, found


_MAKERS = IMPORTERS | frozenset(
    """
    Sequential create_model get_model from_pretrained __dict__ globals instantiate locate get_class
    """.split()  # noqa: SIM905
)
"""A function that names one of these may make a network, whichever it is."""


def makes_models(project: Project, module: SourceModule, node: cst.CSTNode) -> bool:
    """Tell whether a function may return a model: it names a network, or what makes one."""
    return _makes_models(project, module, node, _FACTORY_HOPS)


@lru_cache(maxsize=65536)
def _makes_models(project: Project, module: SourceModule, node: cst.CSTNode, hops: int) -> bool:
    names = mentions(node)
    if names & _MAKERS or _imports_of_the_project(node) or _defines_a_class(node):
        return True
    if {"getattr", "__name__"} <= names and _has_classes(module):  # of sys.modules[__name__]
        return True
    for name in names:
        known_here = name in module.bindings or module.star_imports
        for meaning in project.resolve(name, module) if known_here else ():
            match meaning:
                case External(name=outside) if outside.startswith(ZOOS) or zoo_model(outside, None):
                    return True
                case External(name="torchvision" | "torchaudio") if "models" in names:
                    return True
                case Defined(binding=cst.ClassDef(bases=bases)) if bases:
                    return True
                case Defined(name=own, module=origin, binding=Assigned()) if registered(
                    project, own, origin
                ):
                    return True
                case Defined(module=origin, binding=Assigned(value=cst.Dict() as table)) if hops:
                    if _makes_models(project, origin, table, hops - 1):
                        return True
                case Defined(module=origin, binding=cst.FunctionDef() as found) if hops:
                    if found is not node and _makes_models(project, origin, found, hops - 1):
                        return True
                case ModuleObject(module=origin) if hops:
                    if "getattr" in names and _has_classes(origin):
                        return True
                    if _may_make_models(project, origin, names, hops - 1):
                        return True
    return False


def _has_classes(module: SourceModule) -> bool:
    """Tell whether `getattr` may find a class in a module that derives from another."""
    found = (binding for bindings in module.bindings.values() for binding in bindings)
    return any(isinstance(binding, cst.ClassDef) and binding.bases for binding in found)


_IMPORTS = re.compile(
    r"^[ \t]+from[ \t]+"
    r"(?:\.[\w.]*[ \t]+import[ \t]+\(?\s*[A-Z]|[\w.]*\b(?:models?|nets?|networks?)\b)",
    re.MULTILINE,
)
"""Of a class, or of a module that is named after networks."""


def _imports_of_the_project(node: cst.CSTNode) -> bool:
    """Tell whether a function imports a network where it is run, to return it perhaps."""
    text = body_text(node) if isinstance(node, cst.FunctionDef) else None
    return text is not None and "import" in text and bool(_IMPORTS.search(text))


_CLASS = re.compile(r"^[ \t]+class[ \t]+\w+\(.*Module", re.MULTILINE)


def _defines_a_class(node: cst.CSTNode) -> bool:
    """Tell whether a function defines a network where it is run."""
    text = body_text(node) if isinstance(node, cst.FunctionDef) else None
    return text is not None and "class " in text and bool(_CLASS.search(text))


def _may_make_models(
    project: Project, module: SourceModule, names: frozenset[str], hops: int
) -> bool:
    """Tell whether one of the names is, in a module, a network or what makes one."""
    for name in names:
        for binding in module.bindings.get(name, ()):
            match binding:
                case cst.ClassDef(bases=bases) if bases:
                    return True
                case cst.FunctionDef() as found:
                    if _makes_models(project, module, found, hops):
                        return True
    return False

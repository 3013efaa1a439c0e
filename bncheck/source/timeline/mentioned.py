"""Gathers the names that tell what a network is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import libcst as cst

from bncheck.source.configured import configured_batch_norm
from bncheck.source.literals import literal
from bncheck.source.module import dotted, imports
from bncheck.source.outline import LazyBlock
from bncheck.source.timeline import known
from bncheck.source.timeline.model_libraries import BATCH_NORM_NAMES, by_family, by_norm_layer
from bncheck.source.timeline.syntax import identifiers, mentions
from bncheck.source.walk import inside, walk_kinds

_NETWORK = re.compile(
    r"(?:wide_|se)?(?:resne[xt]+t?|densenet|mobilenet|inception|googlenet|mnasnet|regnet|"
    r"shufflenet|efficientnet|vgg|alexnet|squeezenet|vit|swin|convnext|maxvit)[\w-]*$"
)
"""A text that names a network of torchvision."""


@dataclass
class Mentioned:
    """The names in some code."""

    node: cst.CSTNode
    names: set[str] = field(default_factory=set)
    """Dotted names, but for those that `isinstance` asks for."""
    first_strings: dict[str, object] = field(default_factory=dict)
    """Function called to its first argument, or what a hub is asked for, where that is a string."""
    imported: dict[str, str] = field(default_factory=dict)
    """Names that imports inside of functions bind, to what they stand for."""
    told: set[str] = field(default_factory=set)
    """Functions that every call tells which norm to make; none, perhaps."""


def mentioned_in(
    node: cst.CSTNode,
    dead: frozenset[cst.CSTNode] = frozenset(),
    telling: frozenset[str] | None = None,
) -> Mentioned:
    """Return the names in some code; what is dead, and bodies without a telling word, left out."""
    found = Mentioned(node)
    untold: set[str] = set()
    stack: list[Any] = [node]
    while stack:
        part = stack.pop()
        kind = part.__class__
        if kind is cst.Name:
            found.names.add(part.value)
            continue
        if dead and part in dead:
            continue
        if telling is not None and kind is LazyBlock and not mentions(part) & telling:
            continue
        if kind is cst.Attribute:
            name = dotted(part)
            if name is None:
                stack.append(part.value)
            else:
                found.names.add(name)
            continue
        if kind is cst.Import or kind is cst.ImportFrom:
            for name, imported in imports(part, "", False):
                parts = filter(None, (imported.module, imported.attribute))
                found.imported[name] = ".".join(parts)
            continue
        if kind is cst.Subscript and (chosen := _out_of_dict(part)) is not None:
            found.names.add(chosen)
            continue
        if kind is cst.Dict or kind is cst.Call:
            norm = configured_batch_norm(part)
            if norm is not None:
                found.names.add(norm)
        if kind is cst.Param or kind is cst.Arg:
            norm = _batch_norm_by_text(part)
            if norm is not None:
                found.names.add(norm)
        if kind is cst.Call:
            name = dotted(part.func)
            if name in {"isinstance", "issubclass"} and len(part.args) == 2:
                stack.append(part.args[0])
                continue
            if name == "getattr" and (chosen := _by_text(part)) is not None:
                found.names.add(chosen)
            if any(map(_asks_for_batch_norm, part.args)):
                found.names.add("BatchNorm2d")
            place = 1 if name is not None and name.endswith("hub.load") else 0
            first = part.args[place].value if len(part.args) > place else None
            if name is not None and first.__class__ is cst.SimpleString:
                found.first_strings[name] = literal(first)
            if name is not None:
                (found.told if _tells_norm(part) else untold).add(name)
        stack += inside(part)
    found.told -= untold
    return found


_IN_A_TEXT = re.compile(r"(?:(?:torch\.)?nn\.)?(BatchNorm[123]d|SyncBatchNorm)$")
TELLS_BY_TEXT = re.compile(r"""["'](?:torch\.)?(?:nn\.)?(?:Sync)?BatchNorm""")
"""A text that names the class of BatchNorm, to be looked up in torch.nn."""


def _batch_norm_by_text(node: cst.Param | cst.Arg) -> str | None:
    """Return the BatchNorm that a default or a keyword names: `norm="nn.BatchNorm2d"`."""
    named = node.keyword is not None if isinstance(node, cst.Arg) else True
    match node.default if isinstance(node, cst.Param) else node.value:
        case cst.SimpleString() as text if named:
            found = _IN_A_TEXT.match(str(text.raw_value))
            return found and found[1]
    return None


def _by_text(call: cst.Call) -> str | None:
    """Return `nn.BatchNorm2d` for `getattr(nn, "BatchNorm2d")`, whose dimension may be left out."""
    match call.args:
        case [
            cst.Arg(value=cst.Name("nn")),
            cst.Arg(
                value=cst.FormattedString(parts=[cst.FormattedStringText(value="BatchNorm"), *_])
            ),
        ]:
            return "nn.BatchNorm2d"
        case [cst.Arg(value=owner), cst.Arg(value=cst.SimpleString() as text), *_]:
            whole = dotted(owner)
            return f"{whole}.{text.raw_value}" if whole is not None else None
    return None


def _out_of_dict(node: cst.Subscript) -> str | None:
    """Return `models.resnet18` for `models.__dict__["resnet18"]`."""
    match node.slice:
        case [cst.SubscriptElement(slice=cst.Index(value=cst.SimpleString() as text))]:
            owner = dotted(node.value) or ""
            package = owner.removesuffix(".__dict__")
            return f"{package}.{text.raw_value}" if package != owner else None
    return None


def _asks_for_batch_norm(argument: cst.Arg) -> bool:
    """Recognise `norm="batch"`, `norm=Norm.BATCH` and `norm=("batch", {...})`, as libraries do."""
    if argument.keyword is None or argument.keyword.value not in known.NORM_ARGUMENTS:
        return False
    match argument.value:
        case cst.Tuple(elements=[cst.Element(value=value), *_]) | value:
            pass
    match value:
        case cst.SimpleString() as text:
            return str(literal(text)).lower() in BATCH_NORM_NAMES
        case cst.Attribute(attr=cst.Name(value="BATCH")):
            return True
    return False


def names_torchvision(node: cst.CSTNode) -> bool:
    """Tell whether the networks of torchvision that texts in some code name all hold BatchNorm.

    `getattr(torchvision.models, name)(...)` beside a list of what `name` may be; not where a call
    says which norm to make.
    """
    families = {
        by_family(text)
        for part in walk_kinds(node, (cst.SimpleString,))
        if isinstance(text := part.raw_value, str) and _NETWORK.match(text)
    }
    return families == {True} and not any(map(_tells_norm, walk_kinds(node, (cst.Call,))))


def _tells_norm(call: cst.Call) -> bool:
    """Tell whether a call says `norm=...` without naming BatchNorm."""
    return any(
        argument.keyword is not None
        and argument.keyword.value in known.NORM_ARGUMENTS
        and not identifiers(argument.value) & known.BATCH_NORMS
        and not (isinstance(argument.value, cst.SimpleString) and "batch" in argument.value.value)
        for argument in call.args
    )


def tells_another_norm(call: cst.Call) -> bool:
    """Tell whether a call names a norm to make that is none of BatchNorm's: `norm_layer=...`."""
    return any(
        argument.keyword is not None
        and argument.keyword.value in known.NORM_ARGUMENTS
        and by_norm_layer(identifiers(argument.value), True) is False
        for argument in call.args
    )

"""What the parts of a network are made of: whether an attribute of it holds BatchNorm."""

from __future__ import annotations

import re

import libcst as cst

from bncheck.events import Fact
from bncheck.graph import UNKNOWN
from bncheck.source.module import SourceModule, dotted
from bncheck.source.project import Defined, Project
from bncheck.source.timeline.classes import ancestry, decorators, members
from bncheck.source.timeline.constructors import (
    assigned_in_init,
    parameters_for_batch_norm,
    put_into,
)
from bncheck.source.timeline.ingredients import (
    TABLES,
    Ingredient,
    holds,
    ingredients_of,
    keeps_no_statistics,
    made_by,
)
from bncheck.source.timeline.mentioned import mentioned_in, tells_another_norm
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.timeline.values import Class


def part_holds(project: Project, cls: Class, name: str) -> Fact:
    """Tell whether the part that `__init__` assigns to `self.name` holds BatchNorm."""
    for ancestor in ancestry(project, cls).project:
        value = assigned_in_init(ancestor.node).get(name)
        if value is None:
            if _built_by_default(ancestor, name):
                return True
            continue
        if keeps_no_statistics(value):
            return False
        facts = {part.fact for part in ingredients_of(project, value, ancestor.module)}
        made = _made_of(project, value, ancestor.module)
        if True in facts or made is True or _collected(project, ancestor, name, value):
            return True
        if _is_given_a_norm(ancestor, value) or _picked(project, ancestor, value):
            return True
        filled = isinstance(value, cst.Call) and not value.args and _is_container(value)
        return UNKNOWN if UNKNOWN in facts or made is UNKNOWN or filled else False
    return UNKNOWN


def names_a_norm(project: Project, cls: Class, name: str) -> bool:
    """Tell whether what `__init__` assigns to `self.name` leads to code that names BatchNorm."""
    if part_holds(project, cls, name) is True:
        return True
    values = (
        (assigned_in_init(ancestor.node).get(name), ancestor.module)
        for ancestor in ancestry(project, cls).project
    )
    return any(
        isinstance(found.definition, cst.FunctionDef | cst.ClassDef)
        and found.module is not None
        and made_by(project, found.definition, found.module) is True
        for value, module in values
        if value is not None
        for found in ingredients_of(project, value, module)
    )


def parts(node: cst.ClassDef) -> frozenset[str]:
    """Return the names that `__init__` gives to what it calls: layers, mostly."""
    made = assigned_in_init(node).items()
    return frozenset(name for name, value in made if isinstance(value, cst.Call))


_MAKES_NO_LAYER = re.compile(
    r"^torch\.(?:[tT]ensor|zeros|ones|rand\w*|full|eye|linspace|arange|as_tensor|from_numpy|stack|cat)$"
    r"|tokeni[sz]e|transforms?\.|^(?:np|numpy|math|os|json|len|int|float|str|list|dict|set|tuple)\b"
)


def trainable(node: cst.ClassDef) -> frozenset[str]:
    """Return those of these parts that may have parameters: no tensors, tokens or numbers."""
    made = assigned_in_init(node)
    return frozenset(n for n in parts(node) if not _MAKES_NO_LAYER.search(_maker(made[n])))


def _maker(value: cst.BaseExpression) -> str:
    """Return what is called first: `torch.Tensor` in `torch.Tensor(mean).view(1, 3, 1, 1)`."""
    while isinstance(value, cst.Call | cst.Attribute):
        inner = value.func if isinstance(value, cst.Call) else value.value
        if isinstance(value, cst.Call) and (name := dotted(inner)) is not None:
            return name
        value = inner
    return ""


def _is_container(value: cst.Call) -> bool:
    last = (dotted(value.func) or "").rpartition(".")[2]
    return last in {"ModuleList", "ModuleDict", "Sequential"}


def _collected(project: Project, cls: Class, part: str, value: cst.BaseExpression) -> bool:
    """Tell whether BatchNorm is put into a part, or made by the own method that makes it.

    `self.layers = nn.ModuleList(layers)`, `self.layers.append(...)`,
    `self.layer1 = self._make_layer(...)`.
    """
    init = members(cls.node).get("__init__")
    code: list[cst.CSTNode] = []
    if isinstance(init, cst.FunctionDef):
        code += put_into(init, f"self.{part}")
    for name in mentioned_in(value).names:
        if name.startswith("self."):
            method = members(cls.node).get(name.removeprefix("self."))
            code += [method.body] if isinstance(method, cst.FunctionDef) else []
        elif isinstance(init, cst.FunctionDef):
            code += put_into(init, name)
            code += put_into(init, name.removesuffix(".children"))
    if isinstance(init, cst.FunctionDef):
        # for layer in network.children(): layers.append(layer); or layers = network.children()
        code += [
            more
            for one in code
            for name in ({one.value} if isinstance(one, cst.Name) else mentioned_in(one).names)
            if isinstance(one, cst.Name) or name.endswith(".children")
            for more in put_into(init, name.removesuffix(".children"))
        ]
    return any(_is_given_a_norm(cls, node) for node in code) or any(
        (found.fact is True and found.kind) or _holds_itself(project, found, node)
        for node in code
        for found in ingredients_of(project, node, cls.module)
    )


def _holds_itself(project: Project, found: Ingredient, code: cst.CSTNode) -> bool:
    """Tell whether a class that code names holds BatchNorm, and the code tells it no other norm."""
    match found:
        case Ingredient(definition=cst.ClassDef() as definition, module=SourceModule() as module):
            told = {name.rpartition(".")[2] for name in mentioned_in(code).told}
            return (
                definition.name.value not in told
                and holds(project, Class(definition, module))[0] is True
            )
    return False


def _is_given_a_norm(cls: Class, code: cst.CSTNode) -> bool:
    """Tell whether code names a parameter of the constructor whose default is BatchNorm's."""
    init = members(cls.node).get("__init__")
    return (
        isinstance(init, cst.FunctionDef)
        and not isinstance(code, cst.Name)
        and not parameters_for_batch_norm(init).isdisjoint(identifiers(code))
    )


def _built_by_default(cls: Class, name: str) -> bool:
    """Tell whether a property returns a norm that the constructor builds and keeps by a name.

    `self.norm1_name, norm1 = build_norm_layer(norm_cfg, planes)`, and `norm1` returns
    `getattr(self, self.norm1_name)`.
    """
    init, method = members(cls.node).get("__init__"), members(cls.node).get(name)
    if not isinstance(init, cst.FunctionDef) or not isinstance(method, cst.FunctionDef):
        return False
    if "property" not in decorators(method) or "getattr" not in identifiers(method.body):
        return False
    return any(
        _is_given_a_norm(cls, built)
        for kept_as in identifiers(method.body) - {"getattr", "self"}
        for built in put_into(init, kept_as)
    )


def _picked(project: Project, cls: Class, value: cst.BaseExpression) -> bool:
    """Tell whether a part is made by what the constructor picks of some networks, or of a table.

    `make, width = NETWORKS[name]`, or `make = ResNet if deep else Small`, then
    `self.encoder = make()`.
    """
    init = members(cls.node).get("__init__")
    if not isinstance(init, cst.FunctionDef):
        return False
    match value:
        case cst.Call(func=cst.Name(value=maker)):
            picked = [
                found
                for given in put_into(init, maker)
                for found in ingredients_of(project, given, cls.module)
            ]
            listed = [
                one
                for table in picked
                if isinstance(table.definition, TABLES)
                for one in ingredients_of(project, table.definition, table.module)
            ]
            return any(
                isinstance(one.definition, cst.FunctionDef | cst.ClassDef)
                and made_by(project, one.definition, one.module) is True
                for one in (*picked, *listed)
            )
    return False


def _made_of(project: Project, value: cst.BaseExpression, module: SourceModule) -> Fact:
    if not isinstance(value, cst.Call) or tells_another_norm(value):
        return UNKNOWN
    meanings = project.resolve(dotted(value.func) or "", module)
    for meaning in meanings:
        match meaning:
            case Defined(module=origin, binding=cst.ClassDef() as found):
                return holds(project, Class(found, origin))[0]
            case Defined():
                return UNKNOWN
    return False if meanings else UNKNOWN

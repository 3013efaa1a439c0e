"""What names mean outside functions: a module's globals, built-ins, and what is external."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import libcst as cst

from bncheck.graph import Site
from bncheck.source.interpret.effects import (
    effects,
    fillers_of,
    filling,
    is_filled_elsewhere,
    is_registered_as,
    may_be_registry,
)
from bncheck.source.interpret.problems import FruitlessError, PathEndsError
from bncheck.source.interpret.registries import is_registry, settle
from bncheck.source.interpret.values import (
    UNKNOWN,
    Dictionary,
    Either,
    External,
    Instance,
    ModuleReference,
)
from bncheck.source.project import Defined, Meaning, ModuleObject, Project

if TYPE_CHECKING:
    from bncheck.source.interpret.machine import Frame, Machine
    from bncheck.source.interpret.memory import Recipe
    from bncheck.source.interpret.values import Class, Function
    from bncheck.source.module import SourceModule

_ALIASES = {
    "torch.nn.modules": "torch.nn",
    "torch.functional": "torch",
    "torch._C._nn": "torch.nn.functional",
}
_MODULES = {
    # OpenMMLab's own add an `init_cfg` and are otherwise torch's.
    f"{place}.{name}": f"torch.nn.{name.replace('Base', '')}"
    for place in ("mmengine.model", "mmengine.model.base_module", "mmcv.runner")
    for name in ("BaseModule", "Sequential", "ModuleList", "ModuleDict")
} | {"apex.parallel.SyncBatchNorm": "torch.nn.SyncBatchNorm"}


def canonical(name: str) -> str:
    """Return the usual dotted name of something in torch, or of what is as good as that."""
    if name.startswith("torch.nn.modules."):
        return "torch.nn." + name.rpartition(".")[2]
    for alias, real in _ALIASES.items():
        if name.startswith(alias + "."):
            return real + name[len(alias) :]
    return _MODULES.get(name, name)


@dataclass(eq=False)
class Names:
    """Looks up global names, once each."""

    project: Project
    make_function: Callable[[Frame, cst.FunctionDef], object]
    make_class: Callable[[Frame, cst.ClassDef], object]
    evaluate: Callable[[Frame, cst.BaseExpression], object]
    make_frame: Callable[[Machine, SourceModule], Frame]
    run_statement: Callable[[Frame, cst.CSTNode], object]
    call: Callable[[Machine, object, object], object]
    recipes: dict[object, Recipe] = field(default_factory=dict)
    """How objects were constructed, by class and arguments."""
    constructed: dict[Class, Instance] = field(default_factory=dict)
    """Classes of which an object was made, in that order, each with its latest object."""
    run: dict[cst.CSTNode, Function] = field(default_factory=dict)
    """Functions of which the body was run, in the order of their first run."""
    applied: set[Class] = field(default_factory=set)
    """Classes derived from Sequential of which an object's own layers were applied."""
    handed: dict[Site, Instance] = field(default_factory=dict)
    """Sequentials that networks gave to code outside the project as they were constructed."""
    fruitless: dict[cst.CSTNode, int] = field(default_factory=dict)
    """How often a function's body took its share of the work without coming to a layer."""
    taken: set[tuple[int, bool]] = field(default_factory=set)
    """Which branches were taken of conditions that were known, by the `if`'s identity."""
    sets_modes: bool = False
    """Whether any class that was made has a `train` method of its own."""
    _globals: dict[tuple[str, str], object] = field(default_factory=dict)
    _frames: dict[str, Frame] = field(default_factory=dict)
    _made: dict[int, object] = field(default_factory=dict)

    def look_up(self, name: str, machine: Machine, module: SourceModule) -> object:
        """Return the value of a global or built-in name as seen in `module`."""
        key = (module.path, name)
        if key in self._globals:
            return self._globals[key]
        self._globals[key] = UNKNOWN
        meanings = self.project.resolve(name, module)
        value = self._joined(meanings, machine) if meanings else External(f"builtins.{name}")
        self._globals[key] = value
        return value

    def member(self, reference: ModuleReference, name: str, machine: Machine) -> object:
        """Return an attribute of a module of the project."""
        value = self.look_up(name, machine, reference.module)
        if isinstance(value, External) and value.name.startswith("builtins."):
            found = self.project.find(f"{reference.module.name}.{name}", reference.module)
            return ModuleReference(found) if found is not None else UNKNOWN
        return value

    def frame(self, machine: Machine, module: SourceModule) -> Frame:
        """Return the frame in which a module's own expressions are evaluated."""
        if module.path not in self._frames:
            self._frames[module.path] = self.make_frame(machine, module)
        frame = self._frames[module.path]
        frame.machine = machine
        return frame

    def _joined(self, meanings: list[Meaning], machine: Machine) -> object:
        values: list[object] = []
        for meaning in meanings:
            value = self._value(meaning, machine)
            if not any(value is known or value == known for known in values):
                values.append(value)
        return values[0] if len(values) == 1 else Either(tuple(values[-4:]))

    def _value(self, meaning: Meaning, machine: Machine) -> object:
        match meaning:
            case External(name=name):
                return External(canonical(name))
            case ModuleObject(module=module):
                return ModuleReference(module)
            case Defined(module=module, binding=binding):
                if id(binding) not in self._made:
                    self._made[id(binding)] = UNKNOWN
                    made = self._made[id(binding)] = self._define(binding, module, machine)
                    if may_be_registry(made) and len(module.bindings[meaning.name]) == 1:
                        self._fill(made, meaning.name, module, machine)
                return self._made[id(binding)]
        return UNKNOWN

    def _fill(self, made: object, name: str, module: SourceModule, machine: Machine) -> None:
        """Run what other statements do to a value, as far as that is understood."""
        self._globals[module.path, name] = made
        if is_registry(made):
            assert isinstance(made, Instance)
            settle(made, module.path, name)
            return
        fillers = fillers_of(module, name) if isinstance(made, Dictionary) else frozenset()
        elsewhere = is_filled_elsewhere(made)
        self._run_effects(module, name, fillers, machine)
        if elsewhere:
            for other in filling(self.project, module, name, fillers):
                self._run_effects(other, name, fillers, machine)

    def registered(self, path: str, name: str, key: str, machine: Machine) -> object:
        """Return what any file registers under a key with the registry that `path` defines."""
        home = self.project.module(path)
        for module in (home, *filling(self.project, home, name, frozenset(), key)):
            for node in effects(module, name, frozenset()):
                if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
                    if is_registered_as(node, name, key):
                        return self.look_up(node.name.value, machine, module)
                elif isinstance(node, cst.Expr):
                    self.run_statement(self.frame(machine, module), node)
        return UNKNOWN

    def _run_effects(
        self, module: SourceModule, name: str, fillers: frozenset[str], machine: Machine
    ) -> None:
        graph, machine.graph = machine.graph, None
        doubts, machine.doubts = machine.doubts, {}
        frame = self.frame(machine, module)
        machine.open_journal()
        opened, around = len(machine.journal), machine.begin_apart()
        try:
            for statement in effects(module, name, fillers):
                try:
                    if isinstance(statement, (cst.FunctionDef, cst.ClassDef)):
                        value = self.look_up(statement.name.value, machine, module)
                        for decorator in statement.decorators:
                            self.call(machine, self.evaluate(frame, decorator.decorator), value)
                    else:
                        self.run_statement(frame, statement)
                except PathEndsError:
                    continue
        except FruitlessError:
            machine.abandon(opened, [])
        finally:
            machine.close_journal()
            machine.end(around)
            machine.graph, machine.doubts = graph, doubts

    def _define(self, binding: object, module: SourceModule, machine: Machine) -> object:
        frame = self.frame(machine, module)
        graph, machine.graph = machine.graph, None
        machine.open_journal()
        opened, around = len(machine.journal), machine.begin_apart()
        try:
            if isinstance(binding, cst.ClassDef):
                return self.make_class(frame, binding)
            if isinstance(binding, cst.FunctionDef):
                return self.make_function(frame, binding)
            value = getattr(binding, "value", None)
            if isinstance(value, cst.BaseExpression):
                return self.evaluate(frame, value)
        except PathEndsError:
            return UNKNOWN
        except FruitlessError:
            return machine.abandon(opened, [])
        finally:
            machine.close_journal()
            machine.end(around)
            machine.graph = graph
        return UNKNOWN

"""The state of one run through a script: names, attributes, and the events so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import libcst as cst

from bncheck.config import Settings as LintSettings
from bncheck.events import Count, Escape, Exit, Leave, Loader, Made, Model, Number, Origin
from bncheck.graph import UNKNOWN, Site
from bncheck.source.literals import literal
from bncheck.source.module import Assigned, SourceModule
from bncheck.source.project import Defined, External, Meaning, ModuleObject, Project
from bncheck.source.timeline import defaults, switches
from bncheck.source.timeline.assigned import value_of
from bncheck.source.timeline.closer import CloserLook
from bncheck.source.timeline.configurations import of_module
from bncheck.source.timeline.constants import module_constant
from bncheck.source.timeline.heap import Heap
from bncheck.source.timeline.joining import join_states
from bncheck.source.timeline.known import BATCH_NORMS, CONTAINERS, MODEL_NAME, STAGES
from bncheck.source.timeline.outer_names import OuterNames
from bncheck.source.timeline.reachable import reachable
from bncheck.source.timeline.registries import or_registered
from bncheck.source.timeline.values import (
    NONE,
    Class,
    Constant,
    Frame,
    Function,
    Instance,
    Models,
    Opaque,
    Outside,
    Package,
    Settings,
    Value,
)
from bncheck.timeline import Branch, Step

EACH = "[]"
"""The name of the part that a loop over a model's layers goes over."""

MAX_DEPTH = 8
"""Functions followed into one another."""
MAX_STATEMENTS = 6000
"""Statements executed from one entry point; what comes later is not followed."""


@dataclass(eq=False)
class Run:
    """One run from one entry point. Fresh for each."""

    project: Project
    settings: LintSettings
    frame: Frame
    steps: list[Step] = field(default_factory=list)
    before: list[Step] = field(default_factory=list)
    """What the bodies of other modules do when they are imported."""
    heap: Heap = field(default_factory=Heap)
    """Attributes of instances and networks."""
    models: list[Model] = field(default_factory=list)
    loaders: list[Loader] = field(default_factory=list)
    parts: dict[tuple[object, str], Model] = field(default_factory=dict)
    classes: dict[Model, Class] = field(default_factory=dict)
    """The project's class of a network."""
    scripted: dict[Model, Site] = field(default_factory=dict)
    """Models that torch.jit.script was called on, and where."""
    globals: dict[SourceModule, Frame] = field(default_factory=dict)
    """Names at module level, of modules whose body runs in this timeline."""
    asked: set[cst.CSTNode] = field(default_factory=set)
    """What names of other modules are assigned, while that is made out."""
    handed: list[Function] = field(default_factory=list)
    """Methods of objects that were handed to what is unknown, which may call them back."""
    fits: list[tuple[Step, ...]] = field(default_factory=list)
    """What trainers of Lightning do with a network that they are given."""
    stack: list[cst.CSTNode] = field(default_factory=list)
    """The functions that are being followed."""
    lambdas: set[cst.Lambda] = field(default_factory=set)
    """Those of a lambda expression, which are too small to stand among them."""
    followed: set[cst.CSTNode] = field(default_factory=set)
    against: set[object] = field(default_factory=set)
    """Classes and functions, names of those from outside, that are followed though the settings as
    they are pick others."""
    ran: dict[Model, None] = field(default_factory=dict)
    """The models that ran forward, in the order in which they first did."""
    statement: cst.CSTNode | None = None
    """The simple statement that is being executed."""
    discarded: cst.CSTNode | None = None
    """The expression whose value the statement throws away."""
    unpacked: tuple[cst.Call, int] | None = None
    """The call whose result was last unpacked, and into how many names."""
    count: Count | None = None
    """The count that what runs waits for, such as `if step % 16 == 0:`."""
    over_members: bool = False
    """Whether the loop around goes over the members of a model, which are followed as one."""
    records_gradients: bool = True
    """Whether no `no_grad` is around."""
    runs_main: bool = False
    """Whether `if __name__ == "__main__"` holds."""
    statements: int = 0
    dead: bool = False
    """Whether the current block was left."""

    def site(self, node: cst.CSTNode) -> Site:
        """Return where a node of the file that runs stands."""
        return Site(self.frame.module.path, node)

    def emit(self, step: Step) -> None:
        """Append a step, unless it can't be reached."""
        if not self.dead:
            self.steps.append(step)

    def leave(self, node: cst.CSTNode, how: Exit) -> None:
        """Note that the block is left here."""
        if not (self.over_members and how in {Exit.BREAK, Exit.CONTINUE}):
            self.emit(Leave(self.site(node), how))
        self.dead = True

    @contextmanager
    def block(self) -> Iterator[list[Step]]:
        """Collect the steps of a block apart."""
        outer, self.steps = self.steps, []
        try:
            yield self.steps
        finally:
            self.steps = outer

    def branch(
        self,
        node: cst.CSTNode,
        ways: list[Callable[[], None]],
        condition: str,
        taken: int | None = None,
    ) -> None:
        """Run alternatives from the same state, and join what they leave.

        `taken` is the position of the one that the settings as they are choose.
        """
        names, heap, was_dead = dict(self.frame.names), self.heap, self.dead
        frame, settled = self.frame, self.frame.settled
        outside = OuterNames(frame) if frame.outside else None
        alternatives: list[tuple[Step, ...]] = []
        after: list[tuple[dict[str, Value], Heap]] = []
        sides = defaults.Sides(self.ran)
        ended = settled
        usual: int | None = None
        for position, way in enumerate(ways):
            self.frame.names, self.heap, self.dead = dict(names), heap.on_top(), was_dead
            before = len(frame.returned)
            if outside is not None:
                outside.begin()
            with self.block() as steps:
                way()
            alternatives.append(tuple(steps))
            if position == taken and settled is None:
                returned = tuple(frame.returned[before:])
                ended = frame.settled or (returned if returned and self.dead else None)
            elif taken is not None and position != taken:
                frame.unusual.update(range(before, len(frame.returned)))
            frame.settled = settled
            sides.add(self.heap, {} if self.dead else frame.names)
            if not self.dead:
                usual = len(after) if position == taken else usual
                after.append((self.frame.names, self.heap))
                if outside is not None:
                    outside.keep()
        if outside is not None:
            outside.join(usual)
        frame.settled = ended
        sides.settle(taken)
        self.dead = was_dead or not after
        self.frame.names, self.heap = names, heap
        if after:
            self.frame.names = join_states([names for names, _ in after], usual)
            heap.absorb([layer for _, layer in after], usual)
        if any(alternatives):
            was_dead, self.dead = self.dead, False
            self.emit(Branch(self.site(node), tuple(alternatives), condition, taken))
            self.dead = was_dead

    @contextmanager
    def round(self) -> Iterator[list[Step]]:
        """Collect the steps of a loop's body apart."""
        outer, self.over_members = self.over_members, False
        with self.block() as steps, self.counting(None):
            yield steps
        self.over_members = outer

    @contextmanager
    def counting(self, number: cst.BaseExpression | None) -> Iterator[None]:
        """Note that what is inside waits for a count up to a number, unless that is 1."""
        outer = self.count
        self.start_counting(number)
        yield
        self.count = outer

    def start_counting(self, number: cst.BaseExpression | None) -> None:
        """Note that what follows waits for a count, until the loop around it ends."""
        if number is None or self.number(number) == 1:
            return
        if not switches.left_at_one(self.project, self.frame.module, number):
            self.count = Count()

    def number(self, node: cst.BaseExpression) -> Number:
        """Return the integer that an expression is by its names alone, without running it."""
        value: Value | None = None
        match node:
            case cst.Integer():
                return int(literal(node))
            case cst.Name(value=name):
                value = self.look_up(name)
            case cst.Attribute(value=cst.Name(value=name), attr=attr):
                owner = self.look_up(name)
                if isinstance(owner, Instance | Opaque | Settings):
                    value = self.heap.get(owner, attr.value)
                if value is None and isinstance(owner, Settings):
                    value = owner.defaults.get(attr.value)
        if isinstance(value, Constant) and isinstance(value.value, int):
            return value.value
        return UNKNOWN

    def declared(self, *names: str) -> bool | None:
        """Tell what the settings say of a model or factory: whether it holds BatchNorm."""
        if any(name in self.settings.norm_free_models for name in names):
            return False
        return True if any(name in self.settings.model_factories for name in names) else None

    def make_declared(self, node: cst.CSTNode, name: str, holds: bool) -> Models:
        """Return the model of a factory that the settings name."""
        model = Model("", Origin.UNKNOWN, name, self.site(node), holds, starts_in_eval=False)
        return self.make(model)

    def looks_like_a_model(self, opaque: Opaque) -> bool:
        """Tell by a name that something is a model."""
        return opaque.model is not None or bool(MODEL_NAME.search(opaque.name))

    def module_frame(self, module: SourceModule) -> Frame:
        """Return the frame of a module's own names."""
        return self.globals.setdefault(module, Frame(module, ""))

    def make(self, model: Model) -> Models:
        """Take a new model into the run."""
        if self.against:
            cls = self.classes.get(model)
            made_by = [model.type_name, *self.stack, cls and cls.node]
            model.by_default = model.by_default and self.against.isdisjoint(made_by)
        self.models.append(model)
        self.emit(Made(model.site, model))
        return Models((model,))

    def promote(self, opaque: Opaque) -> Models:
        """Return the model that something opaque turns out to be."""
        if opaque.model is None:
            site = opaque.site or Site(self.frame.module.path, opaque.name)
            origin = Origin.PARAMETER if opaque.parameter else Origin.UNKNOWN
            if opaque.type_name == "torch.load":
                origin = Origin.LOADED
            last, above = opaque.type_name.rpartition(".")[2], opaque.attribute_of
            if above is not None and opaque.owner is None and self.looks_like_a_model(above):
                opaque.owner = self.promote(above).models[0]
            looks_like_a_class = last[:1].isupper()
            opaque.model = Model(
                opaque.name or "model",
                origin,
                opaque.type_name,
                site,
                starts_in_eval=False if looks_like_a_class else UNKNOWN,
                parent=opaque.owner,
            )
            if opaque.type_name.startswith("torch.nn.") and last not in CONTAINERS:
                opaque.model.holds_batch_norm = last in BATCH_NORMS
                opaque.model.norm_kinds = frozenset({last} & BATCH_NORMS)
            self.models.append(opaque.model)
        return Models((opaque.model,))

    def part(self, model: Model, name: str) -> Model:
        """Return a part of a model, the same one each time."""
        known = self.parts.get((model, name))
        if known is None:
            known = self.parts[model, name] = Model(
                f"{model.name}.{name}",
                model.origin,
                "",
                model.site,
                holds_batch_norm=False if model.holds_batch_norm is False else UNKNOWN,
                pretrained=model.pretrained,
                synchronised=model.synchronised,
                starts_in_eval=model.starts_in_eval,
                parent=model,
                driven_by=model.driven_by,
            )
            cls = self.classes.get(model)
            if cls is not None and model.holds_batch_norm is not False:
                from bncheck.source.timeline import parts

                known.holds_batch_norm = parts.part_holds(self.project, cls, name)
            elif model.holds_batch_norm is True and (
                name == EACH or (STAGES.match(name) and model.origin is Origin.ZOO)
            ):
                known.holds_batch_norm = True
                known.norm_kinds = model.norm_kinds
            if isinstance(model.confirm, CloserLook) and name != EACH:
                known.confirm = model.confirm.at(name)
            self.models.append(known)
        return known

    def escape(self, node: cst.CSTNode, values: Iterable[Value], function: str) -> None:
        """Note that every model in reach of the values may have been changed."""
        for model in dict.fromkeys(m for value in values for m in self.reachable(value)):
            self.emit(Escape(self.site(node), model, function))

    def reachable(self, value: Value) -> list[Model]:
        """Return the models that code which has this value can get at."""
        return reachable(self.heap, value)

    def look_up(self, name: str) -> Value | None:
        """Return what a name stands for; None: it is unknown, perhaps a built-in."""
        frame: Frame | None = self.frame
        while frame is not None:
            if name in frame.names:
                return frame.names[name]
            frame = frame.outer
        return self.module_level(name, self.frame.module)

    def module_level(self, name: str, module: SourceModule) -> Value | None:
        """Return what a dotted name stands for at the top of a module."""
        return or_registered(self.project, name, module, self._module_level(name, module))

    def _module_level(self, name: str, module: SourceModule) -> Value | None:
        frame = self.globals.get(module)
        if frame is not None and name in frame.names:
            return frame.names[name]
        values = [self._value(meaning) for meaning in self.project.resolve(name, module)]
        known = [value for value in values if value != NONE]
        if not known:
            return values[0] if values else None
        return known[0] if len(known) == 1 else _first_of(known)

    def member(self, module: SourceModule, name: str) -> Value | None:
        """Return what `module.name` stands for: a submodule too, once it was imported."""
        value = self.module_level(name, module)
        if value is not None:
            return value
        submodule = self.project.find(f"{module.name}.{name}", module)
        return Package(submodule) if submodule is not None else None

    def _value(self, meaning: Meaning) -> Value:
        match meaning:
            case External(name=name):
                return Outside(name)
            case ModuleObject(module=module):
                return Package(module)
            case Defined(module=module, name=name, binding=binding):
                frame = self.globals.get(module)
                if frame is None and binding.__class__ is Assigned and self._runs(module):
                    frame = self.globals[module]
                if frame is not None and name in frame.names:
                    return frame.names[name]
                match binding:
                    case cst.ClassDef():
                        return Class(binding, module)
                    case cst.FunctionDef():
                        return Function(binding, module, name)
                    case Assigned(value=value):
                        return self._assigned(name, value, module)
        return Opaque()

    def _runs(self, module: SourceModule) -> bool:
        """Run the body of a module that keeps networks or settings; tell whether it is one."""
        from bncheck.source.timeline import elsewhere

        if not elsewhere.keeps(self.project, module):
            return False
        elsewhere.run_body_of(self, module)
        return True

    def _assigned(self, name: str, node: cst.BaseExpression, module: SourceModule) -> Value:
        """Return what a name is assigned at the top of a module whose body is not run."""
        if isinstance(node, cst.Call | cst.Name):
            filled = of_module(self.project, module, name, module_constant)
            if filled is not None:
                return filled
        if node in self.asked:
            return Opaque(name)  # It is made of itself: `SIZE = SIZE // 2`.
        self.asked.add(node)
        value = value_of(node, lambda other: self.module_level(other, module))
        self.asked.discard(node)
        return value


def _first_of(values: list[Value]) -> Value:
    project = [value for value in values if isinstance(value, Function | Class)]
    return project[0] if project else values[0]

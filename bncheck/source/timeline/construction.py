"""Follows constructors: which network an object is, and what other networks it is given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import libcst as cst

from bncheck.events import Fact, LoadWeights, Model, Origin, WrapKind
from bncheck.graph import UNKNOWN
from bncheck.source.project import Defined
from bncheck.source.single import Given
from bncheck.source.timeline import (
    calls,
    choices,
    classes,
    containers,
    external,
    functions,
    ingredients,
    known,
    loaders,
    options,
    told,
    wrapping,
)
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.closer import CloserLook
from bncheck.source.timeline.frames import in_frame
from bncheck.source.timeline.mentioned import tells_another_norm
from bncheck.source.timeline.owning import take_in
from bncheck.source.timeline.picked import picks_batch_norm
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import identifiers, mentions
from bncheck.source.timeline.values import (
    Class,
    Constant,
    Container,
    Frame,
    Function,
    Instance,
    Models,
    Opaque,
    Optimizer,
    Outside,
    Partial,
    Value,
)
from bncheck.source.walk import walk_kinds


def construct(run: Run, node: cst.Call, cls: Class, arguments: Arguments) -> Value:
    """Follow the construction of an object of a project class."""
    loader = loaders.loader_class(run, cls)
    if loader is not None:
        return loaders.make_own_loader(run, node, loader, Instance(cls), arguments)
    if (settings := options.of_own_class(run, cls, arguments)) is not None:
        return settings
    network = classes.is_network(run.project, cls)
    name = cls.node.name.value
    qualified = f"{cls.module.name}.{name}"
    wrapped = _wrapped(run, node, cls, arguments)
    if wrapped is not None:
        return wrapped
    if _is_own_container(run, cls):
        made = containers.make_container(run, node, qualified, arguments)
        if isinstance(made, Models):
            for model in made.models:
                model.overrides_train = classes.own_train(run.project, cls)
                run.classes[model] = cls
        return made
    if network is False or (network is UNKNOWN and classes.find(run, cls, "forward") is None):
        instance = Instance(cls)
        _initialise(run, node, cls, instance, arguments)
        return instance
    holds, kinds = ingredients.holds_when(run.project, cls, _constants(cls, arguments))
    if holds is UNKNOWN and picks_batch_norm(run, cls, arguments):
        holds, kinds = True, frozenset({"BatchNorm2d"})
    names_norms = holds is True
    if holds is False:
        holds, kinds = _given_layers(run, arguments)
    if names_norms and (
        isinstance(arguments.keywords.get("norm"), Opaque) or tells_another_norm(node)
    ):
        holds = UNKNOWN  # It is told which norm to make: not BatchNorm, or which is not known.
    if arguments.keywords.get("track_running_stats") == Constant(False):
        holds = False  # There are no statistics for a mode or a freeze to keep.
    declared = run.declared(qualified, name)
    if declared is not None:
        holds, kinds = declared, kinds if declared else frozenset()
    model = Model(
        name,
        Origin.PROJECT,
        qualified,
        run.site(node),
        holds_batch_norm=holds,
        norm_kinds=kinds,
        overrides_train=classes.own_train(run.project, cls),
        driven_by=classes.framework(run.project, cls),
        pretrained=UNKNOWN if classes.may_load(run.project, cls) else False,
    )
    # A wrapper whose own code names no norm is no judge of the network that it is given.
    looks = names_norms and holds is not False and declared is None
    given = _told(run, cls, arguments) if looks else None
    if given is not None:
        definition = Defined(cls.module, name, cls.node)
        model.confirm = CloserLook(definition, run.project, given)
    run.classes[model] = cls
    value = run.make(model)
    _initialise(run, node, cls, value, arguments)
    return value


def _given_layers(run: Run, arguments: Arguments) -> tuple[Fact, frozenset[str]]:
    """Tell what the classes hold that a constructor makes its layers of.

    `ResNet(Bottleneck)`, `Net(norm_layer=nn.BatchNorm2d)`.
    """
    for value in arguments.all():
        while isinstance(value, Partial):
            value = value.value
        match value:
            case Outside(name=name) if name in known.TORCH_BATCH_NORMS:
                return True, frozenset({name.rpartition(".")[2]})
            case Class() if classes.is_network(run.project, value) is True:
                holds, kinds = ingredients.holds(run.project, value)
                if holds is True:
                    return holds, kinds
    return False, frozenset()


_CONTAINERS = frozenset({"torch.nn.Sequential", "torch.nn.ModuleList"})


def _is_own_container(run: Run, cls: Class) -> bool:
    """Tell whether a class is a sequence of what it is given, with a forward pass of its own."""
    family = classes.ancestry(run.project, cls)
    return not _CONTAINERS.isdisjoint(family.external) and not isinstance(
        classes.find(run, cls, "__init__"), Function
    )


def construct_loaded(run: Run, node: cst.Call, cls: Class) -> Value:
    """Follow `Network.load_from_checkpoint(path)`: in train mode, as every new network."""
    made = construct(run, node, cls, Arguments(complete=False))
    for model in made.models if isinstance(made, Models) else ():
        run.emit(LoadWeights(run.site(node), model))
    return made


def _wrapped(run: Run, node: cst.Call, cls: Class, arguments: Arguments) -> Models | None:
    """Return the network that a project's own DataParallel is put around; None: it is no such.

    One of its own threads may well synchronise BatchNorm, so it is none of torch's.
    """
    given = arguments.get(0, "module")
    if not isinstance(given, Models):
        return None
    for base in (*classes.ancestry(run.project, cls).external, cls.node.name.value):
        kind = known.wrapper(base)
        if kind in {WrapKind.DATA_PARALLEL, WrapKind.DISTRIBUTED}:
            kind = kind if kind is WrapKind.DISTRIBUTED else WrapKind.OTHER
            keywords = external.constant_keywords(arguments)
            return wrapping.wrap(run, run.site(node), given, kind, keywords)
    return None


def _constants(cls: Class, arguments: Arguments) -> Given:
    """Return the switches of a constructor that are constants: given so, or left at default.

    A text is one too where a user may give another: what it leaves out is not there as a rule.
    """
    init = classes.members(cls.node).get("__init__")
    found: dict[str, object] = {}
    if isinstance(init, cst.FunctionDef) and arguments.complete:
        for position, parameter in enumerate(init.params.params[1:]):
            name = parameter.name.value
            value = arguments.get(position, name)
            if value is None and parameter.default is not None:
                value = functions.default_of(parameter.default)
            if isinstance(value, Constant) and (
                isinstance(value.value, str)
                or (value.fixed and isinstance(value.value, bool | None))
            ):
                found[name] = value.value
    return frozenset(found.items())


def defaults(cls: Class) -> Given:
    """Return the texts that a network's constructor takes as a rule."""
    given = _constants(cls, Arguments())
    return frozenset((name, value) for name, value in given if isinstance(value, str))


def usually_given(run: Run, cls: Class) -> Given:
    """Return what a network's constructor takes from code that is not known.

    Defaults are usual but for switches, and for what may be left out. Whether there are norms, or
    which, is what the default says all the same: that is seldom told.
    """
    init = classes.find(run, cls, "__init__")
    params = init.node.params if isinstance(init, Function) else cst.Parameters()
    return frozenset(
        (parameter.name.value, UNKNOWN)
        for parameter in (*params.params[1:], *params.kwonly_params)
        if parameter.default is None
        or (
            isinstance(parameter.default, cst.Name)
            and parameter.default.value in {"True", "False", "None"}
            and not _CHOOSES_NORMS.search(parameter.name.value)
        )
    )


_CHOOSES_NORMS = re.compile(r"norm|(?:^|_)bn(?:_|$)", re.IGNORECASE)


def _told(run: Run, cls: Class, arguments: Arguments) -> Given | None:
    """Return what a network's constructor is given, and of `**settings` what is usual."""
    given = told.given(run, cls, arguments)
    if given is not None or arguments.complete:
        return given
    usual = dict(usually_given(run, cls))
    return frozenset((usual | told.by_name(run, cls, arguments)).items())


def _initialise(run: Run, node: cst.Call, cls: Class, made: Value, arguments: Arguments) -> None:
    init = classes.find(run, cls, "__init__")
    if isinstance(made, Models) and not classes.changes_modes(run.project, cls):
        if isinstance(init, Function):
            _take_in(run, init, made.models[0], arguments)
        return
    if isinstance(init, Function):
        if isinstance(made, Instance) and not _SETS_ALL.isdisjoint(mentions(init.node)):
            _keep(run, made, arguments)
        functions.follow(run, node, classes.bound(init, made), arguments)
    elif isinstance(made, Instance):
        _keep(run, made, arguments)


_SETS_ALL = frozenset({"setattr", "__dict__"})
"""What a constructor names that keeps all of its keywords: `setattr(self, name, value)`."""


def _keep(run: Run, made: Instance, arguments: Arguments) -> None:
    """Note that an object keeps what it is given by keywords."""
    for keyword, value in arguments.keywords.items():
        if keyword != "*":
            run.heap.set(made, keyword, value)


def _take_in(run: Run, init: Function, made: Model, arguments: Arguments) -> None:
    """Note the networks that a constructor is given, alone or in a list, or makes, and keeps.

    A network that trains another keeps its optimizer, too.
    """
    if not isinstance(init.node, cst.FunctionDef):
        return
    given: dict[str, Models] = {}
    makers: dict[str, Class | Function | Instance | Outside] = {}
    optimizers: dict[str, Optimizer] = {}
    lists: dict[str, list[Model]] = {}
    for position, parameter in enumerate(init.node.params.params[1:]):
        value = arguments.get(position, parameter.name.value)
        if isinstance(value, Models):
            given[parameter.name.value] = value
        elif isinstance(value, Class | Function | Instance | Outside):
            makers[parameter.name.value] = value
        elif isinstance(value, Optimizer):
            optimizers[parameter.name.value] = value
        elif isinstance(value, Container):
            networks = [one for one in value.elements if isinstance(one, Models)]
            lists[parameter.name.value] = [model for one in networks for model in one.models]
    if given:
        _hand_up(run, init, made, given)
    matters = given or makers or optimizers or lists
    for attribute, expression in classes.kept(init.node) if matters else ():
        match expression:
            case cst.Call(
                func=cst.Attribute(value=cst.Name(value=name), attr=cst.Name(value=method)),
                args=[],
            ) if isinstance(maker := makers.get(name), Instance):
                part = _made_by(run, run.classes[made], expression, maker, method)
                take_in(run, made, attribute, part)
            case cst.Call(
                func=cst.Attribute(value=cst.Name(value=name), attr=cst.Name(value=method))
            ) if isinstance(maker := makers.get(name), Instance):
                if _makes_batch_norm(run, maker, method):
                    made.holds_batch_norm = True
            case cst.Call(func=cst.Name(value=name)) if name in makers:
                if choices.holds(run, makers[name]) is True:
                    made.holds_batch_norm = True
            case cst.Name(value=name) if name in given:
                take_in(run, made, attribute, given[name])
            case cst.Name(value=name) if name in optimizers:
                run.heap.set(made, attribute, optimizers[name])
            case cst.Attribute(value=cst.Name(value=name), attr=part) if name in given:
                parts = tuple(run.part(model, part.value) for model in given[name].models)
                _inherit(made, parts)
            case cst.Call(args=[cst.Arg(value=cst.Name(value=name))]) if name in lists:
                # nn.ModuleList(encoders)
                _inherit(made, lists[name])
            case cst.Call():
                # nn.Sequential(*list(network.children())[:-1])
                called = identifiers(expression)
                for name in given.keys() & called if "children" in called else ():
                    _inherit(made, given[name].models)


def _hand_up(run: Run, init: Function, made: Model, given: Mapping[str, Models]) -> None:
    """Follow `super().__init__(backbone)`: a base class keeps the networks that it is given."""
    cls = run.classes.get(made)
    for call in walk_kinds(init.node.body, (cst.Call,)):
        match call.func:
            case cst.Attribute(
                value=cst.Call(func=cst.Name(value="super")), attr=cst.Name(value="__init__")
            ) if call.args and cls is not None and init.owner is not None:
                above = classes.find_above(run, cls, init.owner, "__init__")
                handed = Arguments()
                for argument in call.args:
                    name = argument.value.value if isinstance(argument.value, cst.Name) else ""
                    value = given.get(str(name), Opaque())
                    if argument.keyword is not None:
                        handed.keywords[argument.keyword.value] = value
                    else:
                        handed.positional.append(value)
                if isinstance(above, Function):
                    _take_in(run, above, made, handed)


def _makes_batch_norm(run: Run, maker: Instance, method: str) -> bool:
    """Tell whether a method of an object that a constructor is given makes BatchNorm."""
    found = classes.find(run, maker.cls, method)
    if not isinstance(found, Function) or not isinstance(found.node, cst.FunctionDef):
        return False
    return ingredients.made_by(run.project, found.node, found.module) is True


def _made_by(run: Run, cls: Class, node: cst.Call, maker: Instance, method: str) -> Value:
    """Return what a method of an object that a constructor is given makes."""
    with in_frame(run, Frame(cls.module, f"{cls.node.name.value}.__init__")):
        return calls.method(run, node, maker, method, Arguments())


def _inherit(made: Model, parts: Sequence[Model]) -> None:
    for part in parts:
        if part.holds_batch_norm is True:
            made.holds_batch_norm = True
            made.norm_kinds |= part.norm_kinds

"""Follows calls of models and of their methods."""

from __future__ import annotations

import re
from dataclasses import replace

import libcst as cst

from bncheck.events import (
    DeviceMove,
    ForwardCall,
    LoadWeights,
    Mode,
    ModeChange,
    Model,
    Origin,
    RequiresGrad,
    Target,
)
from bncheck.graph import UNKNOWN
from bncheck.source.module import dotted
from bncheck.source.timeline import (
    averages,
    checkpoints,
    classes,
    construction,
    containers,
    external,
    functions,
    lightning,
    parts,
)
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.placing import place_before
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import identifiers, mentions, names_in_order
from bncheck.source.timeline.values import (
    Class,
    Constant,
    Function,
    Instance,
    Members,
    Models,
    Opaque,
    Outside,
    StateDict,
    Tensor,
    Value,
    truth,
)
from bncheck.source.walk import walk_kinds

_RETURN_SELF = frozenset(
    """
    to cuda cpu half float double bfloat16 share_memory type requires_grad_ apply train eval
    to_empty ipu xpu
    """.split()  # noqa: SIM905
)
_FORWARDS = frozenset({"forward", "__call__", "forward_features", "extract_features"})
_WITHOUT_EFFECT = frozenset(
    """
    zero_grad register_buffer register_parameter register_forward_hook add_module
    register_forward_pre_hook register_backward_hook register_full_backward_hook register_module
    get_submodule get_parameter get_buffer buffers named_buffers extra_repr compile set_extra_state
    get_extra_state named_children __repr__ save save_pretrained init_weights initialize
    initialize_weights print_network print_trainable_parameters get_num_params num_parameters
    count_parameters size dim device parameters_count log info get_classifier reset_classifier
    no_sync get_optimizer configure_optimizers gradient_checkpointing_enable
    load_state_dict_from_url enable_input_require_grads tie_weights resize_token_embeddings
    get keys numel clone detach copy_ fill_ zero_ normal_ uniform_ item view view_as reshape norm
    abs sum mean tolist numpy
    __setattr__
    """.split()  # noqa: SIM905
)
_IN_FORWARD = frozenset({"no_grad", "inference_mode", "checkpoint", "eval", "train"})
"""Without one of these a network's forward does nothing that the timeline tells of."""


_SYNCHRONISED = re.compile(r"sync\w*?_?(?:bn|batch_?norm)", re.IGNORECASE)


def note_synchronised(made: Models, arguments: Arguments) -> None:
    """Note that networks are made with a norm such as `norm_layer=DistSyncBatchNorm`."""
    for given in arguments.all():
        match given:
            case Class(node=node) if _SYNCHRONISED.search(node.name.value):
                pass
            case Outside(name=name) if _SYNCHRONISED.search(name.rpartition(".")[2]):
                pass
            case _:
                continue
        for model in made.models:
            model.synchronised = True


def class_of(run: Run, value: Value) -> Class | None:
    """Return the project class of an object."""
    match value:
        case Instance(cls=cls):
            return cls
        case Models(models=[model]):
            return run.classes.get(model)
        case Class():
            return value
    return None


def forward(run: Run, node: cst.Call, value: Models, arguments: Arguments) -> Value:
    """Follow a call of a model."""
    given = _input(arguments)
    names = tuple(
        dict.fromkeys(name for argument in node.args for name in names_in_order(argument.value))
    )
    made_of = _made_of(run, names) if given.volatile or not run.records_gradients else ()
    called = (dotted(node.func) or "").removesuffix(".forward")
    if isinstance(run.look_up(called.partition(".")[0]), Outside | None):
        called = ""  # nn.parallel.data_parallel(network, images)
    for model in value.models:
        run.ran[model] = None
        run.emit(
            ForwardCall(
                run.site(node),
                model,
                given.batch_size,
                given.made_up,
                run.discarded is node,
                names,
                made_of,
                place_before(run, model, called),
                given.loader,
                called,
                given.volatile,
                given.unpacked,
            )
        )
        cls = run.classes.get(model)
        found = classes.find(run, cls, "forward") if cls is not None else None
        if isinstance(found, Function) and (model.driven_by or mentions(found.node) & _IN_FORWARD):
            functions.follow(run, node, classes.bound(found, Models((model,))), arguments)
    return Tensor(made_up=given.made_up, volatile=given.volatile)


_HOPS = 3


def _made_of(run: Run, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in what some names of the function were assigned, and so on."""
    found: dict[str, None] = {}
    waiting = names
    for _ in range(_HOPS):
        values = [run.frame.assigned[name] for name in waiting if name in run.frame.assigned]
        waiting = tuple(n for value in values for n in names_in_order(value) if n not in found)
        found.update(dict.fromkeys(waiting))
    return tuple(found)


def _input(arguments: Arguments) -> Tensor:
    given = arguments.all()
    tensors = [value for value in given if isinstance(value, Tensor)]
    if not tensors:
        return Tensor()
    # What stands behind something unknown may be a number of its own, such as a time step.
    first = tensors[0] if given[0] is tensors[0] else tensors[0].of_size(UNKNOWN)
    return replace(first, volatile=any(tensor.volatile for tensor in tensors))


def method(
    run: Run,
    node: cst.Call,
    model: Model,
    name: str,
    arguments: Arguments,
    inherited: bool = False,
) -> Value:
    """Follow `model.name(...)`; `inherited`: what `super()` has."""
    own = Models((model,))
    cls = run.classes.get(model)
    found = classes.find(run, cls, name) if cls is not None and not inherited else None
    if isinstance(found, Function) and not (
        name in {"train", "eval"} and _switches_mode(found, arguments)
    ):
        if name in _FORWARDS:
            return forward(run, node, own, arguments)
        return functions.follow(run, node, classes.bound(found, own), arguments)
    match name:
        case "train" | "eval":
            _change_mode(run, node, model, name, arguments)
        case "load_state_dict":
            if averages.loaded(run, node, model, arguments):
                return Opaque()
            strict = arguments.get(1, "strict")
            known = truth(strict) if strict is not None else True
            run.emit(LoadWeights(run.site(node), model, UNKNOWN if known is None else known))
        case "state_dict":
            return StateDict(model)
        case "requires_grad_":
            value = arguments.get(0, "requires_grad")
            on = truth(value) if value is not None else True
            run.emit(RequiresGrad(run.site(node), model, UNKNOWN if on is None else on))
        case "set_grad_checkpointing":
            wanted = arguments.get(0, "enable")
            if model.origin is Origin.ZOO and (wanted is None or truth(wanted) is not False):
                checkpoints.checkpoint(run, node, name, own)
        case "to" | "cuda" | "cpu":
            run.emit(DeviceMove(run.site(node), model, _device(name, arguments)))
        case "apply":
            _apply(run, node, model, arguments)
        case "parameters" | "named_parameters":
            return Members(model, parameters=True)
        case "modules" | "named_modules" | "children" | "named_children" | "values" | "items":
            return Members(model, parameters=False)
        case "get_submodule" | "__getattr__":
            first = arguments.get(0, "target")
            label = str(first.value) if isinstance(first, Constant) else "[]"
            return Models((run.part(model, label),))
        case "save" | "_save_for_lite_interpreter":
            external.save_script(run, model)
            return Opaque()
        case "load_from_checkpoint" if model in run.classes:
            return construction.construct_loaded(run, node, run.classes[model])
        case "save_hyperparameters":
            lightning.save_hyperparameters(run, model, arguments)
        case "append" | "extend" | "insert" | "add_module" if _is_container(model):
            containers.add(run, model, name, arguments)
        case _ if name in _FORWARDS or name == "module":
            return forward(run, node, own, arguments)
        case _ if name in _RETURN_SELF:
            return own
        case _ if name in _WITHOUT_EFFECT:
            return Opaque()
        case _:
            return _other_method(run, node, model, name, arguments, inherited)
    return own


def _switches_mode(found: Function, arguments: Arguments) -> bool:
    """Tell `train(mode)` from a training procedure that is called `train`."""
    assert isinstance(found.node, cst.FunctionDef)
    return len(found.node.params.params) <= 2 and len(arguments.all()) <= 1


_TRAINS = re.compile(r"(?:^|_)train(?:ing)?$|^(?:mode|phase|split|stage)$", re.IGNORECASE)
"""Names of flags that say whether a network is trained."""


def _change_mode(run: Run, node: cst.Call, model: Model, name: str, arguments: Arguments) -> None:
    mode, by_flag = Mode.EVAL, False
    if name == "train":
        value = arguments.get(0, "mode")
        known = truth(value) if value is not None else True
        mode = Mode.UNKNOWN if known is None else Mode.TRAIN if known else Mode.EVAL
        said = {name for argument in node.args for name in identifiers(argument.value)}
        by_flag = known is None and any(map(_TRAINS.search, said))
    statement = run.site(run.statement) if run.statement is not None else None
    run.emit(ModeChange(run.site(node), model, mode, Target.WHOLE, (), statement, by_flag))


def _device(name: str, arguments: Arguments) -> str:
    if name != "to":
        return name
    first = arguments.get(0, "device")
    return str(first.value) if isinstance(first, Constant) and first.value else ""


def _apply(run: Run, node: cst.Call, model: Model, arguments: Arguments) -> None:
    function = arguments.get(0, "fn")
    if isinstance(function, Function):
        members = Arguments([Members(model, parameters=False, one=True)])
        functions.follow(run, node, function, members)
    elif function is not None:
        run.escape(node, [Models((model,))], "apply")


def _is_container(model: Model) -> bool:
    return model.type_name in {"torch.nn.ModuleList", "torch.nn.ModuleDict", "torch.nn.Sequential"}


def _other_method(
    run: Run, node: cst.Call, model: Model, name: str, arguments: Arguments, inherited: bool
) -> Value:
    part = run.heap.get(model, name)
    if isinstance(part, Models):
        return forward(run, node, part, arguments)
    if isinstance(part, Opaque) and (part.type_name or part.model):
        if part.model is None:
            return Tensor()
        return forward(run, node, run.promote(part), arguments)
    if inherited or model.origin is Origin.SELF:
        return Opaque()
    cls = run.classes.get(model)
    made = cls is not None and any(
        name in parts.parts(ancestor.node)
        for ancestor in classes.ancestry(run.project, cls).project
    )
    lone = model.origin in {Origin.PROJECT, Origin.ZOO} and name.islower() and len(node.args) == 1
    if made or lone:
        return forward(run, node, Models((run.part(model, name),)), arguments)
    itself = [] if cls is not None and _keeps_a_function(run, cls, name) else [Models((model,))]
    run.escape(node, [*itself, *arguments.all()], name)
    return Opaque(name)


def _keeps_a_function(run: Run, cls: Class, name: str) -> bool:
    """Tell whether a network keeps something under a name that knows nothing of the network."""
    for ancestor in classes.ancestry(run.project, cls).project:
        init = classes.members(ancestor.node).get("__init__")
        for kept, value in classes.kept(init) if isinstance(init, cst.FunctionDef) else ():
            if kept == name:
                return not any(
                    isinstance(argument.value, cst.Name) and argument.value.value == "self"
                    for argument in walk_kinds(value, (cst.Arg,))
                )
    return False

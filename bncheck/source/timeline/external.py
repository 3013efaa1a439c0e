"""Calls of what is outside the project: torch, model libraries, argparse, frameworks."""

from __future__ import annotations

import libcst as cst

from bncheck.events import (
    Copied,
    Export,
    ExportKind,
    Fact,
    Mode,
    ModeChange,
    Model,
    OptimizerStep,
    Origin,
    ProcessGroup,
    UpdateStatistics,
    Wrap,
    WrapKind,
)
from bncheck.graph import UNKNOWN
from bncheck.source.timeline import (
    at_once,
    batches_of_one,
    built_by_timm,
    calls,
    checkpoints,
    commandline,
    files,
    handed_on,
    hydra,
    instantiated,
    iterables,
    known,
    library_epochs,
    lightning,
    lookups,
    model_libraries,
    networks,
    optimizers,
    options,
    sums,
    typed_options,
    weights,
    wrapping,
    zoo,
)
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.averages import averages_equally
from bncheck.source.timeline.containers import make_container
from bncheck.source.timeline.known import HARMLESS_DECORATORS as HARMLESS_DECORATORS
from bncheck.source.timeline.loaders import make_loader
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.values import (
    Class,
    Constant,
    Container,
    Data,
    Function,
    Members,
    Models,
    Opaque,
    Optimizer,
    Partial,
    Tensor,
    Value,
    truth,
)

_MADE_UP = frozenset({"randn", "rand", "zeros", "ones", "empty", "full", "randint"})
_OF_MODULES = known.PARAMETERS | {"modules", "named_modules", "children", "named_children"}
_OF_MODULES_AND_TENSORS = frozenset(
    "load_state_dict train state_dict cuda to half forward requires_grad_".split()  # noqa: SIM905
)
_IN_ORDER = frozenset({"enumerate", "reversed", "list", "tuple", "iter"})
"""What goes over the layers of a container one by one."""
_DICTS = frozenset({"dict", "collections.OrderedDict"})
_OPTIMIZER = ("optim", "opt", "solver")
_LOADS = {"torch.load", "torch.jit.load", "torch.hub.load"}
_SEQUENTIAL = {
    "torch.nn.Sequential", "torch.nn.ModuleList", "torch.nn.ModuleDict",
    "torchvision.models._utils.IntermediateLayerGetter",
    "torchvision.models.feature_extraction.create_feature_extractor",
}  # fmt: skip
"""What is made of the layers that it is given, or of those of a network."""


def call(run: Run, node: cst.Call, name: str, arguments: Arguments) -> Value:
    """Follow a call of a function from outside the project, by its qualified name."""
    last = name.rpartition(".")[2]
    if name.startswith("torch.nn.modules."):
        name = f"torch.nn.{last}"
    first = arguments.positional[0] if arguments.positional else None
    if first is None and arguments.keywords:
        first = next(iter(arguments.keywords.values()))
    declared = run.declared(name)
    if declared is not None:
        return run.make_declared(node, name, declared)
    special = _on_a_model(run, node, name, first, arguments)
    if special is not None:
        return special
    if (changed := at_once.call(run, node, name, arguments)) is not None:
        return changed
    made = weights.of_call(name, arguments) or library_epochs.make(run, node, name, arguments)
    if made is not None:
        return made
    if name in known.LOADERS:
        return make_loader(run, node, known.LOADERS[name], arguments)
    if name in _LOADS:
        return _load(run, node, name, arguments)
    if last == "from_pretrained":
        return _from_pretrained(run, node, name, first)
    if name in _SEQUENTIAL:
        return make_container(run, node, name, arguments)
    if (built := built_by_timm.call(run, node, name, first, arguments)) is not None:
        return built
    holds = zoo.holds(name, first)
    if holds is not None:
        return zoo.make(run, node, name, holds, arguments)
    if last in _MADE_UP and name.startswith("torch."):
        return Tensor(_first_dimension(arguments), made_up=True)
    if (tensor := batches_of_one.of_call(name, first, arguments)) is not None:
        return tensor
    if name == "dict" and isinstance(first, Members):
        return first
    if name in _DICTS and (copied := options.dict_of(run, arguments)) is not None:
        return copied
    if (settings := options.made(run, name, arguments)) is not None:
        return settings
    if (parsed := typed_options.call(run, node, name, arguments)) is not None:
        return parsed
    for read in (files.call, hydra.call):
        if (found := read(run, name, arguments)) is not None:
            return found
    if (named := instantiated.call(run, node, name, arguments)) is not None:
        return named
    if name == "argparse.ArgumentParser" or last == "ArgumentParser":
        return commandline.made(arguments)
    if name == "apex.amp.initialize":
        return iterables.handed_back(arguments)
    if name.endswith("init_process_group"):
        run.emit(ProcessGroup(run.site(node)))
        return Opaque()
    named = lookups.call(run, node, name, first, arguments)
    if named is not None:
        return named
    if (started := handed_on.call(run, node, name, arguments)) is not None:
        return started
    if name == "next" and isinstance(first, Data):
        return Tensor(first.loader.batch_size, loader=first.loader)
    if name == "type" and isinstance(first, Members) and first.one:
        return first
    if name == "functools.partial" and first is not None and arguments.complete:
        return Partial(first, tuple(arguments.positional[1:]), arguments.keywords)
    if name == "map" and isinstance(first, Function):
        return iterables.mapped(run, node, first, arguments)
    if name == "zip":
        pairs = iterables.zipped(run, arguments)
        if pairs is not None:
            return pairs
    if last in known.PASS_THROUGH:
        if last in _IN_ORDER and isinstance(first, Models) and len(arguments.all()) == 1:
            return first
        return iterables.passed_through(run, arguments)
    if optimizers.is_built(name, arguments):
        return optimizers.build(run, node, arguments)
    if last in {"DistributedSampler", "BatchSampler"}:
        told = arguments.get(1, "batch_size") if last == "BatchSampler" else None
        size = told.value if isinstance(told, Constant) else None
        at_most = size if isinstance(size, int) else UNKNOWN
        return Opaque(last, run.site(node), name, at_most=at_most)
    if name == "torch.utils.data.TensorDataset" and isinstance(first, Tensor):
        return Opaque(last, run.site(node), name, length=first.batch_size)
    if name.startswith("torchvision.datasets.") and last in known.DATASET_LENGTHS:
        train = arguments.get(1, "train")
        length = known.DATASET_LENGTHS[last][0 if train is None else not truth(train)]
        unsure = train is not None and truth(train) is None
        return Opaque(last, run.site(node), name, length=UNKNOWN if unsure else length)
    if name.startswith("torch.nn.") and last[:1].isupper():
        return Opaque(last, run.site(node), name)
    if name in known.HARMLESS or name.startswith(known.HARMLESS_PREFIXES):
        return Tensor() if name.startswith("torch.nn.functional.") else Opaque(last)
    if known.OF_TENSORS.match(name) or (
        name.startswith("torch.") and not any(run.reachable(v) for v in arguments.all())
    ):
        return Opaque(last)
    return calls.unknown_call(run, node, name, arguments.all())


def _on_a_model(
    run: Run, node: cst.Call, name: str, first: Value | None, arguments: Arguments
) -> Value | None:
    """Follow what wraps, exports, copies or checkpoints a model; None: it is something else."""
    last = name.rpartition(".")[2]
    site = run.site(node)
    if last == "update_bn" or name.endswith("precise_bn.update_bn_stats"):
        for value in arguments.all():
            for model in run.reachable(value):
                run.emit(UpdateStatistics(site, model))
        return Opaque()
    if name in known.CHECKPOINTS:
        checkpoints.checkpoint(run, node, name, first)
        return Tensor()
    if name in known.RUNS:
        network = arguments.get(*known.RUNS[name])
        given = [value for value in arguments.all() if value is not network]
        if network is not None:
            return calls.call_value(run, node, network, Arguments(given))
    if name in known.KEEPS_OF_SCRIPTS and isinstance(first, Models):
        for model in first.models:
            save_script(run, model)
        return Opaque()
    kind = known.wrapper(name)
    averages = known.AVERAGES.search(name)
    wraps = kind or averages or name in known.EXPORTERS
    if (
        wraps
        and isinstance(first, Opaque)
        and (run.looks_like_a_model(first) or first.type_name.startswith("torch.nn."))
    ):
        first = run.promote(first)
    if not isinstance(first, Models):
        return None
    keywords = constant_keywords(arguments)
    if name in known.EXPORTERS:
        if run.discarded is node and known.EXPORTERS[name] is ExportKind.TRACE:
            return Opaque("exported")  # nothing is deployed of what nothing keeps
        for model in first.models:
            if name == "torch.jit.script":
                run.scripted[model] = site
            run.emit(Export(site, model, known.EXPORTERS[name], keywords, name))
        if known.EXPORTERS[name] in {ExportKind.TRACE, ExportKind.PROGRAM, ExportKind.ONNX}:
            return Opaque("exported")
    if kind is not None:
        return wrapping.wrap(run, site, first, kind, keywords, run.discarded is not node)
    if averages:
        for position, keyword in ((2, "avg_fn"), (3, "multi_avg_fn")):
            if averages_equally(arguments.get(position, keyword)):
                keywords.pop(keyword, None)
        copies = [_copy(run, node, model, keywords, name) for model in first.models]
        return Models(tuple(copies))
    if name == "copy.deepcopy":
        return Models(tuple(_copy(run, node, model) for model in first.models))
    return first if name in known.EXPORTERS else None


def save_script(run: Run, model: Model) -> None:
    """Follow the saving of what may be a scripted model: its mode is kept too."""
    site = run.scripted.get(model)
    if site is not None:
        run.emit(Export(site, model, ExportKind.SCRIPT, {}, "torch.jit.script", saved=True))


def _copy(
    run: Run,
    node: cst.Call,
    model: Model,
    wrapped: dict[str, object] | None = None,
    name: str = "",
) -> Model:
    site = run.site(node)
    copied = Model(
        "",
        model.origin,
        model.type_name,
        site,
        model.holds_batch_norm,
        model.norm_kinds,
        model.pretrained,
        model.starts_in_eval,
        overrides_train=model.overrides_train,
        driven_by=model.driven_by,
        confirm=model.confirm,
    )
    if model in run.classes:
        run.classes[copied] = run.classes[model]
    run.models.append(copied)
    run.emit(Copied(site, copied, model))
    if wrapped is not None:
        if known.AVERAGES_IN_EVAL.search(name):
            run.emit(ModeChange(site, copied, Mode.EVAL))
        run.emit(Wrap(site, model, WrapKind.AVERAGED, wrapped, True, copied, name))
    return copied


def constant_keywords(arguments: Arguments) -> dict[str, object]:
    """Return keyword arguments that are constants, the others but networks as UNKNOWN."""
    return {
        keyword: value.value if isinstance(value, Constant) else UNKNOWN
        for keyword, value in arguments.keywords.items()
        if not (isinstance(value, Models) or keyword == "*")
    }


def _load(run: Run, node: cst.Call, name: str, arguments: Arguments) -> Value:
    """Follow torch.load: a model perhaps, so it becomes one only when it is used as one."""
    if name == "torch.load":
        return Opaque("", run.site(node), "torch.load")
    holds: Fact = UNKNOWN
    starts: Fact = UNKNOWN
    if name == "torch.hub.load":
        repository, model_name = (arguments.get(0, "repo_or_dir"), arguments.get(1, "model"))
        if isinstance(model_name, Constant) and isinstance(model_name.value, str):
            holds = model_libraries.by_family(model_name.value)
        if isinstance(repository, Constant) and str(repository.value).startswith("pytorch/vision"):
            starts = False
    return run.make(
        Model("", Origin.LOADED, name, run.site(node), holds, frozenset(), True, starts)
    )


def _from_pretrained(run: Run, node: cst.Call, name: str, first: Value | None) -> Value:
    holds: Fact = UNKNOWN
    starts: Fact = UNKNOWN
    if name.startswith("transformers."):
        owner = name.split(".")[-2]
        if not owner.endswith(("Model",)) and "For" not in owner and "AutoModel" not in owner:
            return Opaque(name, run.site(node), name)
        named = model_libraries.zoo_model(name.rpartition(".")[0], None)
        holds, starts = UNKNOWN if named is None else named, True
    elif name.startswith("efficientnet_pytorch."):
        holds, starts = True, False
    return run.make(Model("", Origin.ZOO, name, run.site(node), holds, frozenset(), True, starts))


def _first_dimension(arguments: Arguments) -> int | Fact:
    first = arguments.get(0, "size")
    if isinstance(first, Container) and first.elements:
        first = first.elements[0]
    if isinstance(first, Constant) and isinstance(first.value, int) and first.value:
        return first.value
    return UNKNOWN


def method_of_unknown(
    run: Run, node: cst.Call, receiver: Opaque | Class, name: str, arguments: Arguments
) -> Value:
    """Follow a method call on something that is not understood, or on a class from outside."""
    given = arguments.all()
    if isinstance(receiver, Class):
        return calls.unknown_call(run, node, name, given)
    if receiver.model is not None or _used_as_a_model(run, receiver, name, arguments):
        promoted = run.promote(receiver)
        return networks.method(run, node, promoted.models[0], name, arguments)
    lowered = receiver.name.lower()
    match name:
        case "fit":
            lightning.fit(run, node, arguments)
        case "run" if logs := library_epochs.follow(run, node, receiver, arguments):
            return logs
        case "backward" | "manual_backward":
            run.emit(sums.backward(run, node))
            return Opaque()
        case "step":
            if (
                any(isinstance(value, Optimizer) for value in given)
                or any(word in lowered for word in _OPTIMIZER)
                or (receiver.type_name and "optim" in receiver.type_name.lower())
            ):
                run.emit(OptimizerStep(run.site(node), run.count))
            return Opaque()
        case "unsqueeze" | "view" | "reshape" | "flatten" if made := batches_of_one.reshaped(
            node, name, arguments
        ):
            return made
        case "prepare" | "setup" | "setup_module" | "initialize":
            run.escape(node, given, name)
            return iterables.handed_back(arguments)
        case "unwrap_model" if given:
            return given[0]
        case "to" | "cuda" | "float" | "half" | "cpu" | "detach" | "type" | "double":
            return receiver
        case "scale" | "loss" | "mean" | "sum" | "item" | "items" | "keys" | "values":
            return Opaque(holds=receiver.holds)
        case _ if name in known.HARMLESS_METHODS:
            return Opaque()
        case _ if name in known.PASS_THROUGH and len(given) == 1 and isinstance(given[0], Data):
            return given[0]
    return calls.unknown_call(run, node, f"{receiver.name}.{name}", [receiver, *given])


def _used_as_a_model(run: Run, receiver: Opaque, name: str, arguments: Arguments) -> bool:
    match name:
        case "eval":
            return not arguments.all()
        case "apply":
            return isinstance(arguments.get(0, "fn"), Function) and len(arguments.all()) == 1
    if name in _OF_MODULES:
        return True
    return name in _OF_MODULES_AND_TENSORS and run.looks_like_a_model(receiver)

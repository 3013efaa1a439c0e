"""Data loaders: their batch size, order and length, as far as they are constants."""

from __future__ import annotations

import re

import libcst as cst

from bncheck.events import Fact, Loader, Number
from bncheck.graph import UNKNOWN
from bncheck.source.outline import body_text
from bncheck.source.timeline import classes, functions
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.known import LOADERS, LoaderClass
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import called, identifiers
from bncheck.source.timeline.values import (
    NONE,
    Class,
    Constant,
    Container,
    Data,
    Function,
    Instance,
    Opaque,
    Outside,
    Partial,
    Value,
    truth,
)
from bncheck.source.walk import walk, walk_kinds


def make_loader(run: Run, node: cst.Call, kind: LoaderClass, arguments: Arguments) -> Value:
    """Follow the construction of a data loader."""
    dataset = arguments.get(kind.dataset, "dataset")
    sampler = arguments.keywords.get("sampler")
    batches = arguments.keywords.get("batch_sampler")
    torchs_own = _gives_batches(batches)
    whole = (batches is not None and not torchs_own) or _gives_batches(sampler)
    told = batches if torchs_own else arguments.get(kind.batch_size, "batch_size")
    size = _size(run, told, arguments)
    loader = Loader(
        "",
        run.site(node),
        batch_size=UNKNOWN if whole else size,
        for_each_device=told.for_each if isinstance(told, Opaque) and not whole else UNKNOWN,
        drop_last=UNKNOWN
        if torchs_own or _holds_whole_batches(run, node) or _is_one_batch(run, node)
        else _drops_last(run, arguments, sampler),
        shuffle=_flag(arguments.get(kind.shuffle, "shuffle"), arguments),
        dataset_length=_length(dataset),
        distributed=_distributed(sampler),
        custom_batches=True
        if kind.graphs or whole or (kind.flattens and _CROPS.search(run.frame.module.text))
        else _decides_batches(run, arguments.keywords.get("collate_fn")),
        graphs=kind.graphs,
        training=_feeds_training(node, arguments),
    )
    run.loaders.append(loader)
    return Data(loader)


def loader_class(run: Run, cls: Class) -> LoaderClass | None:
    """Return the known loader that a class of the project derives from; None: it is no loader."""
    for base in classes.ancestry(run.project, cls).external:
        if base in LOADERS:
            return LOADERS[base]
    return None


def make_own_loader(
    run: Run, node: cst.Call, kind: LoaderClass, made: Instance, arguments: Arguments
) -> Value:
    """Follow the construction of a loader of the project's own class.

    Its arguments are those of the constructor above, and so is its site.
    """
    init = classes.find(run, made.cls, "__init__")
    if isinstance(init, Function):
        functions.follow(run, node, classes.bound(init, made), arguments)
        data = run.heap.get(made, _ABOVE)
    else:
        data = make_loader(run, node, kind, arguments)
    if not isinstance(data, Data):
        return made
    data.loader.training = _feeds_training(node, arguments)
    return Data(data.loader, made)


def construct_above(run: Run, node: cst.Call, made: Instance, arguments: Arguments) -> None:
    """Follow `super().__init__(...)` in the constructor of a loader of the project's own class."""
    kind = loader_class(run, made.cls)
    if kind is not None:
        run.heap.set(made, _ABOVE, make_loader(run, node, kind, arguments))


_ABOVE = "super().__init__"
_CROPS = re.compile(r"\bnum_samples\s*=(?!\s*1\b)")
"""MONAI's transforms that make several samples of one: `RandCropByPosNegLabeld(num_samples=4)`."""
_STACKS = frozenset({"stack", "default_collate", "from_numpy", "pad_sequence"})
_MAKES_A_BATCH = frozenset({"new", "new_zeros", "new_full", "new_ones", "zeros", "full", "ones"})
_JOINS = frozenset(
    """
    cat concat concatenate vstack hstack chain batch Batch from_data_list sparse_collate extend
    repeat SparseTensor
    """.split()  # noqa: SIM905
)


def _decides_batches(run: Run, collate: Value | None) -> Fact:
    """Tell whether a collate function makes other batches than of the samples it is given."""
    match collate:
        case None | Constant(value=None):
            return False
        case Outside(name=name):
            return not name.endswith("default_collate")
        case Partial(value=prepared):
            return _decides_batches(run, prepared)
        case Instance(cls=cls):
            collate = classes.find(run, cls, "__call__")
    if not isinstance(collate, Function):
        return True
    names = called(collate.node)
    if not names & _STACKS and not _pads(run, collate, names):
        return True
    if _takes_single_samples(collate.node):
        return True
    return UNKNOWN if names & _JOINS else False


def _pads(run: Run, collate: Function, names: frozenset[str]) -> bool:
    """Tell whether samples are copied one by one into a larger batch, or a function does that."""
    helpers = (run.module_level(name, collate.module) for name in names)
    nodes = [collate.node, *(helper.node for helper in helpers if isinstance(helper, Function))]
    return any(called(node) & _MAKES_A_BATCH and _fills(node) for node in nodes)


def _fills(node: cst.FunctionDef | cst.Lambda) -> bool:
    """Tell whether a function copies into a part of a tensor: `copy_`, `batch[i, :n] = sample`."""
    if "copy_" in called(node):
        return True
    made, filled = set[str](), set[str]()
    for assignment in walk_kinds(node.body, (cst.Assign,)):
        match assignment.targets[0].target, assignment.value:
            case cst.Name(value=name), cst.Call(func=cst.Attribute(attr=cst.Name(value=maker))):
                if maker in _MAKES_A_BATCH:
                    made.add(name)
            case cst.Subscript(value=cst.Name(value=name)), _:
                filled.add(name)
    return not made.isdisjoint(filled)


def _takes_single_samples(node: cst.FunctionDef | cst.Lambda) -> bool:
    """Tell whether a collate function only asks for samples by their number: `batch[0]`."""
    given = [
        parameter.name.value for parameter in node.params.params if parameter.name.value != "self"
    ]
    if not given:
        return False
    uses = single = 0
    for part in walk(node.body):
        match part:
            case cst.Name(value=name) if name == given[0]:
                uses += 1
            case cst.Subscript(
                value=cst.Name(value=name),
                slice=[cst.SubscriptElement(slice=cst.Index(value=cst.Integer()))],
            ) if name == given[0]:
                single += 1
    return uses == single > 0


def _size(run: Run, value: Value | None, arguments: Arguments) -> Number:
    """Return how many samples a batch holds, or at most where even those are too few."""
    match value:
        case None:
            return 1 if arguments.complete else UNKNOWN
        case Constant(value=int(size)):
            return size
        case Opaque(at_most=int(size)) if size < run.settings.minimum_batch_size:
            return size
    return UNKNOWN


def _flag(value: Value | None, arguments: Arguments) -> Fact:
    if value is None:
        return False if arguments.complete else UNKNOWN
    if isinstance(value, Constant) and isinstance(value.value, bool) and not value.fixed:
        return value.value
    known = truth(value)
    return UNKNOWN if known is None else known


def _holds_whole_batches(run: Run, node: cst.Call) -> bool:
    """Tell whether a dataset is told to be as long as so many batches.

    `Pictures(root, max_iters=args.num_steps * args.batch_size)`
    """
    given = node.args[0].value if node.args else None
    for argument in node.args:
        if argument.keyword is not None and argument.keyword.value == "dataset":
            given = argument.value
    made = run.frame.assigned.get(given.value) if isinstance(given, cst.Name) else given
    return isinstance(made, cst.Call) and any(
        isinstance(product.operator, cst.Multiply)
        and any("batch" in name.lower() for name in identifiers(product))
        for product in walk_kinds(made, (cst.BinaryOperation,))
    )


def _is_one_batch(run: Run, node: cst.Call) -> bool:
    """Tell whether a batch is as large as the data: `batch_size=x.size(0)`, `len(dataset)`."""
    for argument in node.args:
        if argument.keyword is not None and argument.keyword.value == "batch_size":
            given = argument.value
            match run.frame.assigned.get(given.value) if isinstance(given, cst.Name) else given:
                case cst.Call(
                    func=cst.Name(value="len") | cst.Attribute(attr=cst.Name(value="size"))
                ):
                    return True
                case cst.Subscript(value=cst.Attribute(attr=cst.Name(value="shape"))):
                    return True
    return False


def _drops_last(run: Run, arguments: Arguments, sampler: Value | None) -> Fact:
    """Tell whether the last batch is left out.

    UNKNOWN: a sampler of the project's sees to it, or a function that asks what is left over.
    """
    drops = _flag(arguments.keywords.get("drop_last"), arguments)
    if drops is False and (isinstance(sampler, Instance) or _asks_what_is_left_over(run)):
        return UNKNOWN
    return drops


def _asks_what_is_left_over(run: Run) -> bool:
    """Tell whether the function that is followed compares: `len(dataset) % batch_size == 1`."""
    function = run.stack[-1] if run.stack else None
    if not isinstance(function, cst.FunctionDef) or "%" not in (body_text(function) or "%"):
        return False
    return any(
        isinstance(left.operator, cst.Modulo)
        and any(_BATCH_SIZE.search(name) for name in identifiers(left.right))
        for comparison in walk_kinds(function.body, (cst.Comparison,))
        if any(_is_one_or_two(target.comparator) for target in comparison.comparisons)
        for left in walk_kinds(comparison.left, (cst.BinaryOperation,))
    )


_BATCH_SIZE = re.compile(r"batch|^bsz?$", re.IGNORECASE)


def _is_one_or_two(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Integer) and node.value in ("1", "2")


def _length(dataset: Value | None) -> Number:
    if isinstance(dataset, Container) and dataset.keys is None:
        return len(dataset.elements)
    if isinstance(dataset, Opaque) and isinstance(dataset.length, int):
        return dataset.length
    return UNKNOWN


def _gives_batches(sampler: Value | None) -> bool:
    """Tell whether a sampler is torch's of whole batches."""
    return isinstance(sampler, Opaque) and sampler.type_name.endswith(".BatchSampler")


def _distributed(sampler: Value | None) -> Fact:
    if sampler is None or sampler == NONE:
        return False
    if isinstance(sampler, Opaque) and sampler.type_name.endswith("DistributedSampler"):
        return True
    return UNKNOWN


def _feeds_training(node: cst.Call, arguments: Arguments) -> Fact:
    if any(_says_train_false(part) for part in walk(node)):
        return False
    words = {text for part in walk(node) if (text := _text(part)) is not None}
    names = " ".join(identifiers(node) | words).lower()
    if any(word in names for word in ("val", "test", "eval", "infer", "predict")):
        return UNKNOWN if "train" in names else False
    if "train" in names or _flag(arguments.keywords.get("shuffle"), arguments) is True:
        return True
    return UNKNOWN


def _text(node: cst.CSTNode) -> str | None:
    """Return the text of a string, such as the "train" of `partition="train"`."""
    return node.raw_value if isinstance(node, cst.SimpleString) else None


def _says_train_false(node: cst.CSTNode) -> bool:
    """Tell whether this is the argument `train=False`, as torchvision's data sets take it."""
    match node:
        case cst.Arg(keyword=cst.Name("train"), value=cst.Name("False")):
            return True
    return False

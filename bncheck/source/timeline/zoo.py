"""Models of known libraries, as a script makes them."""

from __future__ import annotations

import libcst as cst

from bncheck.events import Fact, Model, Origin
from bncheck.graph import UNKNOWN
from bncheck.source.literals import literal
from bncheck.source.timeline import model_libraries
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.owning import take_in
from bncheck.source.timeline.run import Run
from bncheck.source.timeline.syntax import identifiers
from bncheck.source.timeline.values import Constant, Models, Opaque, Value, truth
from bncheck.source.walk import walk_kinds

_ALWAYS_TRAINED = frozenset({"pytorch_fid.inception.InceptionV3"})


def holds(name: str, told: Value | None) -> Fact | None:
    """Tell whether what a library's function makes holds BatchNorm; None: it makes no model.

    Of several names that it may be told one with BatchNorm counts.
    """
    match told:
        case Constant(value=value):
            return model_libraries.zoo_model(name, value)
        case Opaque(texts=(_, *_) as texts):
            found = [model_libraries.zoo_model(name, text) for text in texts]
            return True if True in found else found[0]
    return model_libraries.zoo_model(name, None)


def make(run: Run, node: cst.Call, name: str, holds: Fact, arguments: Arguments) -> Value:
    """Make the model that a library's function returns."""
    for argument in node.args:
        if argument.keyword is not None and argument.keyword.value == "norm_layer":
            holds = model_libraries.by_norm_layer(identifiers(argument.value), holds)
        if argument.keyword is not None and argument.keyword.value in {"norm", "norm_name"}:
            texts = walk_kinds(argument.value, (cst.SimpleString,))
            named = {*identifiers(argument.value), *(str(literal(text)) for text in texts)}
            holds = model_libraries.by_norm_name(frozenset(named), holds)
    trained: Fact = False
    for keyword in ("pretrained", "weights", "encoder_weights"):
        value = arguments.keywords.get(keyword)
        if value is not None:
            known_value = truth(value)
            trained = UNKNOWN if known_value is None else known_value
            if not isinstance(value, Constant | Opaque):
                trained = True
    if "segmentation_models_pytorch" in name and "encoder_weights" not in arguments.keywords:
        trained = False
    if arguments.positional[:1] == [Constant(True)] or name in _ALWAYS_TRAINED:
        trained = True
    kinds = frozenset({"BatchNorm2d"}) if holds is True else frozenset()
    package, _, function = name.rpartition(".")
    if function in model_libraries.SEGMENTATION_FACTORIES:
        match arguments.positional[:1]:
            case [Constant(str() as told)]:
                name = f"{package}.{told}"
    if name == "segmentation_models_pytorch.create_model":
        match arguments.get(0, "arch"):
            case Constant(str() as told):
                name = f"{package}.{told}"
    made = Model(
        name.rpartition(".")[2], Origin.ZOO, name, run.site(node), holds, kinds, trained, False
    )
    made.by_default = not _is_left_open(name, arguments)
    result = run.make(made)
    backbone = arguments.get(0, "backbone")
    if isinstance(backbone, Models):  # FasterRCNN(backbone, num_classes=2)
        take_in(run, made, "backbone", backbone)
    return result


def _is_left_open(name: str, arguments: Arguments) -> bool:
    """Tell whether only a run's settings say which model of a library it is."""
    last = name.rpartition(".")[2]
    chosen = arguments.get(0, "model_name") if last == "create_model" else None
    return last == "unknown" or isinstance(chosen, Opaque)

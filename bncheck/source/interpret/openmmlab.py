"""OpenMMLab's layers by configuration: what mmcv builds from `dict(type="BN", ...)`.

Its projects write `build_norm_layer(norm_cfg, channels)` where others write
`nn.BatchNorm2d(channels)`. The names are those that mmcv registers itself (mmcv/cnn/bricks); what
a project registers itself is looked for in its files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bncheck.graph import Site
from bncheck.source.configured import NORMS
from bncheck.source.interpret.facts import note
from bncheck.source.interpret.machine import Machine
from bncheck.source.interpret.registries import registry
from bncheck.source.interpret.values import UNKNOWN, Arguments, Dictionary, External, Instance

_CONVOLUTIONS: Final = {
    "Conv": "Conv2d", "Conv1d": "Conv1d", "Conv2d": "Conv2d", "Conv3d": "Conv3d",
}  # fmt: skip
_ACTIVATIONS: Final = (
    "ReLU", "LeakyReLU", "PReLU", "RReLU", "ReLU6", "ELU", "Sigmoid", "Tanh", "GELU", "SiLU",
)  # fmt: skip
_LAYERS: Final = {**NORMS, **_CONVOLUTIONS, **{name: name for name in _ACTIVATIONS}}
_ABBREVIATIONS: Final = {"BatchNorm": "bn", "InstanceNorm": "in", "GroupNorm": "gn"}

Call = Callable[[Machine, Arguments, "Site | None"], object]


def _construct(
    machine: Machine, layer: str, arguments: Arguments, site: Site | None, bias: int
) -> object:
    """Construct a layer of torch.nn whose bias the call takes at another position."""
    from bncheck.source.interpret.calls import call

    made = call(machine, External(f"torch.nn.{layer}"), arguments, site)
    if isinstance(made, Instance) and made.layer is not None and "bias" in made.layer.attributes:
        note(made.layer, "bias_argument", bias)
    return made


def _read(configuration: object, known: dict[str, str]) -> tuple[str, dict[str, object]] | None:
    """Return the layer of torch.nn that a configuration names, and its arguments."""
    if not isinstance(configuration, Dictionary) or configuration.state is None:
        return None
    given = {str(key): value for key, value in configuration.state.items()}
    kind = given.pop("type", None)
    given.pop("requires_grad", None)
    layer = known.get(kind) if isinstance(kind, str) else None
    return None if layer is None else (layer, given)


def _norm(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `mmcv.cnn.build_norm_layer(cfg, num_features, postfix="")` does."""
    configuration = arguments.at(0, arguments.keywords.get("cfg", UNKNOWN))
    features = arguments.at(1, arguments.keywords.get("num_features", UNKNOWN))
    postfix = arguments.at(2, arguments.keywords.get("postfix", ""))
    found = _read(configuration, NORMS)
    if found is None:
        return UNKNOWN
    layer, given = found
    given.setdefault("eps", 1e-5)
    if layer == "GroupNorm":
        built = Arguments([], {"num_channels": features, **given})
    else:
        built = Arguments([features], given)
    short = next((s for name, s in _ABBREVIATIONS.items() if name in layer), "ln")
    name: object = f"{short}{postfix}" if isinstance(postfix, (str, int)) else UNKNOWN
    return (name, _construct(machine, layer, built, site, 0))


def _convolution(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `mmcv.cnn.build_conv_layer(cfg, *args, **kwargs)` does."""
    keywords = dict(arguments.keywords)
    configuration = arguments.at(0, keywords.pop("cfg", UNKNOWN))
    found = ("Conv2d", {}) if configuration is None else _read(configuration, _CONVOLUTIONS)
    if found is None:
        return UNKNOWN
    layer, given = found
    built = Arguments(arguments.positional[1:], {**given, **keywords}, arguments.open)
    return _construct(machine, layer, built, site, 8)


def _build(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `MODELS.build(cfg)` and `build_activation_layer(cfg)` do."""
    found = _read(arguments.at(0, arguments.keywords.get("cfg", UNKNOWN)), _LAYERS)
    if found is None:
        return UNKNOWN
    from bncheck.source.interpret.calls import call

    layer, given = found
    made = call(machine, External(f"torch.nn.{layer}"), Arguments([], given), site)
    if isinstance(made, Instance) and made.layer is not None and "bias" in made.layer.attributes:
        note(made.layer, "bias_argument", UNKNOWN)  # it stands in the configuration
    return made


def _get(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return what `MODELS.get(name)` does."""
    name = arguments.at(0, arguments.keywords.get("key", UNKNOWN))
    layer = _LAYERS.get(name) if isinstance(name, str) else None
    return UNKNOWN if layer is None else External(f"torch.nn.{layer}")


def _registry(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return a project's registry, which finds in its parents what it has not itself."""
    return registry(_get, _build)


def _registry_of_fvcore(machine: Machine, arguments: Arguments, site: Site | None) -> object:
    """Return a registry that has nothing but what the project puts into it."""
    return registry(lambda m, a, s: UNKNOWN, lambda m, a, s: UNKNOWN)


OPENMMLAB_CALLS: Final[dict[str, Call]] = {
    **{
        f"mmcv.cnn.{place}build_{what}_layer": run
        for what, run in (("norm", _norm), ("conv", _convolution), ("activation", _build))
        for place in ("", "bricks.", f"bricks.{what}.")
    },
    **{
        f"{place}.{name}": run
        for place in ("mmengine.registry.MODELS", "mmengine.MODELS", "mmcv.cnn.MODELS")
        for name, run in (("get", _get), ("build", _build))
    },
    **dict.fromkeys(
        ("mmengine.registry.Registry", "mmengine.Registry", "mmcv.utils.Registry"), _registry
    ),
    **dict.fromkeys(
        ("fvcore.common.registry.Registry", "detectron2.utils.registry.Registry"),
        _registry_of_fvcore,
    ),
}

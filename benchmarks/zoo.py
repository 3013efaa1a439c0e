"""Real architectures with BatchNorm, built without weights, with seeded random statistics.

`models()` yields every entry of `ENTRIES` whose package imports; `unavailable()` says which
packages do not and why. torchvision's compiled operators need not load: classifiers use none of
them. Nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from zoo_entries import ENTRIES, Entry


@dataclass(frozen=True)
class ZooModel:
    """One architecture: how to build it, in eval mode, and what to feed it."""

    name: str
    package: str
    constructor: str
    """`module:callable`, for those who want the class or its source."""
    build: Callable[[], nn.Module]
    """Builds the model with its random weights and statistics, the same at every call."""
    example_inputs: tuple[Tensor, ...]
    """Batch of two, float32 (or integer where the model reads indices)."""

    def inputs(self, batch: int, seed: int = 1) -> tuple[Tensor, ...]:
        """Return other inputs of this model with the batch size given."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            torch.randn((batch, *example.shape[1:]), generator=generator)
            if example.is_floating_point()
            else example[:1].repeat(batch, *[1] * (example.dim() - 1))
            for example in self.example_inputs
        )


def batch_norms(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules that hold running statistics, by their buffers and not their class."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(getattr(module, "running_mean", None), Tensor)
        and isinstance(getattr(module, "running_var", None), Tensor)
    ]


def models(names: Iterable[str] | None = None) -> Iterator[ZooModel]:
    """Yield the zoo, or the models whose name or package is among `names`."""
    wanted = None if names is None else set(names)
    missing = unavailable()
    for entry in ENTRIES:
        package = _package(entry)
        if package in missing:
            continue
        if wanted is not None and not {entry.name, package} & wanted:
            continue
        yield ZooModel(
            name=entry.name,
            package=package,
            constructor=entry.constructor,
            build=functools.partial(_build, entry),
            example_inputs=_example_inputs(entry, 2),
        )


@functools.cache
def unavailable() -> dict[str, str]:
    """Return the packages of the zoo that do not import here, each with its error."""
    missing = {}
    _declare_torchvision_operators()
    for package in ("torchvision", *dict.fromkeys(_package(entry) for entry in ENTRIES)):
        try:
            importlib.import_module(package)
        except (ImportError, RuntimeError, AttributeError) as error:
            missing[package] = f"{type(error).__name__}: {error}"
            for name in [name for name in sys.modules if name.partition(".")[0] == package]:
                del sys.modules[name]
            # Broken is as good as absent: a library that can do without it now sees that it must.
            sys.modules[package] = None  # type: ignore[assignment]
    return missing


def _declare_torchvision_operators() -> None:
    """Let torchvision's Python code import where its compiled operators do not fit this torch.

    Its import registers shapes for `nms`, which fails when no library has declared that operator.
    """
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


_LIBRARIES: list[torch.library.Library] = []
"""Kept, because operators are gone with the library that declared them."""


def _package(entry: Entry) -> str:
    return entry.constructor.partition(":")[0].partition(".")[0]


def set_random_statistics(model: nn.Module, inputs: tuple[Any, ...], seed: int) -> None:
    """Give every BatchNorm seeded statistics near what its input has, as training would.

    A quarter of the scales is negative, one in sixteen is tiny (1e-4 of its size); means are
    moved by a fifth of a deviation and variances by a factor up to two, so that no BatchNorm is
    nearly an identity and signals neither vanish nor overflow in deep networks.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for _, module in batch_norms(model)]
    for norm in norms:
        weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
        with torch.no_grad():
            if isinstance(weight, Tensor):
                size = torch.rand(weight.shape, generator=generator) + 0.5
                draw = torch.rand(weight.shape, generator=generator)
                size[draw < 0.25] *= -1
                size[draw > 15 / 16] *= 1e-4
                weight.copy_(size)
            if isinstance(bias, Tensor):
                bias.copy_(torch.randn(bias.shape, generator=generator) * 0.3)
    _observe(model, norms, inputs)
    for norm in norms:
        mean, variance = norm.running_mean, norm.running_var
        usable = torch.isfinite(variance) & (variance > 1e-6)
        variance.copy_(torch.where(usable, variance, torch.ones_like(variance)))
        deviation = variance.sqrt()
        mean.add_(torch.randn(mean.shape, generator=generator) * 0.2 * deviation)
        variance.mul_(torch.exp2(torch.rand(variance.shape, generator=generator) * 2 - 1))


def _observe(model: nn.Module, norms: list[nn.Module], inputs: tuple[Any, ...]) -> None:
    """Set the running statistics to those of one batch; where that fails, leave the initial."""
    momenta = [getattr(norm, "momentum", None) for norm in norms]
    modes = [module.training for module in model.modules()]
    model.eval()
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    # One value per channel raises in train mode: the BatchNorms before it are set all the same.
    with contextlib.suppress(ValueError, RuntimeError), torch.no_grad():
        model(*inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode


def _build(entry: Entry) -> nn.Module:
    seed = zlib.crc32(entry.name.encode())
    module, _, attribute = entry.constructor.partition(":")
    constructor = getattr(importlib.import_module(module), attribute)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        arguments = entry.arguments() if callable(entry.arguments) else entry.arguments
        model: nn.Module = constructor(*entry.positional, **arguments)
        for module in model.modules():
            if getattr(module, "export", None) is False:
                module.export = True  # ultralytics: only tensors, no parts for the loss
        model.eval()
        set_random_statistics(model, _example_inputs(entry, 4), seed)
    return model.eval()


def _example_inputs(entry: Entry, batch: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(zlib.crc32(entry.name.encode()) ^ 1)
    return tuple(torch.randn((batch, *shape), generator=generator) for shape in entry.shapes)

"""Watches models being built and run: where each layer was constructed, what read its output.

A layer's construction site is the call that made the instance: the first frame below the frames
of the instance's own `__init__`. What reads a tensor is told by a torch function mode, so that a
dropout counts in eval mode too, and an `nn.Identity`, which calls nothing, does not.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

Position = tuple[str, int, int]
"""File relative to the folder of the package, line and column, both from 1."""

_SITE = "_truth_site"
_PRODUCERS = (_ConvNd, nn.Linear)
_NORMS = frozenset({"batch_norm", "instance_norm"})
_ASKS = frozenset(
    [
        "shape",
        "dtype",
        "device",
        "ndim",
        "layout",
        "is_cuda",
        "requires_grad",
        "grad",
        "grad_fn",
        "is_sparse",
        "is_quantized",
        "is_leaf",
        "is_meta",
        "is_nested",
        "is_mps",
        "names",
        "size",
        "dim",
        "numel",
        "stride",
        "storage_offset",
        "element_size",
        "ndimension",
        "nelement",
        "is_floating_point",
        "is_complex",
        "is_contiguous",
        "get_device",
        "__len__",
        "__repr__",
        "__hash__",
        "type",
        "data_ptr",
        "is_tensor",
        "itemsize",
        "nbytes",
    ]
)
"""Functions and properties that read no value of a tensor."""
_SAME = frozenset({"contiguous", "to", "float", "type_as", "requires_grad_"})
"""Functions that give their input back where there is nothing to do."""


@dataclass(eq=False)
class Use:
    """One application of a convolution or linear layer."""

    layer: nn.Module
    output: torch.Tensor
    consumers: list[str] = field(default_factory=list)
    parts: list[torch.Tensor] = field(default_factory=list)
    """Copies of the output, and crops that leave each channel whole; who reads one reads it."""
    norms: list[Position | None] = field(default_factory=list)
    """Construction sites of the norms that read it, None for a functional one."""
    overwritten: bool = False
    """Whether a function gave the same tensor back, with other values: `relu_`, a dropout."""

    @property
    def alone_into_norm(self) -> bool:
        """Whether one norm reads the output unmodified, per channel, and nothing else does."""
        if len(self.consumers) != 1 or len(self.norms) != 1:
            return False
        # A linear layer's channels are the last dimension, a BatchNorm's are the second.
        return not isinstance(self.layer, nn.Linear) or self.output.dim() == 2


@dataclass
class SiteRecord:
    """What was seen of the layers that one call constructed."""

    type_name: str
    subclass: bool
    instances: int = 0
    biased: int = 0
    alone: int = 0
    redundant: int = 0
    """Instances with a bias that go alone into a norm at every application."""
    consumers: Counter[str] = field(default_factory=Counter)

    @property
    def label(self) -> str:
        """`true`, `mixed` or `false`: whether a bias at this site is redundant."""
        if not self.redundant:
            return "false"
        return "true" if self.redundant == self.instances else "mixed"


@dataclass
class Truth:
    """What was seen of one package."""

    sites: dict[Position, SiteRecord] = field(default_factory=dict)
    edges: Counter[tuple[Position, Position]] = field(default_factory=Counter)
    """Producer's and norm's construction site, where the one reads the other's output directly."""
    models: dict[str, str] = field(default_factory=dict)
    """Model to `ok`, or to why it could not be built or run."""


@contextmanager
def construction_sites(root: Path) -> Iterator[None]:
    """Write on each layer and norm built inside where in the files under `root` it was."""
    prefix = str(root) + "/"
    base = str(root.parent) + "/"

    def watched(original: Callable[..., None]) -> Callable[..., None]:
        def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(self, *args, **kwargs)
            site = _site(self, prefix, base)
            if site is not None:
                object.__setattr__(self, _SITE, site)

        return __init__

    classes: list[Any] = [_ConvNd, nn.Linear, _NormBase]
    originals = [cls.__init__ for cls in classes]
    for cls, original in zip(classes, originals, strict=True):
        cls.__init__ = watched(original)
    try:
        yield
    finally:
        for cls, original in zip(classes, originals, strict=True):
            cls.__init__ = original


def _site(instance: nn.Module, prefix: str, base: str) -> Position | None:
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_name == "__init__":
        arguments = frame.f_code.co_varnames
        if not arguments or frame.f_locals.get(arguments[0]) is not instance:
            break
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None or not frame.f_code.co_filename.startswith(prefix):
        return None
    line, _, column, _ = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    if line is None or column is None:
        return None
    return frame.f_code.co_filename.removeprefix(base), line, column + 1


class _Watch(TorchFunctionMode):
    """Notes who reads the outputs of convolutions and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[nn.Module] = []
        self.uses: dict[int, Use] = {}
        self.finished: list[Use] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "") or ""
        if name == "__get__":
            name = func.__self__.__name__
        result = func(*args, **kwargs)
        if name not in _ASKS:
            for tensor in _tensors((args, kwargs)):
                use = self.uses.get(id(tensor))
                if use is None or (name in _SAME and result is tensor):
                    continue
                if name == "dropout" and kwargs.get("p", args[1] if len(args) > 1 else 0.5) == 0:
                    continue
                if name == "contiguous" or _crops_image(name, args, result):
                    use.parts.append(result)
                    self.uses[id(result)] = use
                    continue
                use.consumers.append(name)
                first = args[0] if args else kwargs.get("input")
                if name in _NORMS and tensor is first and not use.overwritten:
                    use.norms.append(self._norm_site())
                use.overwritten |= result is tensor
        return result

    def _norm_site(self) -> Position | None:
        for module in reversed(self.stack):
            if isinstance(module, _NormBase):
                return getattr(module, _SITE, None)
        return None

    def before(self, module: nn.Module, args: Any) -> None:
        self.stack.append(module)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        while self.stack and self.stack.pop() is not module:
            pass
        if (
            isinstance(module, _PRODUCERS)
            and hasattr(module, _SITE)
            and isinstance(output, torch.Tensor)
        ):
            if id(output) in self.uses:
                self.finished.append(self.uses[id(output)])
            self.uses[id(output)] = Use(module, output)


def run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Use]:
    """Run a model once and return each application of a layer with a known site."""
    watch = _Watch()
    handles = [
        module_hooks.register_module_forward_pre_hook(watch.before),
        module_hooks.register_module_forward_hook(watch.after),
    ]
    try:
        with torch.no_grad(), watch:
            result = model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    for tensor in _tensors(result):
        if id(tensor) in watch.uses:
            watch.uses[id(tensor)].consumers.append("output")
    return watch.finished + list(dict.fromkeys(watch.uses.values()))


def record(truth: Truth, uses: Iterable[Use]) -> None:
    """Add what one model's runs showed to the truth about its package."""
    by_layer: dict[int, list[Use]] = {}
    for use in uses:
        by_layer.setdefault(id(use.layer), []).append(use)
    for own in by_layer.values():
        layer = own[0].layer
        site: Position = getattr(layer, _SITE)
        seen = truth.sites.setdefault(
            site, SiteRecord(_plain_type(layer), type(layer).__module__.split(".")[0] != "torch")
        )
        alone = all(use.alone_into_norm for use in own)
        biased = layer.bias is not None
        seen.instances += 1
        seen.biased += biased
        seen.alone += alone
        seen.redundant += biased and alone
        for use in own:
            seen.consumers[" + ".join(use.consumers[:3]) or "nothing"] += 1
            for norm in use.norms:
                if norm is not None:
                    truth.edges[site, norm] += 1


def _plain_type(layer: nn.Module) -> str:
    return next(c.__name__ for c in type(layer).__mro__ if c.__module__.startswith("torch.nn"))


def _crops_image(name: str, args: Any, result: Any) -> bool:
    """Tell whether a call takes a part of an image or a sequence with all of its channels."""
    if name == "__getitem__":
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        if not all(isinstance(part, slice) or part is ... for part in index):
            return False
    elif name != "narrow":
        return False
    return args[0].dim() > 2 and result.shape[1] == args[0].shape[1]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    match value:
        case torch.Tensor():
            yield value
        case list() | tuple() | set():
            for item in value:
                yield from _tensors(item)
        case dict():
            for item in value.values():
                yield from _tensors(item)
        case _ if hasattr(value, "__dataclass_fields__"):
            for item in vars(value).values():
                yield from _tensors(item)

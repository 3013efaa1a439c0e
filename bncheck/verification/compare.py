"""Whether a converted model computes what the original does, judged by the original's own error.

No fixed tolerance is right for both a two-layer network and a thousand-layer one. So both models
run as they are, and the original once more with each operation in float64, on the same inputs.
The difference of the original from its float64 self is what its own rounding costs; a conversion
that is exact in real arithmetic rounds differently, not worse, and may differ from float64 by no
more than a small multiple of that.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from bncheck.errors import BNCheckError
from bncheck.verification.inputs import InputSpec, draw, jitter, map_tensors, tensors
from bncheck.verification.precision import full_precision, in_float64, widen

MULTIPLE = 8.0
"""How many times the original's own error a converted model's may be. The largest error over the
outputs scatters by about 2 between two equally good orders of summation, by up to 4 where the
outputs are few."""

FLOOR = 8.0
"""Units in the last place of the output's scale that are always allowed. A model of one layer, or
of outputs that are small integers, may hit float64 exactly by luck; folding then still rounds the
weight, the bias and their sum once each."""

DRAWS = 2
"""Random inputs that are tried where only shapes are given."""

MORE_DRAWS = 6
"""Nearby inputs that are tried besides, before a model is failed for a narrow miss."""

NEARBY = 2.0**-9
"""How far such inputs are, relatively: rounding errors that near are independent draws already."""

NARROW = 64.0
"""A miss by less than this factor may be bad luck with one input. Wrong folds miss by far more."""


@dataclass(frozen=True)
class Verification:
    """The verdict on a converted model, and what it rests on.

    Errors are relative: the largest difference from the reference over the largest magnitude of
    that output. Where there are several outputs, the one nearest to its bound is shown. For whole
    numbers and booleans the error is the share of values that differ.
    """

    passed: bool
    error_original: float
    error_converted: float
    allowed: float
    """The largest error that the converted model may have."""
    device: str
    dtype: str
    """The dtype that the models compute in."""
    reference: str
    """What both were compared with: `float64`, or why it is something else."""
    output: str = ""
    """Path of the output shown, such as `.logits`; empty where the model returns one tensor."""
    inputs: int = 1
    """How many inputs were tried."""
    reason: str = ""
    """Why it failed; empty where it passed."""

    def __str__(self) -> str:
        verdict = "passed" if self.passed else f"FAILED: {self.reason}"
        return (
            f"{verdict} (error against {self.reference}: original {self.error_original:.2e}, "
            f"converted {self.error_converted:.2e}, allowed {self.allowed:.2e}; "
            f"{self.dtype} on {self.device}, {self.inputs} input{'s'[: self.inputs > 1]})"
        )


def verify(
    original: Any,
    converted: Any,
    example_inputs: Any,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    device: str | torch.device | None = None,
    seed: int = 0,
) -> Verification:
    """Compare two models in eval mode on the same inputs, against float64.

    The models (`nn.Module`, `ScriptModule` or `ExportedProgram`) take `example_inputs`, one
    tensor or a sequence of positional arguments, and `example_kwargs`. An `InputSpec` among them
    stands for random values. Both run on `device`: the first CUDA device when there is one, else
    the CPU. They are left as they were: mode, device, dtype, parameters, random state.

    Raises BNCheckError where the original does not run on the inputs or returns no tensor.
    """
    arguments = (as_arguments(example_inputs), dict(example_kwargs or {}))
    with (
        torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        torch.no_grad(),
        full_precision(),
        ready(original, converted, device) as (first, second, target),
    ):
        return _verdict(first, second, arguments, target, seed)


@contextmanager
def ready(
    original: Any, converted: Any, device: str | torch.device | None = None
) -> Iterator[tuple[Any, Any, torch.device]]:
    """Give both models, callable, in eval mode and on one device, and the device.

    That is the first CUDA device when there is one, else the CPU. Models elsewhere are copied
    there; all are left as they were.
    """
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with in_eval(original) as first, in_eval(converted) as second:
        yield _placed(first, second, target)


def as_arguments(example_inputs: Any) -> tuple[Any, ...]:
    """Return positional arguments; a lone tensor, mapping or None is one or none of them."""
    if example_inputs is None:
        return ()
    if isinstance(example_inputs, Sequence) and not hasattr(example_inputs, "_fields"):
        return tuple(example_inputs)
    return (example_inputs,)


def _verdict(
    original: Any, converted: Any, arguments: Any, target: torch.device, seed: int
) -> Verification:
    generator = torch.Generator().manual_seed(seed)
    reference = _Reference(original)
    comparison = _Comparison()
    free = any(isinstance(leaf, InputSpec) for leaf in _leaves(arguments))

    def attempt(values: Any) -> None:
        comparison.inputs += 1
        values = map_tensors(values, lambda t: t.to(target))
        own = _outputs(original, values, seed, "the original model")
        try:
            theirs = _outputs(converted, values, seed, "the converted model")
        except BNCheckError as problem:
            comparison.problems.append(str(problem))
            return
        comparison.add(reference.outputs(values, seed, own), own, theirs)

    for _ in range(DRAWS if free else 1):
        drawn = draw(arguments, generator)
        attempt(drawn)
    while comparison.missed_narrowly() and comparison.inputs < MORE_DRAWS:
        attempt(draw(arguments, generator) if free else jitter(drawn, generator, NEARBY))
    return comparison.verdict(str(target), reference.name)


def _leaves(arguments: Any) -> list[Any]:
    found: list[Any] = []

    def keep(leaf: Any) -> Any:
        found.append(leaf)
        return leaf

    map_tensors(arguments, keep)
    return found


class _Comparison:
    """What the inputs tried so far say, per output."""

    def __init__(self) -> None:
        self.inputs = 0
        self.problems: list[str] = []
        self.original: dict[str, float] = {}
        self.converted: dict[str, float] = {}
        self.floor: dict[str, float] = {}
        self.dtype: dict[str, str] = {}

    def add(self, exact: dict[str, Any], own: dict[str, Any], theirs: dict[str, Any]) -> None:
        if not own:
            raise BNCheckError("the original model returns no tensor, so nothing can be compared")
        if own.keys() != theirs.keys():
            differing = sorted(own.keys() ^ theirs.keys())
            self.problems.append(f"the outputs differ in structure at {', '.join(differing)}")
            return
        for path, value in own.items():
            name = f"output {path}" if path else "the output"
            other, wanted = theirs[path], exact[path]
            if value.shape != other.shape or value.dtype != other.dtype:
                self.problems.append(
                    f"{name} is {_kind(other)} in the converted model and {_kind(value)} in the "
                    "original"
                )
                continue
            if value.layout != torch.strided or value.is_quantized:
                value, other, wanted = (_plain(t) for t in (value, other, wanted))
            problem = _unusual(name, wanted, value, other)
            if problem:
                self.problems.append(problem)
            for errors, found in ((self.original, value), (self.converted, other)):
                errors[path] = max(errors.get(path, 0.0), _error(found, wanted, value))
            self.floor[path] = _floor(value)
            self.dtype[path] = str(value.dtype).removeprefix("torch.")

    def allowed(self, path: str) -> float:
        return max(MULTIPLE * self.original[path], self.floor[path])

    def excess(self, path: str) -> float:
        error, allowed = self.converted[path], self.allowed(path)
        return error / allowed if allowed else math.inf if error else 0.0

    def missed_narrowly(self) -> bool:
        worst = max((self.excess(path) for path in self.original), default=0.0)
        return not self.problems and 1.0 < worst <= NARROW

    def verdict(self, device: str, reference: str) -> Verification:
        worst = max(self.original, key=self.excess, default=None)
        if worst is None:
            error_original, error_converted, allowed, dtype = 0.0, math.inf, 0.0, "unknown"
        else:
            error_original, error_converted = self.original[worst], self.converted[worst]
            allowed, dtype = self.allowed(worst), self.dtype[worst]
            if self.excess(worst) > 1.0:
                name = f"output {worst} of " if worst else ""
                self.problems.append(
                    f"{name}the converted model is off by more than rounding explains"
                )
        return Verification(
            passed=not self.problems,
            error_original=error_original,
            error_converted=error_converted,
            allowed=allowed,
            device=device,
            dtype=dtype,
            reference=reference,
            output=worst or "",
            inputs=self.inputs,
            reason=self.problems[0] if self.problems else "",
        )


def _kind(tensor: Any) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _plain(tensor: Any) -> Any:
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def _unusual(name: str, wanted: Any, own: Any, theirs: Any) -> str:
    """Say where an output holds NaN or infinity that the original does not; empty: nowhere."""
    if not (own.dtype.is_floating_point or own.dtype.is_complex):
        return ""
    strange = ~torch.isfinite(theirs)
    same = (theirs == own) | (torch.isnan(theirs) & torch.isnan(own))
    if bool((strange & ~same).any()):
        return f"{name} of the converted model holds NaN or infinity where the original does not"
    if bool((~strange & ~torch.isfinite(own) & ~torch.isfinite(wanted)).any()):
        return f"{name} of the converted model is finite where the original holds NaN or infinity"
    if own.numel() and not bool(torch.isfinite(own).any()):
        return f"{name} of the original is NaN or infinity throughout, which proves nothing"
    return ""


def _error(found: Any, wanted: Any, own: Any) -> float:
    """Return the error of an output, relative to the reference's scale."""
    if not found.numel():
        return 0.0
    if not (found.dtype.is_floating_point or found.dtype.is_complex):
        return float((found != wanted.to(found.dtype)).double().mean())
    usable = torch.isfinite(wanted) & torch.isfinite(found)
    if not bool(usable.any()):
        return 0.0
    difference = (widen(found) - widen(wanted))[usable].abs().max()
    scale = widen(wanted)[usable].abs().max()
    return float(difference / scale) if float(scale) else float(difference)


def _floor(own: Any) -> float:
    """Return the error that is always allowed: some ulps, or one whole number in a thousand."""
    if own.dtype.is_floating_point or own.dtype.is_complex:
        return FLOOR * torch.finfo(own.dtype).eps
    return 1e-3


def _outputs(model: Any, values: Any, seed: int, name: str) -> dict[str, Any]:
    """Run a model on copies of the arguments and return its outputs by path."""
    torch.manual_seed(seed)
    args, kwargs = map_tensors(values, lambda t: t.clone())
    try:
        return tensors(model(*args, **kwargs))
    except Exception as problem:
        text = str(problem).strip()
        raise BNCheckError(
            f"{name} does not run on the example input: "
            f"{text.splitlines()[0] if text else type(problem).__name__}"
        ) from problem


class _Reference:
    """Runs the original in float64, by the first way that works.

    A model of float64 has nothing wider to be compared with, and takes the last way.
    """

    def __init__(self, model: Any) -> None:
        self.model = getattr(model, "_orig_mod", model)
        self.dtype = _dtype(model)
        self.name = "float64"
        self._ways: list[Callable[[Any, int, dict[str, Any]], dict[str, Any]]] = [
            self._widened,
            self._copied,
            self._perturbed,
        ]
        if isinstance(model, torch.jit.ScriptModule):
            self._ways[:2] = [self._doubled]  # its interpreter may crash under a dispatch mode
        if self.dtype is torch.float64:
            del self._ways[:-1]

    def outputs(self, values: Any, seed: int, own: dict[str, Any]) -> dict[str, Any]:
        while len(self._ways) > 1:
            try:
                found = self._ways[0](values, seed, own)
            except Exception:  # whatever keeps a model from float64: the next way
                found = {}
            if found.keys() == own.keys():
                return found
            del self._ways[0]
        return self._ways[0](values, seed, own)

    def _widened(self, values: Any, seed: int, own: dict[str, Any]) -> dict[str, Any]:
        """Widen each operation's arguments as it runs: no copy of the parameters is held."""
        wide = map_tensors(values, widen)
        with in_float64(self.dtype):
            return _outputs(self.model, wide, seed, "")

    def _copied(self, values: Any, seed: int, own: dict[str, Any]) -> dict[str, Any]:
        """Convert a copy as well, for a model that compares its parameters' dtype itself."""
        if not isinstance(self.model, _Doubled):
            self.model = _Doubled(copy.deepcopy(self.model).double())
        return self._widened(values, seed, own)

    def _doubled(self, values: Any, seed: int, own: dict[str, Any]) -> dict[str, Any]:
        """Convert a copy, for a model whose graph fixes no dtype."""
        if not isinstance(self.model, _Doubled):
            self.model = _Doubled(copy.deepcopy(self.model).double())
        return _outputs(self.model, map_tensors(values, widen), seed, "")

    def _perturbed(self, values: Any, seed: int, own: dict[str, Any]) -> dict[str, Any]:
        """Take the original's own outputs, moved by one rounding of the input and each weight.

        The difference of the original from this is of the size of its rounding error (Monte
        Carlo arithmetic: Stott Parker, 1997), which is all that the verdict needs to know.
        """
        self.name = "the original with input and weights perturbed by one rounding"
        generator = torch.Generator().manual_seed(seed)
        model = self.model.model if isinstance(self.model, _Doubled) else self.model
        moved = copy.deepcopy(model).to(self.dtype)
        with torch.no_grad():
            for parameter in moved.parameters():
                if parameter.dtype.is_floating_point:
                    noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                    parameter += parameter * noise * torch.finfo(parameter.dtype).eps
        near = jitter(values, generator, torch.finfo(self.dtype).eps)
        return _outputs(moved, near, seed, "the original model")


class _Doubled:
    """A model that was converted to float64."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)


def _dtype(model: Any) -> torch.dtype:
    """Return the dtype of the first real parameter or buffer, float32 where there is none."""
    dtypes: list[torch.dtype] = [tensor.dtype for tensor in _tensors_of(model)]
    return next((dtype for dtype in dtypes if dtype.is_floating_point), torch.float32)


@contextmanager
def in_eval(model: Any) -> Iterator[Any]:
    """Give the model in eval mode, and put each of its modules back as it was."""
    if isinstance(model, torch.export.ExportedProgram):
        yield model.module()
        return
    modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    try:
        for module, _ in modes:
            module.training = False
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


def _placed(original: Any, converted: Any, target: torch.device) -> tuple[Any, Any, torch.device]:
    """Give the models on `target`: themselves if they are there, else copies.

    Models that cannot be copied, or that span devices, are compared where they are.
    """
    homes = {t.device for model in (original, converted) for t in _tensors_of(model)}
    if target.type == "cuda" and target.index is None:
        target = torch.device("cuda", torch.cuda.current_device())
    if homes <= {target}:
        return original, converted, target
    try:
        return copy.deepcopy(original).to(target), copy.deepcopy(converted).to(target), target
    except Exception as problem:
        if len(homes) > 1:
            raise BNCheckError(
                f"the models cannot be moved to {target}: {problem}; put both on one device"
            ) from problem
        return original, converted, homes.pop()


def _tensors_of(model: Any) -> list[Any]:
    return [*model.parameters(), *model.buffers()]

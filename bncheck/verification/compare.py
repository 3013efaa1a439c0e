"""Whether a converted model computes what the original does, judged by the original's own error.

No fixed tolerance is right for both a two-layer network and a thousand-layer one. So both models
run as they are, and the original once more with each operation in float64, on the same inputs.
The difference of the original from its float64 self is what its own rounding costs; a conversion
that is exact in real arithmetic rounds differently, not worse, and may differ from float64 by no
more than a small multiple of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from bncheck.errors import BNCheckError
from bncheck.verification.inputs import InputSpec, draw, jitter, map_tensors
from bncheck.verification.placement import ready
from bncheck.verification.precision import Exact, full_precision, widen
from bncheck.verification.runs import Reference, outputs, same_parameters

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


EXACT = 1e-9
"""The error that is allowed in float64, relative to an output's largest value."""

SPREAD = 64.0
"""How much worse than in float32 a model may round in float64, in units of each: a model that
loses most digits in float32 loses as many in float64, which has 29 bits more."""


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
    error_exact: float | None = None
    """The error of the converted model in float64, where rounding has no part in it: what is not
    the same in real arithmetic shows here, however badly the model rounds. None where there was
    no such comparison."""
    exact_with: str = ""
    """What makes it so: `exact values` that the parameters were rounded from, or that both models
    have the `same parameters`."""
    error_float64: float | None = None
    """The error in float64 of a converted model whose parameters are others, as they are. It
    holds what rounding them costs, whose size nothing here knows, so that it decides nothing."""
    blind: bool = False
    """Whether each output was the same for every sample, as where all rectifiers are shut: then
    the outputs show little of what the layers compute."""

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
    exact: Mapping[str, Callable[[], Any]] | None = None,
) -> Verification:
    """Compare two models in eval mode on the same inputs, against float64.

    The models (`nn.Module`, `ScriptModule` or `ExportedProgram`) take `example_inputs`, one
    tensor or a sequence of positional arguments, and `example_kwargs`. An `InputSpec` among them
    stands for random values. Both run on `device`: the first CUDA device when there is one, else
    the CPU. They are left as they were: mode, device, dtype, parameters, random state.

    `exact` computes, by the names of the converted model's parameters, the float64 values that
    they are to have been rounded from. Each must round to its parameter, bit for bit, and with
    them the model must agree with the original in float64, to `EXACT`.

    Raises BNCheckError where the original does not run on the inputs or returns no tensor.
    """
    arguments = (as_arguments(example_inputs), dict(example_kwargs or {}))
    with (
        torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        torch.no_grad(),
        full_precision(),
        ready(original, converted, device) as (first, second, target),
    ):
        return _verdict(first, second, arguments, target, seed, exact or {})


def as_arguments(example_inputs: Any) -> tuple[Any, ...]:
    """Return positional arguments; a lone tensor, mapping or None is one or none of them."""
    if example_inputs is None:
        return ()
    if isinstance(example_inputs, Sequence) and not hasattr(example_inputs, "_fields"):
        return tuple(example_inputs)
    return (example_inputs,)


def _verdict(
    original: Any,
    converted: Any,
    arguments: Any,
    target: torch.device,
    seed: int,
    exact: Mapping[str, Callable[[], Any]],
) -> Verification:
    generator = torch.Generator().manual_seed(seed)
    reference = Reference(original)
    comparison = _Comparison()
    planned = _planned(converted, exact, comparison.problems)
    if planned:
        comparison.exact_with = "exact values"
    elif same_parameters(original, converted):
        comparison.exact_with = "same parameters"
    free = any(isinstance(leaf, InputSpec) for leaf in _leaves(arguments))

    def attempt(values: Any) -> None:
        comparison.inputs += 1
        values = map_tensors(values, lambda t: t.to(target))
        own = outputs(original, values, seed, "the original model")
        try:
            theirs = outputs(converted, values, seed, "the converted model")
        except BNCheckError as problem:
            comparison.problems.append(str(problem))
            return
        wide = reference.answer(values, seed, own)
        comparison.add(wide, own, theirs)
        comparison.add_exact(wide, reference.of_converted(converted, planned, values, seed))

    for _ in range(DRAWS if free else 1):
        drawn = draw(arguments, generator)
        attempt(drawn)
    while comparison.missed_narrowly() and comparison.inputs < MORE_DRAWS:
        attempt(draw(arguments, generator) if free else jitter(drawn, generator, NEARBY))
    return comparison.verdict(str(target), reference.name)


def _planned(converted: Any, exact: Mapping[str, Callable[[], Any]], problems: list[str]) -> Exact:
    """Return the exact values by parameter, and note which of them do not round to it."""
    found: dict[int, Callable[[], Any]] = {}
    for name, parameter in (*converted.named_parameters(), *converted.named_buffers()):
        if name in exact:
            rounded = exact[name]().to(parameter)
            if rounded.shape != parameter.shape or not torch.equal(rounded, parameter):
                problems.append(f"{name} of the converted model is not what was computed for it")
            found[id(parameter)] = partial(_moved, exact[name], parameter.device)
    return found


def _moved(compute: Callable[[], Any], device: torch.device) -> Any:
    return compute().to(device)


def _leaves(arguments: Any) -> list[Any]:
    found: list[Any] = []

    def keep(leaf: Any) -> Any:
        found.append(leaf)
        return leaf

    map_tensors(arguments, keep)
    return found


_WITH = {
    "exact values": "the values that its parameters were rounded from",
    "same parameters": "the same parameters as the original",
}


class _Comparison:
    """What the inputs tried so far say, per output."""

    def __init__(self) -> None:
        self.inputs = 0
        self.problems: list[str] = []
        self.original: dict[str, float] = {}
        self.converted: dict[str, float] = {}
        self.floor: dict[str, float] = {}
        self.dtype: dict[str, str] = {}
        self.exact_with = ""
        self.exact: float | None = None
        """The largest error in float64."""
        self.blind = True

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
            self.blind = self.blind and _is_same_for_all(wanted)
            problem = _unusual(name, wanted, value, other)
            if problem:
                self.problems.append(problem)
            for errors, found in ((self.original, value), (self.converted, other)):
                errors[path] = max(errors.get(path, 0.0), _error(found, wanted, value))
            self.floor[path] = _floor(value)
            self.dtype[path] = str(value.dtype).removeprefix("torch.")

    def add_exact(self, wanted: dict[str, Any], found: dict[str, Any] | None) -> None:
        """Compare two runs in float64, of which the second may not have come about."""
        if found is None or found.keys() != wanted.keys():
            return
        for path, value in wanted.items():
            if value.shape != found[path].shape or value.layout != torch.strided:
                continue
            error = _error(found[path], value, value)
            self.exact = max(self.exact or 0.0, error)
            real = value.dtype.is_floating_point or value.dtype.is_complex
            rounding = SPREAD * 2.0**-29 * self.original.get(path, 0.0)
            if self.exact_with and error > (max(EXACT, rounding) if real else 1e-3):
                self.problems.append(
                    "the converted model computes something else in float64, with "
                    f"{_WITH[self.exact_with]}: the error is {error:.1e}"
                )

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
            error_exact=self.exact if self.exact_with else None,
            exact_with=self.exact_with if self.exact is not None else "",
            error_float64=None if self.exact_with else self.exact,
            blind=self.blind and bool(self.original),
        )


def _is_same_for_all(output: Any) -> bool:
    """Tell whether an output of real numbers is one and the same for several samples."""
    several = output.is_floating_point() and output.dim() > 0 and len(output) > 1
    return several and bool((output == output[:1]).all())


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

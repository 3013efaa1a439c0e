"""Example inputs for a loaded model: as the user gave them, as the file says, or guessed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from bncheck.errors import BNCheckError
from bncheck.verification.inputs import InputSpec, draw

SIDES = (224, 64, 32, 299, 128)
LENGTHS = (256, 1024, 64, 16000)


def parse_input(text: str, default: torch.dtype) -> InputSpec:
    """Return the input that `1,3,224,224` or `1,16:int64` describes."""
    shape, _, dtype_name = text.partition(":")
    dtype = getattr(torch, dtype_name, None) if dtype_name else default
    try:
        sizes = tuple(int(size) for size in shape.replace("x", ",").split(",") if size.strip())
    except ValueError:
        sizes = (-1,)
    if min(sizes, default=0) < 0 or not isinstance(dtype, torch.dtype):
        raise BNCheckError(
            f"--input {text} is no shape; write it as 1,3,224,224 or, with a dtype, 1,16:int64"
        )
    return InputSpec(sizes, dtype)


def example_inputs(model: Any, given: Sequence[str]) -> tuple[tuple[Any, ...], dict[str, Any], str]:
    """Return positional and keyword inputs, and a note where the user did not choose them.

    Raises BNCheckError where nothing is given and no guess runs.
    """
    if given:
        return tuple(parse_input(text, real_dtype(model)) for text in given), {}, ""
    if isinstance(model, torch.export.ExportedProgram):
        if model.example_inputs:
            args, kwargs = model.example_inputs
            return tuple(args), dict(kwargs), ""
        raise BNCheckError("the program has no example inputs; give their shapes with --input")
    tried = []
    for guess in _guesses(model):
        tried.append("x".join(str(size) for size in guess.shape))
        if _runs(model, guess):
            return (guess,), {}, f"the input was guessed, {tried[-1]}; --input sets it"
    raise BNCheckError(
        "an example input is needed to check the result; give its shape, such as "
        f"--input 1,3,224,224{' (guesses failed: ' + ', '.join(tried) + ')' if tried else ''}"
    )


def real_dtype(model: Any) -> torch.dtype:
    """Return the dtype of the first real parameter or buffer, float32 where there is none."""
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.dtype.is_floating_point:
            dtype: torch.dtype = tensor.dtype
            return dtype
    return torch.float32


def _guesses(model: Any) -> Iterator[InputSpec]:
    """Yield inputs that the first weight might take: of a convolution, a linear layer, a table."""
    dtype = real_dtype(model)
    weight: Any = next((p for p in model.parameters() if p.dim() > 1), None)
    match 0 if weight is None else weight.dim():
        case 5:
            yield from (
                InputSpec((2, weight.shape[1], 16, side, side), dtype) for side in (64, 112)
            )
        case 4:
            yield from (InputSpec((2, weight.shape[1], side, side), dtype) for side in SIDES)
        case 3:
            yield from (InputSpec((2, weight.shape[1], length), dtype) for length in LENGTHS)
        case 2:
            yield InputSpec((4, weight.shape[1]), dtype)
            yield InputSpec((2, 16), torch.int64)


def _runs(model: Any, guess: InputSpec) -> bool:
    """Tell whether the model runs on this input in eval mode."""
    device = next((t.device for t in model.parameters()), None)
    (value,) = draw((guess,), torch.Generator().manual_seed(0))
    with torch.random.fork_rng(), torch.no_grad():
        try:
            copy.deepcopy(model).eval()(value.to(device))
        except Exception:  # a wrong guess may fail in any way
            return False
    return True

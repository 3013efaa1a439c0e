"""Example inputs for a loaded model: as the user gave them, as the file says, or guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bncheck.errors import BNCheckError
from bncheck.model.guess import guess_inputs, real_dtype
from bncheck.verification.inputs import InputSpec


def parse_input(text: str, default: torch.dtype) -> InputSpec:
    """Return the input that `1,3,224,224` or `1,16:int64` describes."""
    shape, _, dtype_name = text.partition(":")
    dtype = getattr(torch, dtype_name, None) if dtype_name else default
    try:
        sizes = tuple(int(size) for size in shape.replace("x", ",").removesuffix(",").split(","))
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
    try:
        guess = guess_inputs(model)
    except BNCheckError as problem:
        raise BNCheckError(f"{problem} with --input, such as 1,3,224,224") from None
    shape = "x".join(str(size) for size in guess[0].shape)
    return guess, {}, f"the input was guessed, {shape}; --input sets it"

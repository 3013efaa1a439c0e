"""Example inputs for a model that came with none, guessed from its first weight."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch

from bncheck.errors import BNCheckError
from bncheck.verification.inputs import InputSpec, draw
from bncheck.verification.placement import in_eval

_SIDES = {1: (256, 64, 1024, 16000), 2: (224, 64, 32, 299, 128), 3: (32, 64, 112)}


def guess_inputs(model: Any) -> tuple[torch.Tensor, ...]:
    """Return inputs on which a module runs in eval mode: two samples of random values.

    Raises BNCheckError where the model takes more than one input, or none of the guesses fits.
    """
    tried = []
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    for guess in _guesses(model) if _takes_one_input(model) else ():
        tried.append("x".join(str(size) for size in guess.shape))
        (example,) = draw((guess,), torch.Generator().manual_seed(0))
        example = example.to(device)
        cuda = range(torch.cuda.device_count())
        with torch.random.fork_rng(devices=cuda), torch.no_grad(), in_eval(model) as ready:
            try:
                ready(example)
            except Exception:  # the guess does not fit, in whatever way the model says so
                continue
        return (example,)
    attempts = f" (tried {', '.join(tried)})" if tried else ""
    raise BNCheckError(
        f"no input was given, and none could be guessed for {type(model).__name__}{attempts}: "
        "give example inputs"
    )


def real_dtype(model: Any) -> torch.dtype:
    """Return the dtype of the first real parameter or buffer, float32 where there is none."""
    dtypes: list[torch.dtype] = [t.dtype for t in [*model.parameters(), *model.buffers()]]
    return next((dtype for dtype in dtypes if dtype.is_floating_point), torch.float32)


def _takes_one_input(model: Any) -> bool:
    if isinstance(model, torch.jit.ScriptModule):
        forward: Any = model.forward
        return len(forward.schema.arguments) == 2  # itself and the input
    parameters = inspect.signature(model.forward).parameters.values()
    required = [
        p
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    return len(required) <= 1


def _guesses(model: Any) -> Iterator[InputSpec]:
    """Yield inputs that the first weight might take: of a convolution, a linear layer, a table."""
    dtype = real_dtype(model)
    weight: Any = next((p for p in model.parameters() if p.dim() > 1), None)
    if weight is None:
        return
    if weight.dim() == 2:
        yield InputSpec((2, weight.shape[1]), dtype)
        yield InputSpec((2, 16), torch.int64)
    for side in _SIDES.get(weight.dim() - 2, ()):
        yield InputSpec((2, weight.shape[1], *[side] * (weight.dim() - 2)), dtype)

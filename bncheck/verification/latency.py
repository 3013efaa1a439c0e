"""How long two models take for one input, measured in turns."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch

from bncheck.verification.compare import as_arguments
from bncheck.verification.inputs import draw, map_tensors
from bncheck.verification.placement import ready

RUNS = 9
SECONDS = 5.0
"""No more runs are begun after this."""


def latencies(
    original: Any, converted: Any, example_inputs: Any, example_kwargs: Any = None
) -> tuple[float, float]:
    """Return the median seconds of a forward pass of both, in eval mode, after one unmeasured.

    They run on CUDA when there is one, else on the CPU, in turns, so that a busy machine slows
    both alike.
    """
    arguments = (as_arguments(example_inputs), dict(example_kwargs or {}))
    with ready(original, converted) as (first, second, device), torch.no_grad():
        drawn = draw(arguments, torch.Generator().manual_seed(0))
        args, kwargs = map_tensors(drawn, lambda t: t.to(device))
        times: tuple[list[float], list[float]] = ([], [])
        begin = time.perf_counter()
        for run in range(RUNS + 1):
            for model, taken in zip((first, second), times, strict=True):
                start = _now(device)
                model(*args, **kwargs)
                if run:
                    taken.append(_now(device) - start)
            if run and time.perf_counter() - begin > SECONDS:
                break
    return median(times[0]), median(times[1])


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

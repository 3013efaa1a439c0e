"""What folding and verifying ResNet-50 costs: in its own forward passes, and in memory.

    python benchmarks/fold_cost.py

The unit of time is the model's own forward pass at batch 1 on 3 x 224 x 224, median of 5 before and
5 after what is measured in it, so that both see the machine alike; of 7 such ratios the median and
the largest are shown. Seconds are of CPU: with several threads on a busy machine they hold what
the threads wait for each other.
Memory is the peak that the process reached while folding and verifying, above what it held
before with the model loaded, in units of the model's parameters and buffers; the same is measured
for one forward pass, whose activations verification cannot do without. Linux only for the memory.
Results go to benchmarks/results/fold_cost.json.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from zoo import models

from bncheck.convert.fold import fold

RESULTS = Path(__file__).parent / "results" / "fold_cost.json"
REPETITIONS = 7


def main() -> None:
    entry = next(models(["pytorchcv/resnet50"]))
    model, inputs = entry.build(), entry.inputs(1)
    size = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    # Memory first: what is freed later stays with the process and would hide the peak.
    with torch.no_grad():
        forward_peak = _peak(lambda: model(*inputs))
    peak = _peak(lambda: fold(model, inputs))
    forward = partial(_forward, model, inputs)
    plain = _in_passes(forward, lambda: fold(model, inputs, verify=False))
    verified = _in_passes(forward, lambda: fold(model, inputs))
    result = fold(model, inputs)
    record = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "traced_by": result.traced_by,
        "folded": len(result.steps),
        "forward_seconds": statistics.median(forward() for _ in range(5)),
        "fold_forward_passes": statistics.median(plain),
        "fold_and_verify_forward_passes": statistics.median(verified),
        "fold_and_verify_forward_passes_at_most": max(verified),
        "model_bytes": size,
        "forward_peak_models": None if forward_peak is None else forward_peak / size,
        "fold_and_verify_peak_models": None if peak is None else peak / size,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    for name, value in record.items():
        print(f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}")


def _forward(model: Any, inputs: tuple[Any, ...]) -> float:
    with torch.no_grad():
        return _seconds(lambda: model(*inputs))


def _in_passes(forward: Callable[[], float], action: Callable[[], Any]) -> list[float]:
    """Return what an action takes, in forward passes around it, once for each repetition."""
    ratios = []
    for _ in range(REPETITIONS):
        before = [forward() for _ in range(5)]
        seconds = _seconds(action)
        ratios.append(seconds / statistics.median([*before, *(forward() for _ in range(5))]))
    return ratios


def _seconds(action: Callable[[], Any]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def _peak(action: Callable[[], Any]) -> int | None:
    """Return by how many bytes the process grew at most while it ran, where the system says."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    gc.collect()
    try:
        reset.write_text("5")
    except OSError:
        return None
    before = _kilobytes(status, "VmRSS")
    action()
    return (_kilobytes(status, "VmHWM") - before) * 1024


def _kilobytes(status: Path, field: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


if __name__ == "__main__":
    main()

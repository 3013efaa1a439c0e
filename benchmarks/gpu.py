"""Fold the real models on a GPU, verify each fold there, and time original and folded.

Prints a table and writes it to `benchmarks/results/` with the device, the driver and the torch
version. Times are with TF32 where a row says so; errors are those of the verification, which turns
it off. Without a GPU the same script runs on the CPU at a small size and says so.

    python benchmarks/gpu.py [--output FILE] [--model NAME ...] [--runs N]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import bncheck  # noqa: E402
from bncheck.verification.compare import Verification  # noqa: E402
from fixtures.models.real import (  # noqa: E402
    efficientnet_lite0,
    pytorchcv_model,
    trained_crepe_tiny,
)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class RealModel:
    """A model of the benchmark and the shape of one sample, on a GPU and on a CPU."""

    build: Callable[[], nn.Module]
    sample: Shape
    small_sample: Shape


MODELS = {
    "efficientnet_lite0 (trained)": RealModel(efficientnet_lite0, (3, 224, 224), (3, 64, 64)),
    "crepe tiny (trained)": RealModel(trained_crepe_tiny, (1024,), (1024,)),
    "pytorchcv resnet18": RealModel(
        lambda: pytorchcv_model("resnet", "resnet18"), (3, 224, 224), (3, 224, 224)
    ),
    "pytorchcv densenet121": RealModel(
        lambda: pytorchcv_model("densenet", "densenet121"), (3, 224, 224), (3, 224, 224)
    ),
    "pytorchcv mobilenetv2_w1": RealModel(
        lambda: pytorchcv_model("mobilenetv2", "mobilenetv2_w1"), (3, 224, 224), (3, 224, 224)
    ),
}


@dataclass(frozen=True)
class Precision:
    """A dtype and whether TF32 may stand in for float32 products."""

    name: str
    dtype: torch.dtype
    tf32: bool = False


PRECISIONS = (
    Precision("float32", torch.float32),
    Precision("float32 with TF32", torch.float32, tf32=True),
    Precision("float16", torch.float16),
    Precision("bfloat16", torch.bfloat16),
)


@dataclass(frozen=True)
class Row:
    """One model at one precision. Times are medians in milliseconds; None where not run."""

    model: str
    precision: str
    folded: int
    refused: int
    passed: bool
    error_original: float
    error_folded: float
    eager: dict[int, tuple[float, float]]
    """Batch size to (original, folded)."""
    graph: dict[int, tuple[float, float] | None]
    """The same, replayed as a CUDA graph."""


def main(arguments: list[str] | None = None) -> Path:
    """Run the benchmark; return the file that was written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--model", action="append", choices=list(MODELS))
    parser.add_argument("--runs", type=int, help="timed runs a number (GPU 50, CPU 5)")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    runs = options.runs or (50 if on_gpu else 5)
    machine = describe(device)
    print("  ".join(f"{key}: {value}" for key, value in machine.items()))
    if not on_gpu:
        print("No CUDA device: run on the CPU at small size; these are no GPU figures.")

    rows = []
    for name in options.model or MODELS:
        model = MODELS[name].build()
        sample = MODELS[name].sample if on_gpu else MODELS[name].small_sample
        for precision in PRECISIONS if on_gpu else PRECISIONS[:1]:
            rows.append(measure(name, model, sample, precision, device, runs))
            print(line(rows[-1]), flush=True)

    output = options.output or ROOT / "benchmarks" / "results" / f"gpu-{slug(machine)}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    record = {"command": "python benchmarks/gpu.py", "runs": runs, **machine}
    text = json.dumps({**record, "rows": [asdict(row) for row in rows]}, indent=1)
    output.write_text(text + "\n", encoding="utf-8")
    print(f"written to {output}")
    if not all(row.passed for row in rows):
        sys.exit("a fold did not pass its verification")
    return output


def measure(
    name: str,
    model: nn.Module,
    sample: Shape,
    precision: Precision,
    device: torch.device,
    runs: int,
) -> Row:
    """Fold one model at one precision on the device, verify it there and time both."""
    with math_mode(precision.tf32):
        original = copy.deepcopy(model).to(device, precision.dtype).eval()
        inputs = draw((2, *sample), precision.dtype, device)
        result = bncheck.fold(original, (inputs,), verify=False)
        verification = bncheck.verify(original, result.model, (inputs,))
        eager: dict[int, tuple[float, float]] = {}
        graph: dict[int, tuple[float, float] | None] = {}
        for batch in (1, 64) if device.type == "cuda" else (1, 2):
            inputs = draw((batch, *sample), precision.dtype, device)
            both = (original, result.model)
            before, after = (eager_time(m, inputs, runs) for m in both)
            eager[batch] = (before, after)
            graph[batch] = None
            if device.type == "cuda":
                before, after = (graph_time(m, inputs, runs) for m in both)
                graph[batch] = (before, after)
    return row(name, precision, result, verification, eager, graph)


def row(
    name: str,
    precision: Precision,
    result: bncheck.FoldResult,
    verification: Verification,
    eager: dict[int, tuple[float, float]],
    graph: dict[int, tuple[float, float] | None],
) -> Row:
    """Put what was measured into one row."""
    return Row(
        model=name,
        precision=precision.name,
        folded=len({step.batch_norm for step in result.steps}),
        refused=len(result.refusals),
        passed=verification.passed,
        error_original=verification.error_original,
        error_folded=verification.error_converted,
        eager=eager,
        graph=graph,
    )


def draw(shape: Shape, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the same standard normal input for every model and precision."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn(shape, generator=generator).to(device, dtype)


@contextlib.contextmanager
def math_mode(tf32: bool) -> Iterator[None]:
    """Allow or forbid TF32 in products and convolutions, and put the settings back."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    saved = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = saved


def eager_time(model: nn.Module, inputs: torch.Tensor, runs: int) -> float:
    """Return the median milliseconds of a forward pass: CUDA events, or the clock on a CPU."""
    with torch.inference_mode():
        return median_time(lambda: model(inputs), inputs.device, runs)


def graph_time(model: nn.Module, inputs: torch.Tensor, runs: int) -> float:
    """Return the median milliseconds of replaying the forward pass as a CUDA graph."""
    with torch.inference_mode():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                model(inputs)
        torch.cuda.current_stream().wait_stream(side)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            model(inputs)
        return median_time(captured.replay, inputs.device, runs)


def median_time(call: Callable[[], object], device: torch.device, runs: int) -> float:
    """Time `runs` calls after a warm-up; milliseconds."""
    for _ in range(10 if device.type == "cuda" else 1):
        call()
    times = []
    if device.type != "cuda":
        for _ in range(runs):
            start = time.perf_counter()
            call()
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times)
    for _ in range(runs):
        start_event = torch.cuda.Event(enable_timing=True)
        end_event = torch.cuda.Event(enable_timing=True)
        start_event.record()
        call()
        end_event.record()
        torch.cuda.synchronize()
        times.append(start_event.elapsed_time(end_event))
    return statistics.median(times)


def describe(device: torch.device) -> dict[str, str]:
    """Name what the figures were measured on."""
    described = {"device": platform.machine(), "driver": "none", "torch": torch.__version__}
    if device.type == "cuda":
        described["device"] = torch.cuda.get_device_name(device)
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            answer = subprocess.run(query, capture_output=True, text=True, check=True)
            described["driver"] = answer.stdout.splitlines()[0].strip()
    return described


def slug(machine: dict[str, str]) -> str:
    """Return a file name part for a machine."""
    return "".join(c if c.isalnum() else "-" for c in machine["device"].lower())


def line(row: Row) -> str:
    """Return a row of the printed table."""
    cells = [
        f"{row.model:30}",
        f"{row.precision:18}",
        f"folded {row.folded:3}, left {row.refused:3}",
        f"error {row.error_original:.1e} -> {row.error_folded:.1e}",
        "passed" if row.passed else "FAILED",
    ]
    for label, times in (("eager", row.eager), ("graph", row.graph)):
        for batch, both in times.items():
            if both is not None:
                cells.append(f"{label} b{batch}: {both[0]:.2f} -> {both[1]:.2f} ms")
    return "  ".join(cells)


if __name__ == "__main__":
    main()

"""bncheck and the tools that exist, each as a function that folds a model."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Folded:
    """What a tool made of a model."""

    run: Callable[..., Any]
    """Takes the model's inputs."""
    batch_norms: int | None = None
    """BatchNorms left, where counting the operations that run does not tell."""
    details: dict[str, Any] | None = None
    seconds: float = 0.0
    """What making it took."""


def bncheck(model: nn.Module, inputs: tuple[Tensor, ...]) -> Folded:
    from bncheck.convert.fold import fold

    result = fold(model, inputs, verify=False)
    steps: dict[str, int] = {}
    for step in result.steps:
        steps[step.how] = steps.get(step.how, 0) + 1
    return Folded(
        result.model,
        details={
            "traced_by": result.traced_by,
            "kept_class": result.kept_class,
            "ways": steps,
            "left": {refusal.batch_norm: refusal.reason for refusal in result.refusals},
        },
    )


def fx(model: nn.Module, inputs: tuple[Tensor, ...]) -> Folded:
    from torch.fx.experimental.optimization import fuse

    return Folded(fuse(model))


def jit(model: nn.Module, inputs: tuple[Tensor, ...]) -> Folded:
    with torch.no_grad():
        traced = torch.jit.trace(model, inputs, check_trace=False, strict=False)
        frozen = torch.jit.freeze(traced.eval())
    left = str(frozen.inlined_graph).count("aten::batch_norm(")
    return Folded(frozen, left)


def onnxruntime(model: nn.Module, inputs: tuple[Tensor, ...]) -> Folded:
    import onnx
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        exported, optimised = Path(folder, "model.onnx"), Path(folder, "optimised.onnx")
        torch.onnx.export(
            model, inputs, exported, dynamo=True, verbose=False, external_data=False
        )  # fmt: skip
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(optimised)
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        session = ort.InferenceSession(str(exported), options, ["CPUExecutionProvider"])
        left = sum("BatchNorm" in node.op_type for node in onnx.load(optimised).graph.node)
    names = [value.name for value in session.get_inputs()]

    def run(*arguments: Tensor) -> list[Tensor]:
        feeds = {name: value.numpy() for name, value in zip(names, arguments, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, feeds)]

    return Folded(run, left)


TOOLS = {"bncheck": bncheck, "fx": fx, "jit": jit, "onnxruntime": onnxruntime}
FLOAT32_ONLY = {"onnxruntime"}
SHOWN = {
    "bncheck": "bncheck",
    "fx": "torch.fx optimization.fuse",
    "jit": "torch.jit.trace + freeze",
    "onnxruntime": "torch.onnx.export + ONNX Runtime",
}


def warm_up(tool: str) -> None:
    """Let a tool import what it needs."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    with contextlib.suppress(Exception):  # a tool that fails on this fails on the models too
        TOOLS[tool](model, (torch.randn(1, 3, 8, 8),))

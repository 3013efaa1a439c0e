"""`benchmarks/gpu.py` runs without a GPU, at small size, and says so."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def load_script():
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there: `make test-gpu` runs it")
def test_runs_on_the_cpu_and_says_so(tmp_path, capsys):
    output = tmp_path / "cpu.json"
    load_script().main(["--output", str(output), "--model", "pytorchcv resnet18", "--runs", "1"])
    assert "No CUDA device" in capsys.readouterr().out
    (row,) = json.loads(output.read_text())["rows"]
    assert row["folded"] == 20
    assert row["refused"] == 0
    assert row["passed"]
    assert row["graph"] == {"1": None, "2": None}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_runs_on_the_gpu(tmp_path):
    output = tmp_path / "gpu.json"
    load_script().main(["--output", str(output), "--model", "pytorchcv resnet18", "--runs", "3"])
    rows = json.loads(output.read_text())["rows"]
    assert len(rows) == 4
    assert all(row["passed"] and row["folded"] == 20 for row in rows)

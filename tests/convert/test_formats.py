"""What a fold keeps besides the outputs, in each form that a model has."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import bncheck
from bncheck.convert.torchscript import fold_torchscript
from fixtures.models.adversarial import randomise


class Network(nn.Module):
    """Has a tied weight, a buffer outside the state dict, and a frozen layer without a bias."""

    functional = False

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.mid = nn.Conv2d(4, 4, 3)
        self.second = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 4)
        self.other = nn.Linear(4, 4)
        self.other.weight = self.head.weight
        self.register_buffer("table", torch.arange(4.0), persistent=False)
        self.register_buffer("kept", torch.arange(4.0) + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mid(torch.relu(self.norm(self.conv(x))))
        y = torch.relu(self.second(y)).mean((2, 3))
        return self.head(y) * self.table + self.other(y) * self.kept


class Functional(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mid(torch.relu(self.norm(self.conv(x))))
        second = self.second
        y = F.batch_norm(y, second.running_mean, second.running_var, second.weight, second.bias)
        y = torch.relu(y).mean((2, 3))
        return self.head(y) * self.table + self.other(y) * self.kept


def built(network: type[Network], dtype: torch.dtype) -> tuple[Network, torch.Tensor]:
    torch.manual_seed(0)
    model = network()
    randomise(model)
    model = model.eval().to(dtype).to(memory_format=torch.channels_last)
    model.conv.weight.requires_grad_(False)
    model.mid.bias.requires_grad_(False)
    return model, torch.randn(2, 4, 8, 8).to(dtype)


def folded(form: str, dtype: torch.dtype) -> Any:
    """Return a folded model of some form after it was stored and loaded, where it can be."""
    model, x = built(Functional if form == "graph" else Network, dtype)
    stream = io.BytesIO()
    match form:
        case "graph":  # a pickle of one holds every buffer, which is torch's way
            return bncheck.fold(model, x).model
        case "module":
            torch.save(bncheck.fold(model, x).model, stream)
            stream.seek(0)
            return torch.load(stream, weights_only=False)
        case "program":
            program = torch.export.export(model, (x,))
            torch.export.save(bncheck.fold_exported(program, x).model, stream)
            stream.seek(0)
            return torch.export.load(stream)
        case _:
            module = torch.jit.trace(model, x) if form == "trace" else torch.jit.script(model)
            return torch.jit.load(io.BytesIO(fold_torchscript(module, x).model.save_to_buffer()))


NAMES = ["conv.weight", "conv.bias", "mid.weight", "mid.bias", "head.weight", "head.bias",
         "other.weight", "other.bias"]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", ["module", "graph", "program", "trace", "script"])
@pytest.mark.filterwarnings("ignore")
def test_what_is_kept(form: str, dtype: torch.dtype) -> None:
    result = folded(form, dtype)
    state = result.state_dict if form == "program" else result.state_dict()
    bias = "conv_folded.bias" if form == "trace" else "conv.bias"
    names = [bias if name == "conv.bias" else name for name in NAMES]
    scripted = form in ("trace", "script")
    buffers = {"kept", "table"} if scripted else {"kept"}  # an archive keeps every buffer
    assert set(state) == {*names, *buffers}
    if form not in ("program", "trace"):  # loading a program sorts tied weights together
        assert [name for name in state if name not in buffers] == names
    parameters = dict(result.named_parameters())
    assert {p.dtype for p in parameters.values()} == {dtype}
    assert set(dict(result.named_buffers())) == {"kept", "table"}
    frozen = {name for name, parameter in parameters.items() if not parameter.requires_grad}
    assert frozen == {"conv.weight", bias, "mid.bias"}
    for name in ("conv.weight", "mid.weight"):
        assert parameters[name].is_contiguous(memory_format=torch.channels_last)
    if form != "program":
        assert result.head.weight is result.other.weight


def test_the_state_dict_loads_into_the_architecture_without_its_batch_norms() -> None:
    model, x = built(Network, torch.float32)
    result = bncheck.fold(model, x).model
    again = bncheck.remove_folded(Network(), result.state_dict()).eval()
    again.load_state_dict(result.state_dict())
    assert type(again) is Network
    assert type(again.norm) is nn.Identity
    torch.testing.assert_close(again(x), result(x))


WITHOUT_BNCHECK = """
import sys
sys.modules["bncheck"] = None
import torch
x, wanted = torch.load("example.pt")
found = [
    torch.export.load("program.pt2").module()(x),
    torch.load("module.pt", weights_only=False)(x),
    torch.load("graph.pt", weights_only=False)(x),
    torch.jit.load("script.pt")(x),
]
for one in found:
    torch.testing.assert_close(one, wanted)
"""


@pytest.mark.filterwarnings("ignore")
def test_results_load_where_bncheck_is_not_installed(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    randomise(model)
    model, x = model.eval(), torch.randn(2, 4, 8, 8)
    torch.save((x, model(x).detach()), tmp_path / "example.pt")
    program = bncheck.fold_exported(torch.export.export(model, (x,))).model
    torch.export.save(program, tmp_path / "program.pt2")
    torch.save(bncheck.fold(model, x).model, tmp_path / "module.pt")
    torch.save(bncheck.fold(model, x, partial=True).model, tmp_path / "graph.pt")
    fold_torchscript(torch.jit.script(model), x).model.save(tmp_path / "script.pt")
    subprocess.run([sys.executable, "-c", WITHOUT_BNCHECK], cwd=tmp_path, check=True)

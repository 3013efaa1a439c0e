"""`bncheck debias` on each kind of file, as someone uses it who has read its help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from click.testing import CliRunner, Result  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

from bncheck.cli import main  # noqa: E402

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
INPUT = ("--input", "2,3,8,8")
PAIRS = ("--pairs", "conv:bn,up:average,fc:flat,each:single")


class Net(nn.Module):
    """A convolution, a transposed one, a linear layer, and one before a GroupNorm of channels."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=bias)
        self.bn = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2, bias=bias)
        self.average = nn.BatchNorm2d(6, momentum=None)
        self.each = nn.Conv2d(6, 6, 1, bias=bias)
        self.single = nn.GroupNorm(6, 6)
        self.fc = nn.Linear(6, 5, bias=bias)
        self.flat = nn.BatchNorm1d(5)

    def forward(self, x: Any) -> Any:
        x = self.average(self.up(self.bn(self.conv(x)).relu())).relu()
        return self.flat(self.fc(self.single(self.each(x)).relu().mean((2, 3))))


def trained() -> nn.Module:
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point():
                tensor.uniform_(-0.3, 0.9)
    return net.eval()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["debias", *map(str, arguments)])


def stored(folder: Path, kind: str) -> Path:
    path = folder / f"model.{'safetensors' if kind == 'safetensors' else 'pt'}"
    net = trained()
    match kind:
        case "safetensors":
            save_file(net.state_dict(), path, metadata={"by": "me"})
        case "state dict":
            torch.save(net.state_dict(), path)
        case "half":
            torch.save(net.half(), path)
        case "module":
            torch.save(net, path)
        case "train mode":
            torch.save(net.train(), path)
        case "exported":
            torch.export.save(torch.export.export(net, (X,)), path)
        case "script":
            torch.jit.trace(net, X).save(path)
    return path


def clean(state: Any) -> nn.Module:
    """Load a state dict, with exactly its keys, into the network without biases."""
    net = Net(bias=False).eval()
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize("kind", ["module", "state dict", "safetensors", "half"])
def test_every_format_is_debiased_and_verified(kind: str, tmp_path: Path) -> None:
    path = stored(tmp_path, kind)
    out = path.with_stem("out")
    model = ("--model", f"{__name__}:Net") if kind in {"state dict", "safetensors"} else ()
    trust = ("--trust", __name__)
    done = run(path, "-o", out, *INPUT, *model, *trust, "--format", "json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["names"]["gone"] == ["conv.bias", "up.bias", "each.bias", "fc.bias"]
    assert report["verification"]["error_exact"] < 1e-12
    assert report["verification"]["exact_with"] == "exact values"
    if kind == "safetensors":
        written = load_file(out)
    else:
        content = torch.load(out, weights_only=kind == "state dict")
        written = content if kind == "state dict" else content.state_dict()
    net = clean({name: value.float() for name, value in written.items()})
    with torch.no_grad():
        assert float((net(X) - trained()(X)).abs().max()) < (0.02 if kind == "half" else 1e-5)


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        ("exported", (), "give the model that it was made from"),
        ("exported", PAIRS, "is an exported program; pairs can be given for a state dict only"),
        ("script", (), "give the model that it was made from"),
        ("module", PAIRS, "its pairs are found without --pairs"),
        ("train mode", (), "give --eval"),
        ("state dict", (), "or the pairs with --pairs conv1:bn1"),
        ("state dict", PAIRS, "single has no running_mean in the state dict"),
        ("state dict", ("--model", f"{__name__}:Nothing"), "has no attribute"),
        ("state dict", ("--model", "torch.nn:ReLU"), "does not fit"),
    ],
)
def test_what_can_not_be_done_ends_with_a_sentence(
    kind: str, arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    path, out = stored(tmp_path, kind), tmp_path / "out.pt"
    done = run(path, "-o", out, "--trust", __name__, *arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("kind", "name"), [("state dict", "out.safetensors"), ("safetensors", "out.pth")]
)
def test_a_name_of_another_format_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    path = stored(tmp_path, kind)
    for way in (("--pairs", "conv:bn"), ("--model", f"{__name__}:Net", *INPUT)):
        done = run(path, "-o", tmp_path / name, *way)
        assert done.exit_code == 2
        assert f"give {tmp_path / name} another suffix" in done.stderr
    assert not (tmp_path / name).exists()


def test_pairs_of_a_file_that_was_saved_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
    path = stored(tmp_path, "state dict")
    monkeypatch.undo()
    done = run(path, "-o", path, "--pairs", "conv:bn")
    assert done.exit_code == 0, done.output
    assert "saved on cuda:0 and are stored on the CPU" in done.output
    assert "1 gone, 0 new" in done.output
    assert "conv.bias" not in torch.load(path)


@pytest.mark.parametrize("wrap", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_pairs_of_a_layer_whose_weight_is_kept_in_parts(wrap: Any, tmp_path: Path) -> None:
    net = trained()
    wrap(net.conv)
    path = tmp_path / "model.pt"
    torch.save(net.state_dict(), path)
    done = run(path, "-o", path, "--pairs", "conv:bn")
    assert done.exit_code == 0, done.output
    moved = net.state_dict()["bn.running_mean"].double() - net.conv.bias.detach().double()
    assert torch.equal(torch.load(path)["bn.running_mean"], moved.float())

"""The converting commands end to end, on small models of each kind."""

import json
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import bncheck.cli
import bncheck.convert.fold
from bncheck.frozen import FrozenBatchNorm
from fixtures.models.real import randomize_statistics

SHAPE = (2, 3, 8, 8)
INPUT = ("--input", "2,3,8,8")


class Pre(nn.Module):
    """Its second BatchNorm follows a ReLU and feeds a sum, so it stays."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.late = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        return torch.relu(self.late(x)) + x


def built(model: type[nn.Module] = Pre) -> nn.Module:
    torch.manual_seed(0)
    made = model()
    randomize_statistics(made)
    return made.eval()


def sequential() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())


TRUST = ("--trust", __name__)
ARCH = ("--arch", f"{__name__}:Pre")


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(bncheck.cli.main, [str(argument) for argument in arguments])


def stored(tmp_path: Path, kind: str, model: nn.Module) -> Path:
    path = tmp_path / f"model.{kind}"
    match kind:
        case "module":
            torch.save(model, path)
        case "state":
            torch.save({"epoch": 1, "state_dict": model.state_dict()}, path)
        case "safetensors":
            save_file(model.state_dict(), path, metadata={"note": "kept"})
        case "script":
            torch.jit.script(model).save(path)
        case "pt2":
            torch.export.save(torch.export.export(model, (torch.randn(SHAPE),)), path)
    return path


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_fold_reports_and_keeps_the_class(output_format: str, tmp_path: Path) -> None:
    path, out = stored(tmp_path, "module", built()), tmp_path / "out.pt"
    before = path.read_bytes()
    result = run("fold", path, "-o", out, *INPUT, *TRUST, "--format", output_format)
    assert result.exit_code == 0, result.output
    if output_format == "json":
        report = json.loads(result.stdout)
        assert report["steps"] == [{"batch_norm": "bn", "into": "conv", "how": "backward"}]
        assert [refusal["batch_norm"] for refusal in report["refusals"]] == ["late"]
        assert report["verification"]["passed"] is True
        assert report["verification"].keys() >= {"error_original", "error_converted", "device"}
        assert report["parameters"] == {"original": 124, "converted": 120}
    else:
        for text in ("bn", "conv", "backward", "late", "1 of 2 BatchNorms", "Verified", "124"):
            assert text in result.output
    with torch.serialization.safe_globals([Pre, nn.Conv2d, nn.Identity, nn.BatchNorm2d]):
        folded = torch.load(out, weights_only=True)
    assert type(folded) is Pre
    assert type(folded.bn) is nn.Identity
    x = torch.randn(SHAPE)
    torch.testing.assert_close(folded(x), built()(x))
    assert path.read_bytes() == before


class Halves(nn.Module):
    """Two BatchNorms that go into a third, unless that goes into them, which only one can."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.last = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.one(torch.relu(x)), self.other(torch.tanh(x))
        return torch.relu(self.last(torch.cat(parts, 1)))


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_a_search_that_was_cut_short_is_reported(
    output_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path, "module", built(Halves))
    arguments = ("fold", path, "--dry-run", *INPUT, *TRUST, "--format", output_format)
    note = "there may be a plan in which more BatchNorms go: 3 of them"
    assert note not in run(*arguments).output
    monkeypatch.setattr(
        bncheck.convert.fold, "fold", partial(bncheck.convert.fold.fold, attempts=0)
    )
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)["notes"] if output_format == "json" else result.output
    assert note in "".join(said)


def test_a_state_dict_and_safetensors_stay_what_they_were(tmp_path: Path) -> None:
    for kind in ("state", "safetensors"):
        path = stored(tmp_path, kind, built())
        before = tmp_path / f"before.{kind}"
        before.write_bytes(path.read_bytes())
        result = run("fold", path, "-o", path, *ARCH, *INPUT)
        assert result.exit_code == 0, result.output
        compared = run("verify", before, path, *ARCH, *INPUT)
        assert compared.exit_code == 0, compared.output
    state = torch.load(tmp_path / "model.state", weights_only=True)
    assert state["epoch"] == 1
    names = set(built().state_dict()) - {n for n in built().state_dict() if n.startswith("bn.")}
    assert set(state["state_dict"]) == names | {"conv.bias"}
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == names | {"conv.bias"}
        assert file.metadata() == {"note": "kept"}
    assert run("verify", tmp_path / "model.state", tmp_path / "model.state", *INPUT).exit_code == 2


@pytest.mark.parametrize("kind", ["script", "pt2"])
def test_archives_stay_what_they_were(kind: str, tmp_path: Path) -> None:
    path, out = stored(tmp_path, kind, built()), tmp_path / f"out.{kind}"
    result = run("fold", path, "-o", out, *INPUT)
    assert result.exit_code == 0, result.output
    assert "1 of 2 BatchNorms folded" in result.output
    assert run("verify", path, out, *INPUT).exit_code == 0
    code = "import sys, torch; sys.modules['bncheck'] = None; m = torch."
    code += "jit.load(sys.argv[1])" if kind == "script" else "export.load(sys.argv[1]).module()"
    code += "; assert 'bncheck' not in str(m); print(m(torch.ones(2, 3, 8, 8)).sum().item())"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(out)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = float(built()(torch.ones(SHAPE)).sum())
    assert float(done.stdout.split()[-1]) == pytest.approx(wanted, rel=1e-5)
    assert run("fold", path, "-o", out, *INPUT, "--keep-class").exit_code == 2


def test_sync_and_freeze_write_what_loads_safely(tmp_path: Path) -> None:
    path = stored(tmp_path, "module", nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    for command, layer in (("sync", nn.SyncBatchNorm), ("freeze", FrozenBatchNorm)):
        out = tmp_path / f"{command}.pt"
        result = run(command, path, "-o", out, *INPUT)
        assert result.exit_code == 0, result.output
        allowed = [nn.Sequential, nn.Conv2d, layer]
        with torch.serialization.safe_globals(allowed):
            assert type(torch.load(out, weights_only=True)[1]) is layer
        assert run("verify", path, out, *INPUT).exit_code == 0
    assert run("freeze", tmp_path / "sync.pt", "-o", tmp_path / "both.pt", *INPUT).exit_code == 0


@pytest.mark.parametrize("command", ["sync", "freeze"])
@pytest.mark.parametrize("kind", ["state", "script", "pt2"])
def test_sync_and_freeze_refuse_what_has_no_layers(command: str, kind: str, tmp_path: Path) -> None:
    path, out = stored(tmp_path, kind, built()), tmp_path / "out"
    options = (*INPUT, *(ARCH if kind == "state" else ()))
    result = run(command, path, "-o", out, *options)
    assert result.exit_code == 2
    assert f"{command} does not take" in result.stderr
    assert not out.exists()
    if kind == "state":
        assert run(command, path, "-o", out, *options, "--as-module").exit_code == 0
        assert type(torch.load(out, weights_only=False)) is Pre


def test_verify_tells_models_apart(tmp_path: Path) -> None:
    first = stored(tmp_path, "module", built(sequential))
    other = built(sequential)
    other[0].weight.data[0, 0, 0, 0] += 1e-3
    torch.save(other, tmp_path / "other")
    result = run("verify", first, tmp_path / "other", "--format", "json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["error_converted"] > report["allowed"] > report["error_original"]
    assert "more than rounding" in report["reason"]
    state = stored(tmp_path, "state", built())
    assert run("verify", state, state, *ARCH, *INPUT).exit_code == 0


def test_a_failed_verification_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(norm: nn.Module) -> nn.Module:
        layer = FrozenBatchNorm(norm)
        layer.running_mean += 1e-3
        return layer

    monkeypatch.setattr("bncheck.convert.freeze.FrozenBatchNorm", wrong)
    path, out = stored(tmp_path, "module", built(sequential)), tmp_path / "out.pt"
    out.write_bytes(b"old")
    result = run("freeze", path, "-o", out, *INPUT)
    assert result.exit_code == 1
    assert "Verification failed" in result.output
    assert "the outputs differ from 1 on" in result.output
    assert out.read_bytes() == b"old"


def test_a_program_whose_input_is_called_input(tmp_path: Path) -> None:
    """As that of every `nn.Sequential`; copying a graph renames what is a builtin of Python."""
    for model in (sequential, lambda: sequential()[:2]):  # the BatchNorm's output is the program's
        path = stored(tmp_path, "pt2", built(model))
        result = run("fold", path, "-o", path)
        assert result.exit_code == 0, result.output
        x = torch.randn(SHAPE)
        torch.testing.assert_close(torch.export.load(path).module()(x), built(model)(x))


def test_an_error_nobody_thought_of_is_a_sentence_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Any, *_: Any, **__: Any) -> Any:
        raise KeyError("oh")

    monkeypatch.setattr("bncheck.convert.sync.sync", broken)
    path = stored(tmp_path, "module", built(sequential))
    result = run("sync", path, "-o", tmp_path / "out", *INPUT)
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "KeyError" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_dry_run_and_a_missing_output(tmp_path: Path) -> None:
    path = stored(tmp_path, "module", built(sequential))
    result = run("fold", path, "--dry-run")
    assert result.exit_code == 0
    assert "Nothing was written" in result.output
    assert "guessed, 2x3x224x224" in result.output
    assert run("fold", path).exit_code == 2
    assert list(tmp_path.iterdir()) == [path]


def in_train_mode(tmp_path: Path) -> list[Any]:
    return [stored(tmp_path, "module", sequential()), *INPUT]


def without_architecture(tmp_path: Path) -> list[Any]:
    return [stored(tmp_path, "state", built()), *INPUT]


def raises() -> nn.Module:
    raise RuntimeError("the cat ate it")


def with_raising_architecture(tmp_path: Path) -> list[Any]:
    return [stored(tmp_path, "state", built()), *INPUT, "--arch", f"{__name__}:raises"]


def with_other_input(tmp_path: Path) -> list[Any]:
    return [stored(tmp_path, "module", built(sequential)), "--input", "2,5,8,8"]


def with_no_input_at_all(tmp_path: Path) -> list[Any]:
    return [stored(tmp_path, "module", built(sequential)), "--input", "wide"]


def without_batch_norm(tmp_path: Path) -> list[Any]:
    return [stored(tmp_path, "module", nn.Sequential(nn.Conv2d(3, 4, 3)).eval()), *INPUT]


def with_nan(tmp_path: Path) -> list[Any]:
    model = built(sequential)
    model[1].running_var[2] = torch.nan
    return [stored(tmp_path, "module", model), *INPUT]


def nobody_knows_the_input(tmp_path: Path) -> list[Any]:
    model = nn.Sequential(nn.Unflatten(1, (3, 8, 8)), *sequential()).eval()
    return [stored(tmp_path, "module", model)]


def on_no_device(tmp_path: Path) -> list[Any]:
    return [stored(tmp_path, "module", built(sequential).to("meta")), *INPUT]


def test_a_meta_model_has_nothing_to_fold(tmp_path: Path) -> None:
    result = run("fold", *on_no_device(tmp_path), "-o", tmp_path / "out.pt")
    assert result.exit_code == 2
    assert "is on the meta device and has no values to fold" in result.stderr


class Functional(Pre):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm = self.bn
        y = torch.nn.functional.batch_norm(
            self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias
        )
        return torch.relu(y)


def test_a_graph_module_is_said_to_be_one_and_keep_class_refuses_it(tmp_path: Path) -> None:
    path, out = stored(tmp_path, "module", built(Functional)), tmp_path / "out.pt"
    result = run("fold", path, "-o", out, *INPUT, *TRUST)
    assert result.exit_code == 0, result.output
    assert "the result is a torch.fx.GraphModule" in result.output
    assert isinstance(torch.load(out, weights_only=False), torch.fx.GraphModule)
    kept = run("fold", path, "-o", out, *INPUT, *TRUST, "--keep-class")
    assert kept.exit_code == 0, kept.output
    assert "which keep_class does not allow" in kept.output
    assert type(torch.load(out, weights_only=False)) is Functional


BAD_INPUT = [
    (in_train_mode, "--eval"),
    (without_architecture, "--arch"),
    (with_raising_architecture, "raised RuntimeError: the cat ate it"),
    (with_other_input, "does not run on the example input"),
    (with_no_input_at_all, "write it as 1,3,224,224"),
    (without_batch_norm, "holds no BatchNorm"),
    (with_nan, "NaN"),
    (nobody_knows_the_input, "give example inputs with --input"),
]


@pytest.mark.parametrize(
    ("command", "make", "sentence"),
    [("fold", *case) for case in BAD_INPUT]
    # freeze takes a model in train mode, and says other things of a state dict.
    + [("freeze", *case) for case in BAD_INPUT[2:]],
)
def test_bad_input_ends_with_a_sentence(
    command: str, make: Any, sentence: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.pt"
    arguments = [command, *make(tmp_path), "-o", out]
    if command == "freeze" and "--arch" in arguments:
        arguments.append("--as-module")
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert result.stderr.startswith("bncheck: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not out.exists()
    debug = run(*arguments, "--debug")
    assert debug.exit_code == 2
    assert "Traceback" in debug.stderr


def test_a_pickle_of_something_else_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"weights": [1.0]}))
    result = run("fold", path, "-o", tmp_path / "out.pt")
    assert result.exit_code == 2
    assert "is a pickle that torch.save did not write" in result.stderr


@pytest.mark.parametrize("name", ["missing", "empty", "text", "truncated"])
def test_bad_files_end_with_a_sentence(name: str, tmp_path: Path) -> None:
    path, out = tmp_path / "model.pt", tmp_path / "out.pt"
    content = stored(tmp_path, "module", built()).read_bytes()
    if name != "missing":
        path.write_bytes({"empty": b"", "text": b"hello", "truncated": content[:900]}[name])
    for command in ("fold", "sync", "freeze"):
        result = run(command, path, "-o", out)
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_a_model_that_was_saved_on_a_gpu_is_stored_on_the_cpu_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
    path = stored(tmp_path, "module", built(sequential))
    monkeypatch.undo()
    result = run("fold", path, "-o", path, *INPUT)
    assert result.exit_code == 0, result.output
    assert "saved on cuda:0 and are stored on the CPU" in result.output


def test_eval_switches_a_model_in_train_mode(tmp_path: Path) -> None:
    path = stored(tmp_path, "module", sequential())
    result = run("fold", path, "-o", path, "--eval", *INPUT)
    assert result.exit_code == 0, result.output
    assert "1 of 1 BatchNorms folded" in result.output


def test_what_was_folded_can_be_read_and_verified_again(tmp_path: Path) -> None:
    path, out = stored(tmp_path, "module", built()), tmp_path / "out.pt"
    assert run("fold", path, "-o", out, *INPUT, *TRUST).exit_code == 0
    again = run("fold", out, "-o", out, *INPUT, *TRUST)
    assert again.exit_code == 0, again.output
    assert "0 of 1 BatchNorms folded" in again.output
    assert run("verify", path, out, *INPUT, *TRUST).exit_code == 0


@pytest.mark.parametrize("shape", ["2,3,,8", "", "2,3,y", "2,-3,8,8", "2,3,8,8:no"])
def test_an_input_that_is_no_shape(shape: str, tmp_path: Path) -> None:
    path, out = stored(tmp_path, "module", built(sequential)), tmp_path / "out.pt"
    result = run("fold", path, "-o", out, "--eval", "--input", shape)
    assert (result.exit_code, out.exists()) == (2, False)
    assert "is no shape" in result.stderr


def test_an_output_that_is_no_file_or_in_no_folder(tmp_path: Path) -> None:
    path = stored(tmp_path, "module", built(sequential))
    os.mkfifo(tmp_path / "pipe")
    for out, sentence in ((tmp_path / "pipe", "is no file"), (path / "out.pt", "is no folder")):
        result = run("fold", path, "-o", out, "--eval", *INPUT)
        assert result.exit_code == 2
        assert sentence in result.stderr
    assert (tmp_path / "pipe").is_fifo()

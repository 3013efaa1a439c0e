import logging
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bncheck.errors import BNCheckError
from bncheck.model.kinds import Kind, container_kind
from bncheck.model.load import load
from bncheck.model.save import save

INPUT = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))


def built() -> nn.Sequential:
    model = network().eval()
    model(INPUT)
    return model


ARCH = f"{__name__}:built"


def write(kind: str, path: Path, model: nn.Module) -> None:
    state = model.state_dict()
    match kind:
        case "module":
            torch.save(model, path)
        case "older module":
            torch.save(model, path, _use_new_zipfile_serialization=False)
        case "module in a checkpoint":
            torch.save({"epoch": 3, "model": model}, path)
        case "state dict":
            torch.save(state, path)
        case "older state dict":
            torch.save(state, path, _use_new_zipfile_serialization=False)
        case "checkpoint of DataParallel":
            torch.save(
                {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path
            )
        case "safetensors":
            save_file(state, path, metadata={"format": "pt", "note": "kept"})
        case "script":
            torch.jit.save(torch.jit.script(model), path, _extra_files={"note": "kept"})
        case "trace":
            torch.jit.save(torch.jit.trace(model, INPUT), path)
        case "exported":
            torch.export.save(torch.export.export(model, (INPUT,)), path, extra_files={"note": "k"})


KINDS = {
    "module": Kind.MODULE,
    "module in a checkpoint": Kind.MODULE,
    "state dict": Kind.STATE_DICT,
    "older state dict": Kind.STATE_DICT,
    "checkpoint of DataParallel": Kind.STATE_DICT,
    "safetensors": Kind.SAFETENSORS,
    "script": Kind.TORCHSCRIPT,
    "trace": Kind.TORCHSCRIPT,
    "exported": Kind.EXPORTED,
}


def called(model: Any) -> Any:
    return (model.module() if isinstance(model, torch.export.ExportedProgram) else model.eval())(
        INPUT
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_by_content_and_stored_as_it_was(kind: str, tmp_path: Path) -> None:
    model = built()
    path, out = tmp_path / "model.bin", tmp_path / "out.bin"
    write(kind, path, model)
    architecture = ARCH if KINDS[kind] in (Kind.STATE_DICT, Kind.SAFETENSORS) else None
    loaded = load(path, architecture=architecture)
    assert loaded.kind is KINDS[kind]
    assert torch.equal(called(loaded.model), model(INPUT))
    save(loaded.model, loaded, out)
    again = load(out, architecture=architecture)
    assert again.kind is loaded.kind
    assert torch.equal(called(again.model), model(INPUT))
    assert dict(again.extra_files).keys() == dict(loaded.extra_files).keys()
    assert sorted(tmp_path.iterdir()) == [path, out]
    if again.checkpoint is not None and loaded.checkpoint is not None:
        assert again.checkpoint.prefix == loaded.checkpoint.prefix
        assert again.checkpoint.metadata == loaded.checkpoint.metadata
        assert (again.checkpoint.around or {}).get("epoch") == (loaded.checkpoint.around or {}).get(
            "epoch"
        )


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("module", ".safetensors"), ("older state dict", ".safetensors"), ("exported", ".pt")],
)
def test_a_file_named_as_another_kind(
    kind: str, suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """torch itself looks at these names."""
    model = built()
    write(kind, tmp_path / "model.pt2", model)
    path = (tmp_path / "model.pt2").rename(tmp_path / f"model{suffix}")
    architecture = ARCH if KINDS[kind] is Kind.STATE_DICT else None
    loaded = load(path, architecture=architecture)
    assert loaded.kind is KINDS[kind]
    assert torch.equal(called(loaded.model), model(INPUT))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("start", [b"\x80\x03", b"PK", b"\x80\x02"])
def test_a_safetensors_file_whose_length_begins_as_another_format_does(
    start: bytes, tmp_path: Path
) -> None:
    length = int.from_bytes(start, "little")
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata={"note": ""})
    missing = length - int.from_bytes(path.read_bytes()[:8], "little")
    save_file({"weight": torch.ones(2)}, path, metadata={"note": "x" * missing})
    assert path.read_bytes().startswith(start)
    assert container_kind(path) is Kind.SAFETENSORS


def test_a_half_precision_state_dict_stays_one(tmp_path: Path) -> None:
    write("state dict", tmp_path / "half.pt", built().half())
    model = load(tmp_path / "half.pt", architecture=ARCH).model
    assert {t.dtype for t in model.parameters()} == {torch.float16}
    assert all(parameter.requires_grad for parameter in model.parameters())


class Runs:
    """Unpickles by running a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


class Own(nn.Conv2d):
    pass


def activate(x: Any) -> Any:
    return x


def with_function() -> nn.Module:
    model = Own(3, 4, 3)
    model.activation = activate
    return model


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("how", ["plain pickle", "torch.save", "older torch.save", "in a module"])
@pytest.mark.parametrize("trust", [(), ("posix", "os", "posix.system", "builtins", __name__)])
def test_a_pickle_that_runs_a_command_does_not(
    how: str, protocol: int, trust: tuple[str, ...], tmp_path: Path
) -> None:
    proof, path = tmp_path / "proof", tmp_path / "model.pt"
    evil: Any = Runs(f"touch {proof}")
    if how == "in a module":
        module = nn.Linear(2, 2)
        module.note = evil
        evil = module
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(evil, protocol=protocol))
    else:
        new = how != "older torch.save"
        torch.save(evil, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    with pytest.raises(BNCheckError, match=r"posix\.system") as refused:
        load(path, trust=trust)
    assert "no option allows it" in str(refused.value)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("model", "trust", "wanted"),
    [
        (lambda: Own(3, 4, 3), (), f"--trust {__name__.split('.')[0]}"),
        (with_function, (__name__,), f"--trust {__name__}.activate"),
        (lambda: nn.TransformerEncoderLayer(4, 2), (), "--trust torch.nn.functional.relu"),
        (lambda: Own(3, 4, 3), ("torch", "os", __name__ + ".Other"), "it wants"),
        (lambda: Own(3, 4, 3), (__name__,), None),
        (lambda: Own(3, 4, 3), (f"{__name__}.Own",), None),
        (with_function, (__name__, f"{__name__}.activate"), None),
    ],
)
def test_trust(model: Any, trust: tuple[str, ...], wanted: str | None, tmp_path: Path) -> None:
    torch.save(model(), tmp_path / "model.pt")
    if wanted is None:
        assert type(load(tmp_path / "model.pt", trust=trust).model) is Own
        assert Own not in torch.serialization.get_safe_globals()
    else:
        with pytest.raises(BNCheckError) as refused:
            load(tmp_path / "model.pt", trust=trust)
        assert wanted in str(refused.value)


def test_an_imported_class_is_not_a_trusted_package_s_own(tmp_path: Path) -> None:
    """`package.Popen` names a class that the package only imports."""
    path = tmp_path / "model.pt"
    path.write_bytes(b"\x80\x02c" + f"{__name__}\nPath\n".encode() + b"U\x01x\x85R.")
    with pytest.raises(BNCheckError, match=f"it wants {__name__}.Path"):
        load(path, trust=(__name__,))


def test_a_graph_module_s_code_is_not_run(tmp_path: Path) -> None:
    torch.save(torch.fx.symbolic_trace(built()), tmp_path / "model.pt")
    with pytest.raises(BNCheckError, match="no option allows it"):
        load(tmp_path / "model.pt", trust=("torch.fx.graph_module.reduce_graph_module", "torch"))


BAD = {
    "missing.pt": (None, "does not exist"),
    "empty.pt": (b"", "is empty"),
    "text.pt": (b"not a model at all", r"it is text"),
    "zeros.pt": (bytes(100), "is not a model file"),
    "zip.pt": (b"PK\x03\x04" + bytes(60), "damaged or truncated zip"),
    "cut.safetensors": (b"\xff\x00\x00\x00\x00\x00\x00\x00{", "truncated safetensors"),
    "list.pt": (pickle.dumps([1], protocol=2), "plain pickle"),
    "dict.pt": (pickle.dumps({"a": 1}, protocol=2), "plain pickle"),
    "cut.pt": (pickle.dumps({"a": 1}, protocol=2)[:-3], "damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BNCheckError, match=message):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "holds a list"),
        ({}, "it is empty"),
        ({"epoch": 1, "lr": 2.0}, r"without a model .* \(it has epoch, lr\)"),
    ],
)
def test_pickles_without_a_model(value: Any, message: str, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "value.pt")
    with pytest.raises(BNCheckError, match=message):
        load(tmp_path / "value.pt")


def test_a_module_in_the_oldest_format_is_refused(tmp_path: Path) -> None:
    write("older module", tmp_path / "model.pt", built())
    with pytest.raises(BNCheckError, match="cannot be read safely"):
        load(tmp_path / "model.pt")


class Writes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("secret", shared=True, size=1)


def test_torchscript_that_touches_files_is_refused(tmp_path: Path) -> None:
    torch.jit.script(Writes()).save(tmp_path / "model.pt")
    with pytest.raises(BNCheckError, match="reads or writes files"):
        load(tmp_path / "model.pt")


def test_a_truncated_archive_and_a_folder(tmp_path: Path) -> None:
    write("module", tmp_path / "model.pt", built())
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BNCheckError, match="truncated zip"):
        load(tmp_path / "model.pt")
    with pytest.raises(BNCheckError, match="is a folder"):
        load(tmp_path)


def exits() -> None:
    sys.exit("no GPU here")


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (None, "--arch package.module:callable"),
        ("torch.nn", "is not of the form"),
        ("nowhere.at_all:x", "ModuleNotFoundError"),
        ("torch.nn:Conv2d", "raised TypeError"),
        (f"{__name__}:exits", "raised SystemExit: no GPU here"),
        ("builtins:dict", "returned dict"),
        ("torch.nn:Identity", "no place for 0.bias"),
        (f"{__name__}:network", "does not fit"),
    ],
)
def test_architectures(architecture: str | None, message: str, tmp_path: Path) -> None:
    state = {
        f"{name}x" if name.startswith("3") else name: v for name, v in built().state_dict().items()
    }
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(BNCheckError, match=message):
        load(tmp_path / "state.pt", architecture=architecture)


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write("module", path, built())
    before = path.read_bytes()
    loaded = load(path)

    class Stop(nn.Module):
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(nn.Sequential(nn.Linear(1000, 1000), Stop()), loaded, path)
    with pytest.raises(BNCheckError, match="cannot be stored"):
        save(nn.Sequential(nn.Linear(2, 2), type("Local", (nn.Module,), {})()), loaded, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(BNCheckError, match="make that folder first"):
        save(loaded.model, loaded, tmp_path / "no" / "model.pt")


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.pt", tmp_path / "link.pt"
    write("module", real, built())
    real.chmod(0o640)
    link.symlink_to(real)
    loaded = load(link)
    save(loaded.model, loaded, link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640

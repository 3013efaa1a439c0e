import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bncheck.errors import BNCheckError
from bncheck.model.load import load

COMMAND = "__import__('pathlib').Path({proof!r}).touch()"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(
        torch.export.export(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes=shapes), path
    )
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def shape(model: Any, proof: str) -> None:
    first = model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0]
    first["as_expr"]["expr_str"] = COMMAND.format(proof=proof)


def shape_method(model: Any, proof: str) -> None:
    first = model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0]
    first["as_expr"]["expr_str"] = "Symbol('s').__class__"


def target(model: Any, proof: str) -> None:
    model["graph_module"]["graph"]["nodes"][0]["target"] = "torch.serialization.os.system"


def reads_a_file(model: Any, proof: str) -> None:
    model["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"


def name(model: Any, proof: str) -> None:
    text = json.dumps(model).replace('"input"', json.dumps(f"x={COMMAND.format(proof=proof)}"))
    model.update(json.loads(text))


def tree(model: Any, proof: str) -> None:
    call = model["graph_module"]["module_call_graph"][0]["signature"]
    spec = json.loads(call["in_spec"])
    spec[1]["children_spec"][1]["context"] = json.dumps(
        {"__enum__": True, "fqn": "this:s", "name": "x"}
    )
    call["in_spec"] = json.dumps(spec)


def altered(
    program: dict[str, bytes], path: Path, change: Callable[[Any, str], None] | None, **more: bytes
) -> Path:
    """Write the archive with its graph changed, or with files added."""
    with torch.serialization._open_zipfile_writer_file(str(path)) as writer:
        for record, content in program.items():
            short = record.partition("/")[2]
            if short in (".data/version", "version", "byteorder", ".data/serialization_id"):
                continue
            if short == "models/model.json" and change is not None:
                model = json.loads(content)
                change(model, str(path.parent / "proof"))
                content = json.dumps(model).encode()
            content = more.pop(short, content)
            writer.write_record(short, content, len(content))
        for short, content in more.items():
            writer.write_record(short, content, len(content))
    return path


def test_a_program_with_a_dynamic_shape_loads(program: dict[str, bytes], tmp_path: Path) -> None:
    loaded = load(altered(program, tmp_path / "model.pt2", None))
    assert loaded.model.module()(torch.randn(5, 3, 8, 8)).shape == (5, 4, 6, 6)


@pytest.mark.parametrize("change", [shape, shape_method, target, reads_a_file, name, tree])
def test_a_graph_that_runs_code_is_refused(
    program: dict[str, bytes], change: Callable[[Any, str], None], tmp_path: Path
) -> None:
    with pytest.raises(BNCheckError, match="which could run code"):
        load(altered(program, tmp_path / "model.pt2", change))
    assert not (tmp_path / "proof").exists()


class Touches:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickles_within_are_weights_only(program: dict[str, bytes], tmp_path: Path) -> None:
    evil = tmp_path / "evil.pt"
    torch.save(Touches(tmp_path / "proof"), evil)
    files = {"data/sample_inputs/model.pt": evil.read_bytes()}
    with pytest.raises(BNCheckError, match="damaged exported program"):
        load(altered(program, tmp_path / "inputs.pt2", None, **files))
    constants = {
        "config": {"c": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}}
    }
    files = {
        "data/constants/model_constants_config.json": json.dumps(constants).encode(),
        "data/constants/opaque_obj_0": pickle.dumps(Touches(tmp_path / "proof")),
    }
    with pytest.raises(BNCheckError, match="custom object"):
        load(altered(program, tmp_path / "opaque.pt2", None, **files))
    with pytest.raises(BNCheckError, match="compiled library"):
        load(altered(program, tmp_path / "library.pt2", None, **{"data/aotinductor/m/a.so": b"x"}))
    assert not (tmp_path / "proof").exists()

"""What the report says of names, ties and how a model was read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_conversions import ARCH, INPUT, TRUST, Functional, Pre, built, run, stored
from torch import nn

from bncheck.convert.names import compared_names


@pytest.mark.parametrize(
    ("kind", "tracer", "said"),
    [("module", "fx", "torch.fx"), ("pt2", "export", "torch.export"),
     ("script", "script", "its own graph")],
)  # fmt: skip
def test_the_report_says_how_a_model_was_read(
    kind: str, tracer: str, said: str, tmp_path: Path
) -> None:
    path = stored(tmp_path, kind, built())
    arguments = ("fold", path, "--dry-run", *INPUT, *(TRUST if kind == "module" else ()))
    assert f"Read by {said}." in run(*arguments).output
    assert json.loads(run(*arguments, "--format", "json").stdout)["traced_by"] == tracer


def test_names_that_went_and_came_are_listed(tmp_path: Path) -> None:
    path = stored(tmp_path, "module", built())
    arguments = ("fold", path, "--dry-run", *INPUT, *TRUST)
    assert "Names in the state dict: 5 gone, 1 new (conv.bias)." in run(*arguments).output
    names = json.loads(run(*arguments, "--format", "json").stdout)["names"]
    assert names["new"] == ["conv.bias"]
    assert {name.partition(".")[0] for name in names["gone"]} == {"bn"}


def test_a_state_dict_as_a_module(tmp_path: Path) -> None:
    for kind in ("state", "safetensors"):
        path, out = stored(tmp_path, kind, built()), tmp_path / "out.pt"
        result = run("fold", path, "-o", out, *ARCH, *INPUT, "--as-module")
        assert result.exit_code == 0, result.output
        with torch.serialization.safe_globals([Pre, nn.Conv2d, nn.Identity, nn.BatchNorm2d]):
            folded = torch.load(out, weights_only=True)
        assert type(folded) is Pre
        x = torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(folded(x), built()(x))


class Named(nn.Module):
    """Has three tensors, two of which may be one."""

    def __init__(self, tied: bool = True, turned: bool = False) -> None:
        super().__init__()
        names = ["a", "b", "c"]
        for name in reversed(names) if turned else names:
            setattr(self, name, nn.Parameter(torch.ones(2)))
        if tied:
            self.b = self.a

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.a + self.b + self.c


SENTENCES: dict[str, tuple[Any, Any, list[str]]] = {
    "the same": (Named(), Named(), []),
    "apart": (Named(), Named(tied=False), ["no longer tied to what they were one with: b"]),
    "turned": (Named(), Named(turned=True), ["its state dict has another order"]),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_what_is_not_as_it_was_is_said(case: str) -> None:
    original, converted, sentences = SENTENCES[case]
    assert list(compared_names(original, converted).sentences()) == sentences


class Kept(Functional):
    """Holds a buffer that its state dict leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.ones(4, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.table


def test_a_buffer_that_a_stored_graph_has_in_its_state_dict_is_listed(tmp_path: Path) -> None:
    path, out = stored(tmp_path, "module", built(Kept)), tmp_path / "out.pt"
    result = run("fold", path, "-o", out, *INPUT, *TRUST, "--trust", "test_names")
    assert result.exit_code == 0, result.output
    assert "has in its state dict what the model left out: table" in result.output
    assert "table" in torch.load(out, weights_only=False).state_dict()

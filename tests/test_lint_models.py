"""`bncheck lint` on saved models: the same rules, on what tracing reads."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from bncheck.cli import main


def wrong() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8, momentum=0.99)),
        nn.BatchNorm2d(8),
    )


EXPECTED = [("BN101", "0: "), ("BN107", "2.1: "), ("BN110", "3: ")]


def lint(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["lint", *map(str, arguments), "--no-cache"])


def found(result: Result) -> list[tuple[str, str]]:
    messages = [(f["code"], f["message"]) for f in json.loads(result.stdout)]
    assert all(f["fix"] is None and f["line"] == 1 for f in json.loads(result.stdout))
    return [(code, message[: message.index(":") + 2]) for code, message in messages]


def test_pickled_module(tmp_path: Path) -> None:
    path = tmp_path / "model"
    torch.save(wrong(), path)
    result = lint(path, "--format", "json")
    assert (result.exit_code, found(result)) == (1, EXPECTED)
    assert found(lint(path, "--format", "json", "--select", "BN101")) == EXPECTED[:1]
    assert lint(path, "--ignore", "BN1").exit_code == 0


def test_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(wrong().state_dict(), path)
    assert found(lint(path, "--format", "json", "--arch", f"{__name__}:wrong")) == EXPECTED
    result = lint(path)
    assert result.exit_code == 2
    assert "--arch" in result.stderr


def test_exported_program(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    example = (torch.randn(1, 3, 9, 9),)
    torch.export.save(torch.export.export(wrong().eval(), example), path)
    assert ("BN101", "0: ") in found(lint(path, "--format", "json"))


class Everything(nn.Module):
    """A mistake of each kind that a model which runs can have, and a dropout between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.first = nn.BatchNorm2d(8, momentum=0.99)
        self.single = nn.Conv2d(8, 8, 1)
        self.each = nn.GroupNorm(8, 8)
        self.other = nn.Conv2d(8, 8, 1, bias=False)
        self.drop = nn.Dropout(0.5)
        self.second = nn.BatchNorm2d(8, eps=0.5)
        self.third = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.BatchNorm1d(8)
        self.kept = nn.Conv2d(8, 8, 1)
        self.fourth = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.conv(x)).relu()
        x = self.each(self.single(x)).relu()
        x = self.first(self.other(x)).relu()
        x = self.third(self.second(x)).relu()
        x = self.fourth(self.drop(self.kept(x))).relu()
        x = nn.functional.max_pool2d(x, 2).flatten(2).transpose(1, 2)
        attended, _ = self.attention(x, x, x)
        return self.last((x + attended).transpose(1, 2))


@pytest.mark.parametrize("kind", ["module", "exported"])
def test_rules_find_the_same_in_every_form(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    if kind == "module":
        torch.save(Everything(), path)
    else:
        example = (torch.randn(2, 3, 9, 9),)
        torch.export.save(torch.export.export(Everything().eval(), example), path)
    input_ = () if kind == "exported" else ("--input", "2,3,9,9")
    rules = ("--extend-select", "BN109,BN111", "--trust", __name__)
    assert found(lint(path, *input_, *rules, "--format", "json")) == [
        ("BN101", "conv: "),
        ("BN101", "single: "),
        ("BN104", "first: "),
        ("BN107", "first: "),
        ("BN107", "second: "),
        ("BN109", "drop: "),
        ("BN110", "third: "),
        ("BN111", "last: "),
    ]


def test_a_model_without_findings(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)), path)
    assert lint(path).exit_code == 0


class OverChannels(nn.Module):
    """A mean and a sum over channels leave one, whatever pools in space does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.mean, self.sum = nn.BatchNorm2d(1), nn.BatchNorm2d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.mean(x.mean(1, keepdim=True)) * self.sum(x.sum(1, keepdim=True))


def test_channels_are_those_of_the_tensors_that_were_seen(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(OverChannels(), path)
    result = lint(path, "--trust", __name__, "--input", "2,3,6,6")
    assert (result.exit_code, result.stdout) == (0, "")


def test_models_and_sources_together(tmp_path: Path) -> None:
    torch.save(wrong(), tmp_path / "model.pt")
    (tmp_path / "m.py").write_text(
        "from torch import nn\nm = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))\n"
    )
    result = lint(tmp_path / "model.pt", tmp_path / "m.py", "--format", "json", "--select", "BN101")
    assert [Path(f["path"]).name for f in json.loads(result.stdout)] == ["model.pt", "m.py"]


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02cos\nsystem\n."])
def test_what_is_no_model_ends_with_2(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    result = lint(path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1


def test_without_torch_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    torch.save(wrong(), path)
    monkeypatch.delitem(sys.modules, "bncheck.model.lint", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = lint(path)
    assert result.exit_code == 2
    assert "pip install 'bncheck[torch]'" in result.stderr

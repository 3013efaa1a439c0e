"""Files of a project that a run was not given: pre-commit names only those that changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bncheck.cli import main
from bncheck.other_files import OtherFiles

NETWORK = """\
from torch import nn


class Net(nn.Module):
    def __init__(self, frozen=True):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.bn = nn.BatchNorm2d(8)
        if frozen:
            self.freeze_bn()

    def forward(self, x):
        return self.bn(self.conv(x))

    def freeze_bn(self):
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
"""
TRAINER = """\
def epoch(model, loader, step):
    model.train()
    model.freeze_bn()
    for batch in loader:
        step(model, batch)
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "network.py").write_text(NETWORK, encoding="utf-8")
    (tmp_path / "trainer.py").write_text(TRAINER, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _codes(*arguments: str) -> list[str]:
    result = CliRunner().invoke(main, ["lint", "--format", "json", *arguments])
    assert result.exit_code in {0, 1}, result.output
    return [code for code in ("BN211", "BN213") if f'"{code}"' in result.stdout]


def test_a_file_alone_is_judged_with_its_project(repository: Path) -> None:
    assert _codes("--no-cache", "network.py") == _codes("--no-cache", ".") == []
    (repository / "trainer.py").unlink()
    assert _codes("--no-cache", "network.py") == _codes("--no-cache", ".") == ["BN211"]


def test_a_kept_answer_counts_while_the_others_are_the_same(repository: Path) -> None:
    assert _codes("network.py") == []
    (repository / "trainer.py").write_text("", encoding="utf-8")
    assert _codes("network.py") == ["BN211"]


def test_what_is_excluded_says_nothing(repository: Path) -> None:
    assert _codes("--no-cache", "--exclude", "trainer.py", "network.py") == ["BN211"]


def test_only_the_files_of_the_project_are_read(repository: Path) -> None:
    (repository / "inner").mkdir()
    inner = repository / "inner" / "alone.py"
    inner.write_text("", encoding="utf-8")
    names = {path.name for path in OtherFiles(("network.py",), ("network.py",)).texts}
    assert names == {"trainer.py", "alone.py"}
    (inner.parent / "pyproject.toml").write_text("", encoding="utf-8")
    assert not OtherFiles((str(inner),), (str(inner),)).texts


@pytest.mark.parametrize("named", [".", ".."])
def test_a_run_over_the_whole_project_has_no_others(repository: Path, named: str) -> None:
    assert not OtherFiles(("network.py",), (named,)).texts


def test_installed_packages_are_no_project(repository: Path) -> None:
    installed = repository / "lib" / "site-packages" / "net.py"
    installed.parent.mkdir(parents=True)
    installed.write_text(NETWORK, encoding="utf-8")
    assert not OtherFiles((str(installed),), (str(installed),)).texts


def test_nothing_is_read_before_it_is_asked(repository: Path) -> None:
    others = OtherFiles(("network.py",), ("network.py",))
    assert not others.read_so_far
    assert {path.name for path in others.texts} == {"trainer.py"}
    assert [path.name for path in others.read_so_far] == ["trainer.py"]
    assert not OtherFiles().texts

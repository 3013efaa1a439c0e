"""Notebooks: their cells are linted and mended where they stand, and all else stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bncheck.cli import main
from bncheck.notebooks import NotebookError, as_python, with_python

NETWORK = """\
from torch import nn

block = nn.Sequential(
    nn.Conv2d(3, 8, 3),
    nn.BatchNorm2d(8),
)"""
TRAINING = """\
%%time
import torch
from torchvision.models import resnet18

model = resnet18(num_classes=10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(10):
    for images, labels in train_loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()"""
EVALUATION = """\
correct = 0
with torch.no_grad():
    for images, labels in test_loader:
        correct += (model(images).argmax(1) == labels).sum().item()"""
SHELL = "%%bash\nfor f in *; do echo $f; done"
MAGICS = "%matplotlib inline\nfiles = !ls data\nif files:\n    !pip install \\\n      torch\nblock?"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def notebook(*cells: str, language: str = "python", as_lines: bool = True, **layout: object) -> str:
    """Return a notebook with a title and these code cells."""

    def source(text: str) -> str | list[str]:
        return text.splitlines(keepends=True) if as_lines else text

    whole = {
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": source("# BatchNorm, größer")},
            *(
                {
                    "cell_type": "code",
                    "execution_count": 1,
                    "metadata": {},
                    "outputs": [{"data": {"text/plain": ["0.10"]}, "output_type": "display_data"}],
                    "source": source(cell),
                }
                for cell in cells
            ),
        ],
        "metadata": {"kernelspec": {"name": "kernel", "language": language}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    options: dict[str, object] = {"indent": 1, "ensure_ascii": False, **layout}
    return json.dumps(whole, **options) + "\n"  # type: ignore[arg-type]


def lint(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["lint", "--no-cache", *arguments], input=stdin)


def test_findings_stand_in_their_cells() -> None:
    text = notebook(MAGICS, SHELL, NETWORK, TRAINING, EVALUATION)
    Path("train.ipynb").write_text(text, encoding="utf-8")
    result = lint(".")
    places = [line.split(" ")[:4] for line in result.stdout.splitlines() if "ipynb" in line]
    assert places == [
        ["train.ipynb:cell", "4:4:5:", "BN101", "Conv2d"],
        ["train.ipynb:cell", "6:4:21:", "BN201", "`model`"],
    ]
    assert result.stderr.startswith("Found 2 findings in 1 file.")


def test_the_right_form_is_silent() -> None:
    right = f"model.eval()\n{EVALUATION}"
    Path("train.ipynb").write_text(notebook(TRAINING, right), encoding="utf-8")
    assert lint("train.ipynb").exit_code == 0


def test_a_network_of_a_file_beside_the_notebook_is_followed() -> None:
    Path("network.py").write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.norm = nn.BatchNorm1d(8)\n\n"
        "    def forward(self, x):\n        return self.norm(x)\n",
        encoding="utf-8",
    )
    own = TRAINING.replace("from torchvision.models import resnet18", "from network import Net")
    own = own.replace("resnet18(num_classes=10)", "Net()")
    Path("train.ipynb").write_text(notebook(own, EVALUATION), encoding="utf-8")
    assert "train.ipynb:cell 3:4:21: BN201" in lint("train.ipynb").stdout


def test_json_tells_the_cell_of_findings_and_edits() -> None:
    Path("train.ipynb").write_text(notebook(NETWORK), encoding="utf-8")
    (finding,) = json.loads(lint(".", "--format", "json").stdout)
    assert (finding["cell"], finding["line"], finding["end_line"]) == (2, 4, 4)
    (edit,) = finding["fix"]["edits"]
    assert (edit["cell"], edit["line"], edit["end_line"]) == (2, 4, 4)


@pytest.mark.parametrize("as_lines", [True, False])
@pytest.mark.parametrize("indent", [1, 4, "\t", None])
def test_a_fix_is_written_into_its_cell_and_all_else_stays(
    as_lines: bool, indent: int | str | None
) -> None:
    mended = NETWORK.replace("8, 3)", "8, 3, bias=False)")
    before, after = (
        notebook(MAGICS, SHELL, cell, "", "x = 1\n", as_lines=as_lines, indent=indent)
        for cell in (NETWORK, mended)
    )
    path = Path("train.ipynb")
    path.write_bytes(before.encode())
    assert "+    nn.Conv2d(3, 8, 3, bias=False)" in lint(".", "--diff", "--unsafe-fixes").stdout
    assert path.read_bytes() == before.encode()
    assert lint(".", "--fix", "--unsafe-fixes").exit_code == 0
    assert path.read_bytes() == after.encode()


def test_stdin_and_stdout_are_notebooks_by_their_name() -> None:
    arguments = ("-", "--stdin-filename", "a.ipynb", "--fix", "--unsafe-fixes")
    fixed = lint(*arguments, stdin=notebook(NETWORK))
    assert fixed.stdout == notebook(NETWORK.replace("8, 3)", "8, 3, bias=False)"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nn.BatchNorm2d", "BN001 not read as a notebook"),
        ('{"worksheets": ["nn.BatchNorm2d"]}', "BN001 not read as a notebook"),
        ("no JSON", ""),
        (notebook(NETWORK, language="R"), ""),
        (notebook(f"# noqa\n{NETWORK}".replace("8, 3),", "8, 3),  # noqa: BN101")), ""),
        (notebook("def f(:", NETWORK, "x ="), "a.ipynb:cell 3:4:5: BN101"),
        (notebook("print 'one'", f"await one()\n{NETWORK}"), "a.ipynb:cell 3:5:5: BN101"),
    ],
)
def test_what_is_no_notebook_of_python(text: str, found: str) -> None:
    Path("a.ipynb").write_text(text, encoding="utf-8")
    result = lint("a.ipynb")
    assert (found in result.stdout) if found else not result.stdout
    assert result.exit_code == bool(found)
    assert lint("a.ipynb", "--ignore", "BN0,BN1").exit_code == 0


@pytest.mark.parametrize(
    "text", ["", "\n", "x\n\n", "x =\n", MAGICS, SHELL, TRAINING, "%time\nx = '''\n%\n'''"]
)
def test_a_source_that_did_not_change_gives_the_notebook_back(text: str) -> None:
    content = notebook(text, EVALUATION, text).encode()
    assert with_python(content, as_python(content)) == content


def test_a_source_without_its_cells_is_refused() -> None:
    content = notebook(TRAINING).encode()
    with pytest.raises(NotebookError):
        with_python(content, b"x = 1\n")

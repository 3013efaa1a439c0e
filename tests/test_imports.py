"""Imports point one way, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bncheck"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

_READERS = ("bncheck.source", "libcst")
_TORCH = ("torch", "safetensors", "numpy")
_MODELS = ("bncheck.model", "bncheck.convert", "bncheck.verification", *_TORCH)
_LIGHT = (*_READERS, *_MODELS)
FORBIDDEN = {
    "checks/": (*_LIGHT, "bncheck.worker", "bncheck.commands"),
    "graph.py": ("bncheck", *_LIGHT),
    "events.py": _LIGHT,
    "timeline.py": _LIGHT,
    "findings.py": _LIGHT,
    "pages.py": _LIGHT,
    "config.py": _LIGHT,
    "source/": (*_MODELS, "bncheck.commands"),
    "model/": (*_READERS, "bncheck.commands"),
    "convert/": (*_READERS, "bncheck.commands"),
    "verification/": (*_READERS, "bncheck.commands", "bncheck.convert"),
}
"""What the modules at these places never import, not even inside a function."""


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                names.add(module)
                names.update(f"{module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    for place, forbidden in FORBIDDEN.items():
        if module.startswith(place):
            for name in imported(PACKAGE / module):
                for prefix in forbidden:
                    allowed = module == "graph.py" and name.startswith("bncheck.errors")
                    assert allowed or not f"{name}.".startswith(f"{prefix}."), name


def loaded(code: str) -> set[str]:
    """Return the top-level packages that are loaded after running the code in a new Python."""
    program = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n"
        "print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(result.stdout.splitlines()[-1].split())


def test_importing_bncheck_is_light() -> None:
    assert not {"torch", "libcst", "numpy"} & loaded("import bncheck")


def test_help_is_light() -> None:
    heavy = {"torch", "libcst", "numpy"}
    assert not heavy & loaded("sys.argv = ['bncheck', '--help']; import bncheck.__main__")
    assert not heavy & loaded("sys.argv = ['bncheck', 'rule', 'BN101']; import bncheck.__main__")


def test_linting_source_never_loads_torch(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text("from torch import nn\nx = nn.Sequential(nn.BatchNorm2d(3))\n")
    arguments = ["bncheck", "lint", str(file), "--no-cache"]
    names = loaded(f"sys.argv = {arguments!r}; import bncheck.__main__")
    assert "libcst" in names
    assert not {"torch", "numpy"} & names

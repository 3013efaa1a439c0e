"""What is installed: every package, every rule page, and nothing heavy at the base."""

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_installed():
    folders = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for init in (ROOT / "bncheck").rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders | {"bncheck._rules"}


def test_base_install_is_light():
    names = {
        requirement.split(";")[0].split(">")[0].strip()
        for requirement in PROJECT["project"]["dependencies"]
    }
    assert names == {"click", "libcst", "pyyaml", "tomli"}


def test_torch_is_an_extra_that_takes_every_release_from_2_4():
    assert "torch>=2.4" in PROJECT["project"]["optional-dependencies"]["torch"]
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()

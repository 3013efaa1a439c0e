"""The pre-commit hook, run for real in a fresh git repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WRONG = """\
from torch import nn

block = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
"""
RIGHT = WRONG.replace("8, 3)", "8, 3, bias=False)")


@pytest.fixture(scope="module")
def hook_repository(tmp_path_factory):
    """A git repository of the working tree: pre-commit installs the hook from a commit."""
    folder = tmp_path_factory.mktemp("hook")
    keep = shutil.ignore_patterns(
        ".git", ".venv", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "demo-output"
    )
    shutil.copytree(ROOT, folder / "bncheck", ignore=keep)
    git(folder / "bncheck", "init", "-q")
    git(folder / "bncheck", "add", "-A")
    git(folder / "bncheck", "commit", "-qm", "hook")
    return folder


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize(("source", "code", "said"), [(WRONG, 1, "BN101"), (RIGHT, 0, "Passed")])
def test_hook_stops_a_finding_and_lets_clean_code_pass(
    hook_repository, tmp_path, source, code, said
):
    git(tmp_path, "init", "-q")
    (tmp_path / "model.py").write_text(source)
    git(tmp_path, "add", "-A")
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "try-repo", str(hook_repository / "bncheck"),
         "bncheck", "--verbose", "--files", "model.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PRE_COMMIT_HOME": str(hook_repository / "cache")},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout

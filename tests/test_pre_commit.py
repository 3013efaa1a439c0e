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


@pytest.fixture
def hook_repository(tmp_path):
    """A git repository of the working tree: pre-commit installs the hook from a commit."""
    folder = tmp_path / "bncheck"
    keep = shutil.ignore_patterns(
        ".git", ".venv", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "demo-output"
    )
    shutil.copytree(ROOT, folder, ignore=keep)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "hook")
    return folder


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_hook_stops_a_finding_and_lets_clean_code_pass(hook_repository, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "-q")
    environment = {**os.environ, "PRE_COMMIT_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "pre_commit", "try-repo", str(hook_repository), "bncheck"]
    for source, code, said in ((WRONG, 1, "BN101"), (RIGHT, 0, "Passed")):
        (project / "model.py").write_text(source)
        git(project, "add", "-A")
        done = subprocess.run(
            [*command, "--verbose", "--files", "model.py"],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert said in done.stdout

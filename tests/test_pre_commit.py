"""The pre-commit hook, run for real in a fresh git repository."""

import os
import shlex
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


def git(folder, *arguments, check=True, **environment):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        check=check,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_a_commit_with_a_finding_is_stopped_and_a_clean_one_passes(hook_repository, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "-q")
    hook = project / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pre_commit", "try-repo", str(hook_repository), "bncheck"]
    hook.write_text(f"#!/bin/sh\nexec {shlex.join(command)} --verbose\n")
    hook.chmod(0o755)
    for source, code, said, commits in ((WRONG, 1, "BN101", ""), (RIGHT, 0, "Passed", "fine\n")):
        (project / "model.py").write_text(source)
        git(project, "add", "-A")
        done = git(
            project, "commit", "-m", "fine", check=False, PRE_COMMIT_HOME=str(tmp_path / "cache")
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert said in done.stdout + done.stderr
        assert git(project, "log", "--all", "--format=%s").stdout == commits

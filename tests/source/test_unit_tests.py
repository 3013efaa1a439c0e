"""Which files are unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from bncheck.source.project import Project
from bncheck.source.timeline.unit_tests import is_test

UNIT = "import pytest\n\n\ndef test_it():\n    assert net()\n"
SCRIPT = "net.eval()\nprint(net(images))\n"
FILES = [
    ("/home/me/project", "train.py", SCRIPT, False),
    ("/home/me/project", "test_segmentation.py", SCRIPT, False),
    ("/home/me/project", "test_net.py", UNIT, True),
    ("/home/me/project", "tests/helpers.py", SCRIPT, True),
    ("/home/me/project", "benchmarks/run.py", SCRIPT, True),
    ("/home/me/tests/data/project", "train.py", SCRIPT, False),
    ("/home/me/tests/data/project", "tests/helpers.py", SCRIPT, True),
    ("tests/data/project", "tools/train.py", SCRIPT, False),
]


@pytest.mark.parametrize(("folder", "path", "text", "expected"), FILES)
def test_is_test(folder: str, path: str, text: str, expected: bool) -> None:
    file = f"{folder}/{path}"
    project = Project(texts={Path(file): text, Path(f"{folder}/setup.py"): ""})
    assert is_test(project, project.module(file)) is expected

"""Files of unit tests: the networks there are small, and what is trained is thrown away."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from bncheck.source.module import SourceModule
from bncheck.source.project import Project

_FOLDER = re.compile(r"(?:^|/)(?:tests|benchmarks?)/|(?:^|/)(?:benchmark|profile)_[^/]*$")
_NAME = re.compile(r"(?:^|/)test(?:ing)?/|(?:^|/)(?:test_[^/]*|[^/]*_test)\.py$")
_UNIT_TEST = re.compile(
    r"\b(?:pytest|unittest|TestCase)\b|^ *(?:async )?def test\w*\([^)]*\)[\s\S]*?^ +assert\b",
    re.MULTILINE,
)


def is_test(project: Project, module: SourceModule) -> bool:
    """Tell unit tests and benchmarks from scripts that evaluate, such as `test_segmentation.py`.

    Where all the files of a run lie, below a folder `tests` perhaps, says nothing of them.
    """
    path = os.path.relpath(module.path, _shared_folder(project))
    if _FOLDER.search(path):
        return True
    return bool(_NAME.search(path) and _UNIT_TEST.search(module.text))


@lru_cache(maxsize=8)
def _shared_folder(project: Project) -> str:
    folders = [path.parent.absolute() for path in project.texts]
    return os.path.commonpath(folders or [Path.cwd()])

"""Files of unit tests: the networks there are small, and what is trained is thrown away."""

from __future__ import annotations

import re

from bncheck.source.module import SourceModule

_FOLDER = re.compile(r"(?:^|/)(?:tests|benchmarks?)/|(?:^|/)(?:benchmark|profile)_[^/]*$")
_NAME = re.compile(r"(?:^|/)test(?:ing)?/|(?:^|/)(?:test_[^/]*|[^/]*_test)\.py$")
_UNIT_TEST = re.compile(
    r"\b(?:pytest|unittest|TestCase)\b|^ *(?:async )?def test\w*\([^)]*\)[\s\S]*?^ +assert\b",
    re.MULTILINE,
)


def is_test(module: SourceModule) -> bool:
    """Tell unit tests and benchmarks from scripts that evaluate, such as `test_segmentation.py`."""
    if _FOLDER.search(module.path):
        return True
    return bool(_NAME.search(module.path) and _UNIT_TEST.search(module.text))

"""What the names in some code stand for is looked at in one order, whatever texts hash to."""

from pathlib import Path

import libcst as cst

from bncheck.source.project import Project
from bncheck.source.timeline.ingredients import ingredients_of

PARTS = [f"Part{letter}" for letter in "DACBHGFE"]
CODE = "".join(f"class {part}:\n    pass\n\n\n" for part in PARTS) + (
    f"def build():\n    return [{', '.join(f'{part}()' for part in PARTS)}]\n"
)


def test_ingredients_come_in_one_order() -> None:
    project = Project(texts={Path("parts.py"): CODE})
    module = project.module("parts.py")
    (build,) = module.bindings["build"]
    assert isinstance(build, cst.FunctionDef)
    found = [made.definition for made in ingredients_of(project, build, module)]
    names = [part.name.value for part in found if isinstance(part, cst.ClassDef)]
    assert names == sorted(PARTS)

"""The small projects of `fixtures/projects`: every finding in them, and no other."""

import pytest

from fixtures.expectations import SmallProject, all_projects

PROJECTS = all_projects()


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_findings_are_those_expected(project: SmallProject) -> None:
    assert sorted(project.found()) == sorted(project.expected)


def test_form_and_expectations_agree() -> None:
    for project in PROJECTS:
        own = [place for place in project.expected if place.code == project.rule]
        form = project.folder.name
        assert form.startswith(("mistake", "right")), project.name
        assert bool(own) == form.startswith("mistake"), project.name

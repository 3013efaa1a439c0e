"""The small projects below `fixtures`: every finding in them, and no other."""

from collections import defaultdict

import pytest

from bncheck.config import Settings
from bncheck.findings import Finding
from bncheck.linting import lint, read_sources
from bncheck.pages import all_pages
from fixtures.expectations import SmallProject, all_clauses, all_projects

PROJECTS = all_projects()
CLAUSES = [*all_clauses("structure"), *all_clauses("scripts")]


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_findings_are_those_expected(project: SmallProject) -> None:
    assert sorted(project.found()) == sorted(project.expected)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
def test_each_clause_holds(clause: SmallProject) -> None:
    assert sorted(clause.found()) == sorted(clause.expected)


def test_form_and_expectations_agree() -> None:
    for project in PROJECTS:
        own = [place for place in project.expected if place.code == project.rule]
        form = project.folder.name
        assert form.startswith(("mistake", "right")), project.name
        assert bool(own) == form.startswith("mistake"), project.name


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_a_rule_finds_alone_what_it_finds_among_all(project: SmallProject) -> None:
    sources = read_sources(map(str, project.files))
    among_all: dict[str, list[Finding]] = defaultdict(list)
    for finding in lint(sources, Settings(pedantic=project.pedantic)).findings:
        among_all[finding.code].append(finding)
    silent = [code for code, page in all_pages().items() if page.default and code not in among_all]
    for codes in [*((code,) for code in among_all), tuple(silent)]:
        alone = lint(sources, Settings(pedantic=project.pedantic, select=codes)).findings
        assert alone == [finding for code in codes for finding in among_all[code]]

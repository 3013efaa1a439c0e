"""Every rule's page is a test: its headings, its check, and what its code blocks show."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from bncheck.checks import all_checks
from bncheck.config import Settings
from bncheck.fixing import fix
from bncheck.linting import lint
from bncheck.pages import HEADINGS, Page, all_pages

PAGES = all_pages()
_MARK = re.compile(r"  # (BN\d+(?:, BN\d+)*)$", re.MULTILINE)


def marked(text: str) -> list[tuple[int, str]]:
    """Return the lines with a mark, once for each code in it."""
    return sorted(
        (number, code)
        for number, line in enumerate(text.splitlines(), 1)
        for mark in _MARK.findall(line)
        for code in mark.split(", ")
    )


def findings(page: Page, text: str) -> list[tuple[int, str]]:
    settings = Settings(select=(page.code,))
    report = lint({"example.py": text.encode()}, settings)
    return sorted((finding.line, finding.code) for finding in report.findings)


def blocks(heading: str) -> Iterator[object]:
    for page in PAGES.values():
        if "source" in page.reads:
            for number, text in enumerate(page.code_blocks(heading)):
                yield pytest.param(page, text, id=f"{page.code}-{number}")


def test_pages_and_checks_match() -> None:
    assert set(PAGES) == set(all_checks())


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_page_is_whole(page: Page) -> None:
    expected = [h for h in HEADINGS if h != "Fixed" or page.fix != "none"]
    assert list(page.sections) == expected
    assert all(page.sections.values())
    assert page.path.name == f"{page.code}-{page.name}.md"
    assert page.text.startswith(f"# {page.code} {page.name}\n")
    assert page.fix in {"none", "safe", "unsafe"}
    assert set(page.reads) <= {"source", "model", "checkpoint"}
    assert page.needs or "source" not in page.reads
    assert "source" not in page.reads or (page.code_blocks("Bad") and page.code_blocks("Good"))
    module = page.name.replace("-", "_")
    assert all_checks()[page.code].function.__module__ == f"bncheck.checks.{module}"


@pytest.mark.parametrize(("page", "text"), list(blocks("Bad")))
def test_bad_is_flagged_where_marked(page: Page, text: str) -> None:
    assert marked(text)
    assert findings(page, text) == marked(text)


@pytest.mark.parametrize(("page", "text"), list(blocks("Good")))
def test_good_is_silent(page: Page, text: str) -> None:
    assert findings(page, text) == []


@pytest.mark.parametrize(
    "page", [p for p in PAGES.values() if p.fix != "none"], ids=lambda p: p.code
)
def test_fixed_is_what_the_fixer_makes_of_bad(page: Page) -> None:
    bad, fixed = page.code_blocks("Bad"), page.code_blocks("Fixed")
    assert len(bad) == len(fixed) > 0
    settings = Settings(select=(page.code,))
    for before, after in zip(bad, fixed, strict=True):
        source = {"example.py": _MARK.sub("", before).encode()}
        made = fix(source, settings, unsafe=page.fix == "unsafe")
        assert made.sources["example.py"].decode() == after
        assert made.report.findings == []
        if page.fix == "unsafe":
            assert fix(source, settings).count == 0

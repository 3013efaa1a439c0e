"""Reads the rule pages, the only place where a rule is described."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bncheck.findings import Severity

HEADINGS = (
    "What it flags",
    "Why",
    "Bad",
    "Fixed",
    "Good",
    "When to ignore",
    "References",
)
"""Every page has these, in this order; `Fixed` is left out where the rule has no fix."""

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One rule's page: its front matter and its sections."""

    code: str
    name: str
    summary: str
    severity: Severity
    default: bool
    """Whether the rule runs without being selected."""
    fix: str
    """`safe`, `unsafe` or `none`."""
    reads: tuple[str, ...]
    """Among `source`, `model` and `checkpoint`."""
    needs: tuple[bytes, ...]
    """Byte strings; a file that holds none of them cannot matter to this rule."""
    path: Path
    text: str
    """The page without its front matter."""

    @property
    def sections(self) -> dict[str, str]:
        """Heading to text, in the order of the page."""
        parts = _SECTION.split(self.text)
        return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))

    def code_blocks(self, heading: str) -> list[str]:
        """Return the Python blocks under a heading."""
        return _BLOCK.findall(self.sections.get(heading, "") + "\n")


def rules_folder() -> Path:
    """Return the folder with the pages: inside the installed package, or beside it in a clone."""
    package = Path(__file__).parent
    installed = package / "_rules"
    return installed if installed.is_dir() else package.parent / "rules"


def read_page(path: Path) -> Page:
    """Read one page; raise ValueError where its front matter is not as it must be."""
    _, front, text = path.read_text(encoding="utf-8").split("---\n", 2)
    fields = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in front.splitlines() if line.strip())
    }
    try:
        return Page(
            code=fields["code"],
            name=fields["name"],
            summary=fields["summary"],
            severity=Severity(fields["severity"]),
            default={"on": True, "off": False}[fields["default"]],
            fix=fields["fix"],
            reads=tuple(fields["reads"].split()),
            needs=tuple(need.encode() for need in fields["needs"].split()),
            path=path,
            text=text,
        )
    except KeyError as missing:
        raise ValueError(f"{path.name}: front matter lacks {missing}") from None


@cache
def all_pages() -> dict[str, Page]:
    """Return every rule's page, by code."""
    pages = (read_page(path) for path in sorted(rules_folder().glob("BN*.md")))
    return {page.code: page for page in pages}


@cache
def all_needs() -> frozenset[bytes]:
    """Return the byte strings of which a file that can matter to any rule holds one."""
    return frozenset(need for page in all_pages().values() for need in page.needs)

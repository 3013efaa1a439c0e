"""What a check finds, what is reported of it, and how a fix is described.

A check yields `Match`es, which stand at sites; the worker turns each into a `Finding`, which has
lines and columns. This module imports neither libcst nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bncheck.graph import Site


class Severity(str, Enum):
    """How bad it is."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Confidence(str, Enum):
    """How sure the tool is; `POSSIBLE` is shown only with `--pedantic`."""

    PROVEN = "proven"
    LIKELY = "likely"
    POSSIBLE = "possible"


@dataclass(frozen=True)
class SetKeyword:
    """Give the call at `site` the keyword argument `keyword=value`, whatever it had before."""

    site: Site
    keyword: str
    value: str
    position: int | None = None
    """Where the argument stands when it was given by position, from 0."""


@dataclass(frozen=True)
class Replace:
    """Put `text` in the place of the expression or statement at `site`."""

    site: Site
    text: str


@dataclass(frozen=True)
class InsertLine:
    """Put a new line of code before or after the statement at `site`, indented as that is."""

    site: Site
    text: str
    after: bool = False


Change = SetKeyword | Replace | InsertLine


@dataclass(frozen=True)
class Lost:
    """A parameter that a layer no longer has after a fix; code that relies on it would fail."""

    parameter: str
    type_name: str
    """Of the layer, such as `torch.nn.Conv2d`."""
    name: str
    """Attribute path of the layer from the root."""


@dataclass(frozen=True)
class Fix:
    """Changes that mend one finding; `safe` when they cannot change what right code does."""

    description: str
    changes: tuple[Change, ...]
    safe: bool
    loses: Lost | None = None


@dataclass(frozen=True)
class Edit:
    """Put `text` in the place of a range of a file; lines and columns count from 1."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    """Of the character behind the last one."""
    text: str
    cell: int | None = None
    """The number of the notebook's cell that the lines are counted in, from 1."""


@dataclass(frozen=True)
class ResolvedFix:
    """A fix as edits of text, all of which are made or none."""

    description: str
    safe: bool
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Match:
    """One place that a check objects to."""

    site: Site
    message: str
    hint: str
    confidence: Confidence = Confidence.PROVEN
    fix: Fix | None = None
    severity: Severity | None = None
    """None: as the rule's page says."""
    hint_in_some: str = ""
    """What to do instead if the place is wrong in some of its instances only; there is no fix."""


@dataclass(frozen=True)
class Finding:
    """One place that a rule objects to, as it is reported. Lines and columns count from 1."""

    code: str
    name: str
    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    message: str
    hint: str
    severity: Severity
    confidence: Confidence
    fix: ResolvedFix | None = None
    source_line: str = ""
    cell: int | None = None
    """The number of the notebook's cell that the lines are counted in, from 1."""

    @property
    def sort_key(self) -> tuple[str, int, int, int, str]:
        """Order in which findings are shown."""
        return (self.path, self.cell or 0, self.line, self.column, self.code)

"""What a call of a script is given."""

from __future__ import annotations

from dataclasses import dataclass, field

from bncheck.source.timeline.values import Partial, Value


@dataclass
class Arguments:
    """Evaluated arguments."""

    positional: list[Value] = field(default_factory=list)
    keywords: dict[str, Value] = field(default_factory=dict)
    complete: bool = True
    """Whether there is no `*args` and no `**kwargs` among them."""

    def all(self) -> list[Value]:
        """Return every value, positional first."""
        return [*self.positional, *self.keywords.values()]

    def get(self, position: int | None, keyword: str) -> Value | None:
        """Return the argument given by keyword or at a position."""
        if keyword in self.keywords:
            return self.keywords[keyword]
        if position is not None and position < len(self.positional):
            return self.positional[position]
        return None

    def after(self, partial: Partial) -> Arguments:
        """Return these arguments behind those that `functools.partial` was given."""
        return Arguments(
            [*partial.positional, *self.positional],
            {**partial.keywords, **self.keywords},
            self.complete,
        )

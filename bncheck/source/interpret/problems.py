"""Why a path, a call or the reading of a network ends before its end."""

from __future__ import annotations


class PathEndsError(Exception):
    """The interpreted code raises here."""


class PlaceholderError(PathEndsError):
    """The path raises since what it comes to is not implemented: another class is to do it."""


class FruitlessError(Exception):
    """A call took its share of the work, and no layer came of it."""


class GiveUpError(Exception):
    """What is interpreted is too large; the reason is for `--statistics`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

"""BN213: a freeze that tests for one BatchNorm class and passes over the others."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from bncheck.checks import check
from bncheck.findings import Confidence, Fix, Match, Replace
from bncheck.timeline import FreezeTest, Timeline

_KINDS = frozenset(
    f"torch.nn.{package}{name}"
    for package in ("", "modules.", "modules.batchnorm.")
    for name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
)
_BASE = "torch.nn.modules.batchnorm._BatchNorm"


@check("BN213", Timeline)
def freeze_misses_kinds(timeline: Timeline) -> Iterator[Match]:
    """Yield each freezing `isinstance` test that lets other kinds of BatchNorm through."""
    by_function: dict[tuple[str, str], list[FreezeTest]] = defaultdict(list)
    for test in timeline.freeze_tests:
        by_function[test.class_name, test.function].append(test)
    for tests in by_function.values():
        named = {name for test in tests for name in test.classes if "BatchNorm" in name}
        kinds = {name.rpartition(".")[2] for name in named & _KINDS}
        if not kinds or not named <= _KINDS:
            continue
        for test in tests:
            if not kinds & {name.rpartition(".")[2] for name in test.classes}:
                continue
            if _all_there(timeline, test, kinds):
                continue
            yield Match(
                test.site,
                f"this freezes {', '.join(sorted(kinds))} only: {_missed(timeline, test, kinds)}",
                f"test for {_BASE}, the base class of them all",
                Confidence.LIKELY
                if len(kinds) == 1
                and _may_meet_others(timeline, test, kinds)
                and not _lies_idle(timeline, test)
                else Confidence.POSSIBLE,
                fix=_widened(test),
            )


def _missed(timeline: Timeline, test: FreezeTest, kinds: set[str]) -> str:
    others = sorted({name.rpartition(".")[2] for name in _KINDS} - kinds)
    if "SyncBatchNorm" in others and _synchronises(timeline, test):
        return "a SyncBatchNorm, as this project makes or offers it, would train on unnoticed"
    return f"{', '.join(others)} would train on unnoticed"


def _synchronises(timeline: Timeline, test: FreezeTest) -> bool:
    """Tell whether the project synchronises what may come to the test."""
    path = test.site.path
    if test.class_name:
        return timeline.said.synchronise_around(path)
    return timeline.said.synchronise_for(test.function, path)


def _widened(test: FreezeTest) -> Fix | None:
    """Write the base class as the file writes the class: `nn.X` becomes `nn.modules...`."""
    prefix, _, _ = test.text.rpartition(".")
    if not prefix or len(test.classes) != 1:
        return None
    root = prefix.removesuffix(".batchnorm").removesuffix(".modules")
    base = f"{root}.modules.batchnorm._BatchNorm"
    return Fix("Test for every kind of BatchNorm", (Replace(test.site, base),), safe=False)


def _all_there(timeline: Timeline, test: FreezeTest, kinds: set[str]) -> bool:
    """Tell whether the class or the project that the test stands in has just the kinds tested."""
    used = timeline.said.norm_kinds
    if used and used <= kinds:
        return True
    synchronised = _synchronises(timeline, test)
    return not (synchronised and timeline.said.may_hold_others_at(test.site.path)) and any(
        known.name == test.class_name
        and known.holds_batch_norm is True
        and known.norm_kinds == kinds
        for known in timeline.classes
    )


_FREEZES = re.compile(r"freez|frozen|fix|bn|norm", re.IGNORECASE)


def _lies_idle(timeline: Timeline, test: FreezeTest) -> bool:
    """Tell whether the test stands in a helper that a project which trains networks never asks.

    Nobody else asks for a private one.
    """
    said = timeline.said
    return (
        _FREEZES.search(test.function) is not None
        and (said.train_networks or test.function.startswith("_"))
        and not said.speak_of(test.function)
    )


def _may_meet_others(timeline: Timeline, test: FreezeTest, kinds: set[str]) -> bool:
    """Tell whether other kinds may come to the freeze.

    They may where the project synchronises, where the class of the test holds one, and where
    nothing is known of what is frozen. A BatchNorm1d in some other network of the project is none.
    """
    used = timeline.said.norm_kinds
    return (
        not used
        or _synchronises(timeline, test)
        or any(
            known.name == test.class_name and known.norm_kinds - kinds for known in timeline.classes
        )
    )

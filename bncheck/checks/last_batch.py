"""BN302: a last batch of one sample, on which BatchNorm fails in train mode."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bncheck.batches import Feeding, feedings
from bncheck.checks import check
from bncheck.events import Event, Leave, WrapKind
from bncheck.findings import Confidence, Fix, Match, SetKeyword, Severity
from bncheck.graph import Site
from bncheck.naming import called
from bncheck.timeline import Branch, Step, Timeline, children


@check("BN302", Timeline)
def last_batch(timeline: Timeline) -> Iterator[Match]:
    """Yield each training loader whose last batch holds, or can hold, a single sample."""
    seen: set[Site] = set()
    fed = list(feedings(timeline))
    for feeding in fed:
        loader = feeding.loader
        if (
            loader.site in seen
            or loader.drop_last is not False
            or not feeding.of_samples
            or feeding.batch_size == 1
            or not feeding.fails_on_one
            or not feeding.normalises_by_batch
            or feeding.wrapped(WrapKind.SYNC_BATCH_NORM)  # It counts the samples of all processes.
            or _looks_at_the_size(feeding)
            or _is_of_one_size(feeding)
            or _is_one_of_many(feeding, fed)
        ):
            continue
        certain = _certain(feeding)
        if certain is False:
            continue
        seen.add(loader.site)
        yield Match(
            loader.site,
            f"the last batch {'holds' if certain else 'can hold'} one sample, and a BatchNorm of "
            f"{called(feeding.model)} then sees one value per channel and raises ValueError",
            "pass drop_last=True for training",
            Confidence.PROVEN if certain else Confidence.LIKELY,
            fix=Fix("Set drop_last=True", (SetKeyword(loader.site, "drop_last", "True"),), False),
            severity=Severity.ERROR if certain else Severity.NOTE,
        )


_SIZE = re.compile(r"(?:^|_)(?:shape|size|len|length|batch_?size|bsz?)$", re.IGNORECASE)


def _looks_at_the_size(feeding: Feeding) -> bool:
    """Tell whether it is by a size that the loop goes forward, as in `if len(x) < 2: continue`.

    What is printed after so many samples decides nothing.
    """
    return any(
        isinstance(event, Leave) or event is feeding.forward
        for event, inside in _with_branches(feeding.loop.steps)
        if any(_SIZE.search(name) for branch in inside for name in branch.condition.split())
    )


def _is_of_one_size(feeding: Feeding) -> bool:
    """Tell whether what goes in is made up, always of so many rows: the noise of a generator."""
    forward = feeding.forward
    return forward.made_up_input and isinstance(forward.batch_size, int)


_CHOICES_PER_FAILING = 12
"""Of so many networks one at least has to fail, or a choice among them tells nothing."""


def _is_one_of_many(feeding: Feeding, fed: list[Feeding]) -> bool:
    """Tell whether a setting chooses the network, and few of those that it may be fail."""
    chosen = {f.model: f.fails_on_one for f in fed if f.forward.site == feeding.forward.site}
    return sum(chosen.values()) * _CHOICES_PER_FAILING < len(chosen)


def _with_branches(
    steps: tuple[Step, ...], inside: tuple[Branch, ...] = ()
) -> Iterator[tuple[Event, tuple[Branch, ...]]]:
    """Yield each event and the branches that it stands in."""
    for step in steps:
        if isinstance(step, Event):
            yield step, inside
            continue
        more = (*inside, step) if isinstance(step, Branch) else inside
        for part in children(step):
            yield from _with_branches(part, more)


def _certain(feeding: Feeding) -> bool | None:
    """Tell whether the last batch holds one sample; None where it is not known.

    Of an even number of samples only batches of an odd size leave one over, which nobody asks for.
    """
    size, length = feeding.batch_size, feeding.loader.dataset_length
    if not isinstance(length, int) or feeding.loader.distributed:
        return None
    if not isinstance(size, int):
        return False if length % 2 == 0 else None
    return length % size == 1

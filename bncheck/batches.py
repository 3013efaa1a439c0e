"""What a batch size means for BatchNorm, and which training loaders feed it tiny batches.

This module imports neither libcst nor torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import sqrt

from bncheck.events import ForwardCall, Loader, Mode, ModeChange, Model, Wrap, WrapKind
from bncheck.findings import Confidence
from bncheck.graph import UNKNOWN, Unknown
from bncheck.paths import Moment, assurance, frozen_in_forward, training_forwards
from bncheck.timeline import Loop, Step, Timeline

_OF_IMAGES = frozenset({"BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"})


@dataclass(frozen=True)
class Feeding:
    """A training loop whose batches, from a loader, go into a model with BatchNorm."""

    loader: Loader
    loop: Loop
    forward: ForwardCall
    moment: Moment

    @property
    def model(self) -> Model:
        """The model that is fed."""
        return self.forward.model

    @property
    def batch_size(self) -> int | Unknown:
        """Samples per batch and process; per device where DataParallel shares them out."""
        if self.loader.for_each_device is not UNKNOWN:
            shared = self.moment.wrapped(self.model, WrapKind.DATA_PARALLEL) is True
            return self.loader.for_each_device if shared else UNKNOWN
        return self.loader.batch_size

    def tiny(self, minimum: int) -> bool:
        """Tell whether its batches are known to be smaller than `minimum`."""
        size = self.batch_size
        return isinstance(size, int) and 0 < size < minimum and self.of_samples

    @property
    def of_samples(self) -> bool:
        """Whether a batch is of as many samples as the loader was asked for.

        What a collate function joins in another way than by stacking is no image: a network whose
        BatchNorm asks for images is not given it.
        """
        if self.loader.graphs:
            return self.model.one_value_per_graph
        if self.forward.unpacked:
            return False
        custom = self.loader.custom_batches
        kinds = self.model.norm_kinds
        return custom is False or (custom is UNKNOWN and bool(kinds) and kinds <= _OF_IMAGES)

    @property
    def fails_on_one(self) -> bool:
        """Whether a batch of one sample fails in train mode."""
        if self.loader.graphs:
            return self.model.one_value_per_graph
        return self.model.one_value_norm is True

    @property
    def normalises_by_batch(self) -> bool:
        """Whether the BatchNorm layers are in train mode on every path that leads here."""
        return self.moment.modes(self.model) == {Mode.TRAIN}

    def wrapped(self, kind: WrapKind) -> bool:
        """Tell whether the wrapper may be around the model."""
        return self.moment.wrapped(self.model, kind) is not False


def feedings(timeline: Timeline) -> Iterator[Feeding]:
    """Yield each training forward call in a loop on a known loader's batches.

    That is a loop over the loader, or one that asks it for the next batch, or what Lightning fits.
    What another framework manages is left out. What runs with the settings as they are comes once
    more by itself: a freeze that only another setting makes is none there.
    """
    if timeline.driven_by:
        return
    yield from _feedings(timeline)
    if _may_matter(timeline) and timeline.usual is not None:
        yield from _feedings(timeline.usual)
    for steps in timeline.fits:
        yield from _fitted(timeline, steps)


def _fitted(timeline: Timeline, steps: tuple[Step, ...]) -> Iterator[Feeding]:
    """Yield what a trainer of Lightning feeds, unless the script itself switches a mode in it."""
    switched = [event.model for _, event in timeline.of(ModeChange)]
    for feeding in _feedings(replace(timeline, steps=steps, fits=()), managed=True):
        model = feeding.model
        if not any(model.within(other) or other.within(model) for other in switched):
            yield feeding


def _may_matter(timeline: Timeline) -> bool:
    """Tell whether the size of a batch may matter to a network at all."""
    sizes = [s for one in timeline.loaders for s in (one.batch_size, one.for_each_device)]
    return any(isinstance(size, int) and size < timeline.minimum_batch_size for size in sizes) or (
        any(model.one_value_norm is True or model.one_value_per_graph for model in timeline.models)
    )


def _feedings(timeline: Timeline, managed: bool = False) -> Iterator[Feeding]:
    forwards = training_forwards(timeline)
    ordinary = {forward.site for _, forward in forwards if forward.model.by_default}
    for moment, forward in forwards:
        if not forward.model.by_default and forward.site in ordinary:
            continue  # What its default is goes through here as well.
        loop, loader = moment.occurrence.loader_loop, forward.loader
        if loop is not None:
            loader = loop.loader
        elif moment.occurrence.loops:
            loop = moment.occurrence.loops[-1]
        if loop is not None and loader is not None and (managed or not forward.model.driven_by):
            for one in (loader, *(other for other in loader.instead if other.training is True)):
                yield Feeding(one, loop, forward, moment)


def tiny_feedings(timeline: Timeline) -> Iterator[tuple[Feeding, int, Confidence]]:
    """Yield each feeding of BatchNorm in train mode with tiny batches of a known size.

    What synchronises its statistics over all processes is left out. The size comes along, and how
    sure it is that the model holds BatchNorm.
    """
    frozen = frozen_in_forward(timeline)
    for feeding in feedings(timeline):
        size = feeding.batch_size
        if (
            isinstance(size, int)
            and feeding.tiny(timeline.minimum_batch_size)
            and feeding.model.by_default
            and feeding.normalises_by_batch
            and not any(part.within(feeding.model) for part in frozen)
            and not feeding.wrapped(WrapKind.SYNC_BATCH_NORM)
            and not feeding.model.shares_statistics
            and (sure := assurance(feeding.model)) is not None
        ):
            yield feeding, size, sure


def distributed_by(timeline: Timeline, model: Model) -> Iterator[Wrap]:
    """Yield what shares a model, or what it is a part of, among processes."""
    for _, event in timeline.of(Wrap):
        if event.kind is WrapKind.DISTRIBUTED and model.within(event.model):
            yield event


def variance_error(samples: int) -> float:
    """Return the relative error (root mean square) of a batch's variance.

    For `samples` independent Gaussian values and the biased estimate that BatchNorm uses:
    its variance is 2 (n - 1) / n^2 and its bias -1 / n, hence sqrt(2 n - 1) / n.
    """
    return sqrt(2 * samples - 1) / samples

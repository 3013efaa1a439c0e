"""BN211: BatchNorm layers put in eval mode once, and back by the next `train()`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Copied, ForwardCall, Leave, Mode, ModeChange, Model, Origin, Target
from bncheck.findings import Confidence, Match
from bncheck.naming import called
from bncheck.paths import (
    Moment,
    assurance_of_part,
    frozen_in_forward,
    keeps_own_mode,
    training_forwards,
)
from bncheck.states import State
from bncheck.timeline import Call, Timeline, occurrences

_HINT = (
    "freeze again after every train(), or override train() in the network so that it keeps these "
    "layers in eval mode; `bncheck freeze` makes them constants"
)

_WHILE_MADE = (
    "this puts BatchNorm layers in eval mode while the network is made; the first train() puts "
    "them back, since its class does not override train()"
)


@check("BN211", Timeline)
def freeze_undone(timeline: Timeline) -> Iterator[Match]:
    """Yield each freeze of a training step's BatchNorm that a later `train()` has undone."""
    if timeline.driven_by:
        return
    told = _told(timeline)
    yield from told.values()
    sites = {freeze.site for freeze in told}
    yield from (match for match in _constructor(timeline) if match.site not in sites)
    methods = list(_methods(timeline))
    yield from methods
    sites |= {match.site for match in methods}
    yield from (match for match in _in_constructors(timeline) if match.site not in sites)
    for lost in timeline.lost_freezes:
        if lost.site not in sites:
            sure = Confidence.LIKELY if lost.trained else Confidence.POSSIBLE
            yield Match(lost.site, _WHILE_MADE, _HINT, sure)


def _copied_again(timeline: Timeline) -> set[Model]:
    """Return the copies that a loop makes anew: their mode ends with its round."""
    return {copied.model for occurrence, copied in timeline.of(Copied) if occurrence.loops}


def _first_of_kinds(timeline: Timeline) -> dict[ModeChange, ModeChange]:
    """Return, for each freeze of a kind of BatchNorm, the first one of its function."""
    firsts: dict[tuple[Model, Call], ModeChange] = {}
    found: dict[ModeChange, ModeChange] = {}
    for occurrence, change in timeline.of(ModeChange):
        calls = [block for block in occurrence.inside if isinstance(block, Call)]
        if calls and change.mode is Mode.EVAL and change.target is Target.NORMS:
            found[change] = firsts.setdefault((change.model, calls[-1]), change)
    return found


_SWITCH = re.compile(
    r"(?:^|[._])(?:eval(?:uate|uation)?|test|infer\w*|inference|predict\w*|valid\w*)(?:_mode)?$"
)
"""Names of functions that put a network in eval mode to evaluate it."""


def _for_a_run(timeline: Timeline) -> Iterator[ModeChange]:
    """Yield each whole `eval()` that is no freeze: the function around runs the network so.

    Or its name says that the network is evaluated next, or it ends with a copy of the network.
    """
    for occurrence, change in timeline.of(ModeChange):
        calls = [block for block in occurrence.inside if isinstance(block, Call)]
        if change.target is not Target.WHOLE or not calls:
            continue
        function = calls[-1].function
        if _SWITCH.search(function) or (
            not function.endswith(".__init__")
            and (
                _ends_with_a_copy(calls[-1], change.model)
                or (
                    not calls[-1].trains
                    and any(
                        isinstance(other.event, ForwardCall) and other.event.model is change.model
                        for other in occurrences(calls[-1].steps)
                    )
                )
            )
        ):
            yield change


def _ends_with_a_copy(call: Call, model: Model) -> bool:
    """Tell whether a function hands out a copy: `model.eval(); return deepcopy(model)`."""
    last = None
    for occurrence in occurrences(call.steps):
        if not isinstance(occurrence.event, Leave):
            last = occurrence.event
    return isinstance(last, Copied) and last.source is model


def _told(timeline: Timeline) -> dict[ModeChange, Match]:
    """Return what is told of each freeze: of the part that is the surest to hold BatchNorm."""
    told: dict[ModeChange, Match] = {}
    again = frozen_in_forward(timeline) | _copied_again(timeline)
    runs = set(_for_a_run(timeline))
    first = _first_of_kinds(timeline)
    for moment, forward in training_forwards(timeline):
        for part, state in _undone(moment, forward.model):
            freeze = state.frozen_by
            if freeze is None or freeze in runs or part in again:
                continue
            freeze = first.get(freeze, freeze)
            if freeze in told and told[freeze].confidence is not Confidence.POSSIBLE:
                continue
            sure = _sure(part, state.frozen_by)
            if sure is None or (freeze in told and sure is Confidence.POSSIBLE):
                continue
            if freeze.site.path != timeline.path and (
                timeline.said.scripts_that_freeze_norms - {freeze.site.path}
            ):
                sure = Confidence.POSSIBLE  # The script's own freeze may be missed.
            told[freeze] = Match(
                freeze.site,
                f"this puts BatchNorm layers of {called(part)} in eval mode, but a later train() "
                "puts them back before the next training step",
                _HINT,
                sure,
            )
    return told


def _undone(moment: Moment, model: Model) -> Iterator[tuple[Model, State]]:
    parts = [part for part in moment.states if part.within(model) or model.within(part)]
    for part in dict.fromkeys([model, *parts]):
        for state in moment.of(part):
            undone = state.undone_by
            if (
                state.mode is Mode.TRAIN
                and undone is not None
                and undone.target is Target.WHOLE
                and not _switches_back(state.frozen_by, undone)
                and not keeps_own_mode(part, undone.model)
            ):
                yield part, state


def _switches_back(freeze: ModeChange | None, undone: ModeChange) -> bool:
    """Tell whether `train()` is called on the very thing that `eval()` was called on: as asked."""
    return freeze is not None and freeze.target is Target.WHOLE and freeze.model is undone.model


def _sure(part: Model, freeze: ModeChange | None) -> Confidence | None:
    names_norms = freeze is not None and _names_batch_norm(freeze)
    sure = assurance_of_part(part)
    # A class that is not among the files given may override `train()`.
    not_given = part.origin is Origin.UNKNOWN and "." in part.type_name
    if sure is Confidence.POSSIBLE and names_norms and not not_given:
        return Confidence.LIKELY
    return sure


def _names_batch_norm(freeze: ModeChange) -> bool:
    return any("BatchNorm" in name for name in freeze.classes)


def _constructor(timeline: Timeline) -> Iterator[Match]:
    """Yield a freeze in a network's own constructor: any `train()` undoes it.

    Several in one function, one for each kind of BatchNorm, are told once.
    """
    seen: set[tuple[Model, tuple[str, ...]]] = set()
    for occurrence, event in timeline.of(ModeChange):
        within = _within_constructor(event.model, occurrence.functions)
        if (
            within is not None
            and event.mode is Mode.EVAL
            and event.target is Target.NORMS
            and event.model.origin in {Origin.SELF, Origin.PROJECT}
            and event.model.parent is None
            and (event.model, within) not in seen
            and not keeps_own_mode(event.model)
            and event.model.holds_batch_norm is not False
            and (event.model.holds_batch_norm is True or _names_batch_norm(event))
        ):
            seen.add((event.model, within))
            again = any(
                name.rpartition(".")[2] in timeline.said.called_on_others for name in within
            )
            yield Match(
                event.site,
                _WHILE_MADE,
                _HINT,
                Confidence.POSSIBLE
                if again or timeline.said.scripts_that_freeze_norms
                else Confidence.LIKELY,
            )


def _within_constructor(model: Model, functions: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the functions followed inside the model's own constructor; None: not in it."""
    constructor = f"{model.type_name.rpartition('.')[2]}.__init__"
    if constructor not in functions:
        return None
    return functions[functions.index(constructor) + 1 :]


def _in_constructors(timeline: Timeline) -> Iterator[Match]:
    """Yield a freeze of all norms in the constructor of a network that nothing here makes.

    A configuration may make it; OpenMMLab's runners call `train()` in each epoch.
    """
    known = {one.name: one for one in timeline.classes}
    # Tests in one function, one for each kind of BatchNorm, are told once.
    firsts = {(test.class_name, test.function): test for test in reversed(timeline.freeze_tests)}
    for test in firsts.values():
        cls = known.get(test.class_name)
        if (
            cls is not None
            and test.while_made
            and test.eval_site is not None
            and not test.in_forward
            and cls.overrides_train is False
            and cls.driven_by in {"", "mmcv"}
            and any("BatchNorm" in name for name in test.classes)
            and (not test.switch or timeline.said.turn_on(test.switch))
        ):
            again = test.function in timeline.said.called_on_others
            trained = cls.driven_by or timeline.said.train_networks
            yield Match(
                test.eval_site,
                _WHILE_MADE,
                _HINT,
                Confidence.POSSIBLE
                if again or not trained or timeline.said.scripts_that_freeze_norms
                else Confidence.LIKELY,
            )


def _methods(timeline: Timeline) -> Iterator[Match]:
    """Yield a freeze by a network's method that keeps gradients off, but not train mode."""
    overriding = {known.name: known.overrides_train for known in timeline.classes}
    driven = {known.name for known in timeline.classes if known.driven_by}
    for test in timeline.freeze_tests:
        if (
            test.eval_site is not None
            and test.function_stops_gradients
            and not test.in_forward
            and test.function not in {"train", "eval"}
            and overriding.get(test.class_name) is False
            and test.class_name not in driven
            and any("BatchNorm" in name for name in test.classes)
            and timeline.said.call_somewhere(test.function)
        ):
            yield Match(
                test.eval_site,
                f"`{test.class_name}.{test.function}` keeps gradients off for good, but the eval "
                "mode of these BatchNorm layers only until the next train(), which the class "
                "does not override",
                _HINT,
                # A script that freezes too may do so after each train().
                Confidence.POSSIBLE
                if timeline.said.scripts_that_freeze_norms
                else Confidence.LIKELY,
            )

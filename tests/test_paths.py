"""What is known of a model on every path: freezes, joins, loops and early exits."""

from __future__ import annotations

import pytest

from bncheck.events import (
    Event,
    Exit,
    ForwardCall,
    Leave,
    Mode,
    ModeChange,
    Model,
    Origin,
    RequiresGrad,
    Target,
    Wrap,
    WrapKind,
)
from bncheck.graph import Site
from bncheck.paths import Moment, moments
from bncheck.timeline import Branch, Call, Context, ContextKind, Entry, Loop, Step, Timeline

SITE = Site("script.py", "1")
MODEL = Model("model", Origin.PROJECT, "Net", SITE)
BACKBONE = Model("model.backbone", Origin.PROJECT, "Backbone", SITE, parent=MODEL)
TRAIN = ModeChange(SITE, MODEL, Mode.TRAIN)
EVAL = ModeChange(SITE, MODEL, Mode.EVAL)
FREEZE = ModeChange(SITE, MODEL, Mode.EVAL, Target.NORMS)
FREEZE_BACKBONE = ModeChange(SITE, BACKBONE, Mode.EVAL)
FORWARD = ForwardCall(SITE, MODEL)
RETURN = Leave(SITE, Exit.RETURN)


def loop(*steps: Step) -> Loop:
    return Loop(SITE, steps)


def either(*alternatives: tuple[Step, ...]) -> Branch:
    return Branch(SITE, alternatives)


def at(event: Event, *steps: Step) -> Moment:
    reached = moments(Timeline("script", "script.py", Entry.MODULE, steps))
    (moment,) = [moment for moment in reached if moment.event is event]
    return moment


@pytest.mark.parametrize(
    ("steps", "modes"),
    [
        ((FORWARD,), {Mode.TRAIN}),
        ((EVAL, FORWARD), {Mode.EVAL}),
        ((FREEZE_BACKBONE, FORWARD), {Mode.TRAIN, Mode.EVAL}),
        ((either((EVAL,), ()), FORWARD), {Mode.TRAIN, Mode.EVAL}),
        ((either((EVAL, RETURN), ()), FORWARD), {Mode.TRAIN}),
        ((Call(SITE, "f", (either((EVAL, RETURN), ()),)), FORWARD), {Mode.TRAIN, Mode.EVAL}),
        ((loop(FORWARD, EVAL),), {Mode.TRAIN, Mode.EVAL}),
        ((loop(TRAIN, FORWARD, EVAL),), {Mode.TRAIN}),
        ((loop(EVAL, Leave(SITE, Exit.BREAK)), FORWARD), {Mode.TRAIN, Mode.EVAL}),
        ((ModeChange(SITE, MODEL, Mode.EVAL, Target.DROPOUTS), FORWARD), {Mode.TRAIN}),
        ((ModeChange(SITE, MODEL, Mode.EVAL, Target.PART), FORWARD), {Mode.UNKNOWN}),
    ],
)
def test_modes(steps: tuple[Step, ...], modes: set[Mode]) -> None:
    assert at(FORWARD, *steps).modes(MODEL) == modes


@pytest.mark.parametrize(
    ("steps", "undone"),
    [
        ((FREEZE, TRAIN, FORWARD), True),
        ((FREEZE, loop(TRAIN, FORWARD, EVAL)), True),
        ((TRAIN, FREEZE, FORWARD), False),
        ((loop(TRAIN, FREEZE, FORWARD),), False),
        ((FREEZE, TRAIN, either((FREEZE,), ()), FORWARD), False),
        ((either((FREEZE,), ()), TRAIN, FORWARD), True),
        ((EVAL, TRAIN, FORWARD), False),
    ],
)
def test_undone_freezes(steps: tuple[Step, ...], undone: bool) -> None:
    states = at(FORWARD, *steps).of(MODEL)
    assert any(state.undone_by is not None for state in states) is undone


def test_a_part_in_eval_mode_for_an_evaluation_is_not_frozen() -> None:
    look = ForwardCall(SITE, BACKBONE)
    evaluation = Context(SITE, ContextKind.NO_GRAD, (look,))
    (state,) = at(FORWARD, FREEZE_BACKBONE, evaluation, TRAIN, FORWARD).of(BACKBONE)
    assert state.undone_by is None
    (state,) = at(FORWARD, FREEZE_BACKBONE, TRAIN, FORWARD).of(BACKBONE)
    assert state.undone_by is TRAIN


def test_a_part_has_what_happened_to_the_whole() -> None:
    stop = RequiresGrad(SITE, MODEL, value=False)
    (state,) = at(FORWARD, stop, FORWARD).of(BACKBONE)
    assert state.without_gradient is stop


@pytest.mark.parametrize(
    ("steps", "wrapped"),
    [
        ((FORWARD,), False),
        ((Wrap(SITE, MODEL, WrapKind.DISTRIBUTED), FORWARD), True),
        ((either((Wrap(SITE, MODEL, WrapKind.DISTRIBUTED),), ()), FORWARD), None),
    ],
)
def test_wraps(steps: tuple[Step, ...], wrapped: bool | None) -> None:
    assert at(FORWARD, *steps).wrapped(MODEL, WrapKind.DISTRIBUTED) is wrapped

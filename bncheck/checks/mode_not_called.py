"""BN203: `model.eval` without parentheses, or `model.training = False`."""

from __future__ import annotations

from collections.abc import Iterator

from bncheck.checks import check
from bncheck.events import Mode
from bncheck.findings import Fix, Match, Replace
from bncheck.timeline import Timeline
from bncheck.uncalled import uncalled


@check("BN203", Timeline)
def mode_not_called(timeline: Timeline) -> Iterator[Match]:
    """Yield each statement that was meant to switch a model's mode and does not."""
    for event, known in uncalled(timeline).items():
        if event.assigned:
            call = "eval()" if event.mode is Mode.EVAL else "train()"
            root_only = event.text.rpartition(".")[2] == "training"
            yield Match(
                event.site,
                f"assigning `{event.text}` reaches the root module only: the BatchNorm layers "
                "inside keep their mode"
                if root_only
                else f"assigning `{event.text}` hides the method, and changes no mode",
                f"call `{event.model.name}.{call}`, which goes through all modules",
                confidence=known,
            )
        else:
            yield Match(
                event.site,
                f"`{event.text}` is only named, not called: the mode does not change",
                "add the parentheses",
                confidence=known,
                fix=Fix("Add the parentheses", (Replace(event.site, f"{event.text}()"),), True),
            )

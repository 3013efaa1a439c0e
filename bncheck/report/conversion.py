"""What a conversion did, for people and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bncheck.convert.files import Outcome
    from bncheck.verification.compare import Verification


def as_text(outcome: Outcome, done: str) -> Iterator[str]:
    """Yield the lines of the report; `done` is what happened to the layers, such as `folded`."""
    loaded, result = outcome.loaded, outcome.result
    yield click.style(f"{loaded.path}: {loaded.kind.value}", bold=True)
    yield ""
    rows = [(step.batch_norm or "(itself)", step.into, step.how) for step in result.steps]
    yield from _table(("BatchNorm", f"{done} into", "how"), rows)
    if result.refusals:
        if result.steps:
            yield ""
        stays = [(refusal.batch_norm or "(itself)", refusal.reason) for refusal in result.refusals]
        yield from _table(("BatchNorm", "stays, because"), stays)
    total = len(result.steps) + len(result.refusals)
    yield ""
    yield click.style(f"{len(result.steps)} of {total} BatchNorms {done}.", bold=True)
    yield from _about(outcome)
    yield ""
    yield from _table(("", "original", done), list(_measures(outcome)), right=True)
    if result.verification is not None:
        yield ""
        yield verdict_as_text(result.verification)
    for note in outcome.notes:
        yield f"Note: {note}."
    if outcome.written is not None:
        what = "" if result.steps else ", which holds the model as it was"
        yield f"Wrote {outcome.written}{what}."
    else:
        yield "Nothing was written."


def as_json(outcome: Outcome) -> str:
    """Return one object; these keys stay."""
    loaded, result = outcome.loaded, outcome.result
    seconds = outcome.seconds or (None, None)
    return json.dumps(
        {
            "path": str(loaded.path),
            "kind": loaded.kind.value,
            "output": None if outcome.written is None else str(outcome.written),
            "steps": [
                {"batch_norm": step.batch_norm, "into": step.into, "how": step.how}
                for step in result.steps
            ],
            "refusals": [
                {"batch_norm": refusal.batch_norm, "reason": refusal.reason}
                for refusal in result.refusals
            ],
            "verification": verification_object(result.verification),
            "traced_by": _traced_by(outcome),
            "parameters": _pair(outcome.parameters),
            "names": {"gone": list(outcome.names.gone), "new": list(outcome.names.new)},
            "file_size": _pair(outcome.file_sizes),
            "latency_seconds": _pair(seconds),
            "notes": list(outcome.notes),
        },
        indent=2,
    )


_TRACERS = {
    "fx": "torch.fx",
    "export": "torch.export",
    "record": "recorded runs",
    "script": "its own graph",
}


def _traced_by(outcome: Outcome) -> str | None:
    """Return how the model was read, where it had to be."""
    return getattr(outcome.result, "traced_by", None)


def _about(outcome: Outcome) -> Iterator[str]:
    """Say how the model was read, and which names there are now."""
    traced_by = _traced_by(outcome)
    if traced_by is not None:
        yield f"Read by {_TRACERS.get(traced_by, traced_by)}."
    names = outcome.names
    if names.gone or names.new:
        new = f" ({', '.join(names.new[:3])}{', ...' * (len(names.new) > 3)})" if names.new else ""
        yield f"Names in the state dict: {len(names.gone)} gone, {len(names.new)} new{new}."


def verification_object(verification: Verification | None) -> dict[str, Any] | None:
    """Return the verdict as JSON's types; null where there was none."""
    if verification is None:
        return None
    return {
        "passed": verification.passed,
        "error_original": _number(verification.error_original),
        "error_converted": _number(verification.error_converted),
        "allowed": _number(verification.allowed),
        "error_exact": None
        if verification.error_exact is None
        else _number(verification.error_exact),
        "exact_with": verification.exact_with,
        "error_float64": None
        if verification.error_float64 is None
        else _number(verification.error_float64),
        "device": verification.device,
        "dtype": verification.dtype,
        "reference": verification.reference,
        "inputs": verification.inputs,
        "reason": verification.reason,
        "blind": verification.blind,
    }


def verdict_as_text(verification: Verification) -> str:
    """Return the verdict as a sentence."""
    where = f"in {verification.dtype} on {verification.device}, against {verification.reference}"
    of = f" of output {verification.output}" if verification.output else ""
    errors = (
        f"error{of}: original {verification.error_original:.2e}, converted "
        f"{verification.error_converted:.2e}, allowed {verification.allowed:.2e}"
    )
    if verification.error_exact is not None:
        how = {"exact values": "before rounding", "same parameters": "with the same parameters"}
        errors += f"; in float64, {how[verification.exact_with]}, {verification.error_exact:.2e}"
    elif verification.error_float64 is not None:
        errors += f"; in float64, rounded parameters as they are, {verification.error_float64:.2e}"
    if verification.passed:
        blind = " It proves little: the outputs are the same for every sample."
        verified = click.style("Verified", fg="green", bold=True) + f" {where} ({errors})."
        return verified + blind * verification.blind
    failed = click.style("Verification failed", fg="red", bold=True)
    if math.isinf(verification.error_converted) and verification.error_original == 0:
        # Nothing was compared: it did not run, or gave something else.
        return f"{failed} on {verification.device}: {verification.reason}."
    return f"{failed} {where}: {verification.reason} ({errors})."


def _measures(outcome: Outcome) -> Iterator[tuple[str, str, str]]:
    before, after = outcome.parameters
    yield "parameters", f"{before:,}", f"{after:,}"
    size, written = outcome.file_sizes
    yield "file", _bytes(size), "-" if written is None else _bytes(written)
    verification = outcome.result.verification
    if verification is not None:
        yield (
            f"error against {verification.reference.split(' ')[0]}",
            f"{verification.error_original:.2e}",
            f"{verification.error_converted:.2e}",
        )
    if outcome.seconds is not None:
        first, second = outcome.seconds
        yield "latency", f"{first * 1e3:.2f} ms", f"{second * 1e3:.2f} ms"


def _table(
    head: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: bool = False
) -> Iterator[str]:
    if not rows:
        return
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for number, row in enumerate((head, *rows)):
        cells = [
            f"{cell:>{width}}" if right and i else f"{cell:{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        yield "  " + (click.style(line, dim=True) if number == 0 else line)


def _bytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def _pair(values: tuple[Any, Any]) -> dict[str, Any]:
    return {"original": values[0], "converted": values[1]}


def _number(value: float) -> float | None:
    """Return a number that JSON has: it knows no infinity."""
    return value if abs(value) < float("inf") else None

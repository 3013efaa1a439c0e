"""Folds the zoo with bncheck and with the tools that exist, in one run, and compares.

    python benchmarks/fold_zoo.py                        # everything that imports, then the table
    python benchmarks/fold_zoo.py transformers monai/vnet --tools bncheck fx --no-latency
    python benchmarks/fold_zoo.py --resume               # only what has no result yet
    python benchmarks/fold_zoo.py --resume --again bncheck
    python benchmarks/fold_zoo.py --compare 48 --latencies 16 --minutes 50

For each model and tool: whether the tool handles it, how many of the BatchNorms that run are
gone, whether the result is right, and how long folding takes, without verification. Right means
float64: the tool folds a float64 copy, and the outputs on two inputs agree with the original to
1e-7 of the largest output. ONNX Runtime has no float64 kernels for all operators, so it is
compared with float64 in float32, within 100 times the original's own error. Latency is the
median of interleaved runs of the float32 model given and of what the tool returns for it. All
times are of CPU, so that a busy machine does not change them: run it on one thread
(OMP_NUM_THREADS=1). Every tool folds one small model before the first that counts, so that what
it imports is not timed. What bncheck leaves is listed with its reasons.

Each model has a process of its own, with a limit. Models are taken in an order shuffled with a
fixed seed, so that a run that ends after some minutes has covered a sample that nobody chose; the
other tools may be run on the first models of that order only, and latencies be taken on fewer
still. Results go to benchmarks/results/fold_zoo.json after every model; several runs may share
that file.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import fcntl
import json
import logging
import os
import platform
import random
import resource
import signal
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from fold_table import left, tables
from fold_tools import FLOAT32_ONLY, TOOLS, Folded, warm_up
from observe import difference, leaves, operations, outputs
from torch import Tensor, nn
from zoo import ZooModel, models, unavailable
from zoo_entries import ENTRIES

RESULTS = Path(__file__).parent / "results" / "fold_zoo.json"
RIGHT = 1e-7
LIMIT = 120
"""Seconds of CPU that one tool may take for one model."""
LONGEST = 2.0
"""Seconds of CPU that a forward pass may be expected to take for its latency to be measured."""
LONGEST_MODEL = 400
"""Seconds of CPU that one model may take, all tools together; what is not done then is lost."""


class TooLongError(Exception):
    """A tool took longer than `LIMIT`."""


def measure(
    entry: ZooModel, tools: list[str], latency: bool, record: dict[str, Any]
) -> dict[str, Any]:
    """Measure one model with these tools, and add that to what its record has."""
    model = entry.build()
    inputs = entry.inputs(1)
    wide = copy.deepcopy(model).double()
    cases = [entry.inputs(1, seed) for seed in (1, 2)]
    expected = [outputs(wide, tuple(x.double() for x in case)) for case in cases]
    own = max(
        _error(outputs(model, case), right) for case, right in zip(cases, expected, strict=True)
    )
    count = operations(model, inputs).batch_norms
    record = {"batch_norms": count, "own_error": own, "tools": dict(record.get("tools", {}))}
    for tool in tools:
        try:
            with limited():
                record["tools"][tool] = _measure_tool(
                    tool, model, wide, inputs, cases, expected, own, count, latency, entry
                )
        except TooLongError:
            record["tools"][tool] = {"handled": False, "error": f"longer than {LIMIT} s of CPU"}
        except Exception as error:
            text = f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
            record["tools"][tool] = {"handled": False, "error": text}
    return record


def _measure_tool(
    tool: str,
    model: nn.Module,
    wide: nn.Module,
    inputs: tuple[Tensor, ...],
    cases: list[tuple[Tensor, ...]],
    expected: list[list[Tensor]],
    own: float,
    count: int,
    latency: bool,
    entry: ZooModel,
) -> dict[str, Any]:
    convert = TOOLS[tool]
    given = copy.deepcopy(model)
    start = time.process_time()
    folded = convert(given, inputs)
    seconds = folded.seconds = time.process_time() - start
    left = folded.batch_norms
    if left is None:
        left = operations(folded.run, inputs).batch_norms
    if tool in FLOAT32_ONLY:
        allowed = max(100 * own, 1e-4)
        found = [leaves(folded.run(*case)) for case in cases]
    else:
        allowed = RIGHT
        judged = convert(copy.deepcopy(wide), tuple(x.double() for x in inputs))
        found = [outputs(judged.run, tuple(x.double() for x in case)) for case in cases]
    error = max(_error(one, right) for one, right in zip(found, expected, strict=True))
    record = {
        "handled": True,
        "removed": count - left,
        "wrong": not error <= allowed,
        "error": error,
        "seconds": seconds,
        **(folded.details or {}),
    }
    if latency:
        record["latency"] = {
            str(batch): _latency(tool, convert, model, folded, entry, batch) for batch in (1, 32)
        }
    return record


def _error(found: list[Tensor], right: list[Tensor]) -> float:
    if len(found) != len(right):
        return float("inf")
    return difference(right, [value.to(one.dtype) for value, one in zip(found, right, strict=True)])


def _latency(
    tool: str,
    convert: Callable[[nn.Module, tuple[Tensor, ...]], Folded],
    model: nn.Module,
    folded: Folded,
    entry: ZooModel,
    batch: int,
) -> dict[str, float] | None:
    """Return the median seconds before and after, or None where the batch does not go in.

    They are of this thread: the clock of the process ticks coarsely while a timer runs on it.
    """
    inputs = entry.inputs(batch)
    one = entry.inputs(1)
    start = time.thread_time()
    with torch.inference_mode():
        model(*one)
    if batch * (time.thread_time() - start) > LONGEST:
        return None
    if batch != 1 and tool == "onnxruntime":  # exported for the batch of its example
        if folded.seconds > 10:
            return None
        folded = convert(copy.deepcopy(model), inputs)
    runs = {"before": model, "after": folded.run}
    times: dict[str, list[float]] = {name: [] for name in runs}
    try:
        with torch.inference_mode():
            for repetition in range(4 if batch > 1 else 9):
                for name, run in runs.items():
                    start = time.thread_time()
                    run(*inputs)
                    if repetition:
                        times[name].append(time.thread_time() - start)
    except TooLongError:
        raise
    except Exception:
        return None
    before, after = (statistics.median(times[name]) for name in runs)
    return {"before": before, "after": after, "ratio": before / after}


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise TooLongError after `LIMIT` seconds of CPU."""

    def stop(*_: object) -> None:
        raise TooLongError

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def _in_process(task: Callable[[], None]) -> str:
    """Run a task in a copy of this process; say how it failed, or nothing."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_MODEL, LONGEST_MODEL))
        try:
            task()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}".splitlines()[0], flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"longer than {LONGEST_MODEL} s of CPU, or killed ({os.WTERMSIG(status)})"
    return "failed" if status else ""


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {"models": {}}


def _write(path: Path, name: str, record: dict[str, Any]) -> None:
    """Add one model to the results, of which other runs may write other models."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = _read(path)
        results["environment"] = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            "cpus": os.cpu_count(),
            "packages not importable": unavailable(),
        }
        order = {entry.name: position for position, entry in enumerate(ENTRIES)}
        found = {**results["models"], name: record}
        results["models"] = dict(sorted(found.items(), key=lambda one: order.get(one[0], -1)))
        new = path.with_suffix(".new")
        new.write_text(json.dumps(results, indent=1) + "\n")
        new.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="models or packages; all without")
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--no-latency", action="store_true", help="do not time the models")
    parser.add_argument("--resume", action="store_true", help="keep the results that are there")
    parser.add_argument("--again", nargs="*", default=[], help="tools to run again with --resume")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--compare", type=int, help="run the other tools on so many models only")
    parser.add_argument("--latencies", type=int, help="time so many models only")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start none after")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if not arguments.resume:
        arguments.output.unlink(missing_ok=True)
    end = time.monotonic() + 60 * arguments.minutes
    for tool in arguments.tools:
        warm_up(tool)
    chosen = list(models(arguments.names or None))
    random.Random(0).shuffle(chosen)
    for place, entry in enumerate(chosen):
        if time.monotonic() > end:
            break
        known = _read(arguments.output)["models"].get(entry.name, {})
        done = set(known.get("tools", {})) - set(arguments.again)
        compared = arguments.compare is None or place < arguments.compare
        tools = [t for t in arguments.tools if t not in done and (compared or t == "bncheck")]
        if not tools:
            continue
        timed = arguments.latencies is None or place < arguments.latencies

        def task(
            entry: ZooModel = entry,
            tools: list[str] = tools,
            timed: bool = timed and not arguments.no_latency,
            known: dict[str, Any] = known,
        ) -> None:
            _write(arguments.output, entry.name, measure(entry, tools, timed, known))

        problem = _in_process(task)
        record = _read(arguments.output)["models"].get(entry.name)
        print(f"{entry.name}: {problem or _line(record)}", flush=True)
    results = _read(arguments.output)
    print(left(results))
    print(f"{len(results['models'])} of {len(chosen)} models")
    print(tables(results))


def _line(record: dict[str, Any]) -> str:
    shown = {
        tool: f"{run['removed']}{' WRONG' if run['wrong'] else ''} {run['seconds']:.1f}s"
        if run["handled"]
        else "-"
        for tool, run in record["tools"].items()
    }
    return f"{record['batch_norms']} {shown}"


if __name__ == "__main__":
    main()

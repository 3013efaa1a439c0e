"""How many BatchNorms of real models are removable, by a rule that knows nothing of bncheck's.

    OMP_NUM_THREADS=1 python benchmarks/removable_zoo.py              # inputs of 64 x 64 at most
    OMP_NUM_THREADS=1 python benchmarks/removable_zoo.py pytorchcv/resnet20_cifar10 --limit 600

`foldable` acts each fold out in float64 and so proves by construction what is removable; it is
slow, so that models run one by one with a limit in seconds of CPU. What it finds and fold leaves
is a miss; what fold removes and it does not find is one of the ways that it does not look for
(around, into several layers in turn), and is judged by the outputs as in fold_zoo.py.
"""

from __future__ import annotations

import argparse
import os
import resource
import warnings
from collections.abc import Callable

import torch
from foldable import foldable
from observe import difference, outputs
from zoo import ZooModel, batch_norms, models

from bncheck.convert.fold import fold


def judge(entry: ZooModel) -> str:
    """Return one line: BatchNorms, removable by the rule, removed, and what was missed."""
    model = entry.build().double()
    example = tuple(x.double() for x in entry.inputs(1))
    result = fold(model, example, verify=False)
    wrong = difference(outputs(model, example), outputs(result.model, example)) > 1e-7
    removed = {step.batch_norm for step in result.steps}
    by_rule = foldable(model, example[0])
    took = {name for step in result.steps for name in step.into.split(", ")}
    missed = sorted(by_rule.keys() - removed - took)
    return (
        f"| {entry.name} | {len(batch_norms(model))} | {len(by_rule)} | {len(removed)} "
        f"| {', '.join(missed) or '-'} |{' WRONG' if wrong else ''}"
    )


def limited(task: Callable[[], None], seconds: int) -> bool:
    """Run a task in a copy of this process; tell whether it ended well within the time."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        try:
            task()
        except Exception as error:
            print(f"{type(error).__name__}: {error}".splitlines()[0], flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="models or packages; all without")
    parser.add_argument("--limit", type=int, default=120, help="seconds of CPU for each model")
    parser.add_argument("--side", type=int, default=64, help="largest side of an input")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print(
        "| model | BatchNorms | removable by the rule | removed | missed |\n|---|---|---|---|---|"
    )
    for entry in models(arguments.names or None):
        shapes = [x.shape for x in entry.example_inputs]
        if len(shapes) != 1 or max(shapes[0][2:], default=0) > arguments.side:
            continue
        done = limited(lambda entry=entry: print(judge(entry), flush=True), arguments.limit)
        if not done:
            print(f"| {entry.name} | not within {arguments.limit} s |", flush=True)


if __name__ == "__main__":
    main()

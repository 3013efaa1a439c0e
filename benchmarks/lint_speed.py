"""CPU time of a cold `bncheck lint` against TorchFix on the same source tree, in the same run.

    python benchmarks/lint_speed.py                       # timm: about 300 files, 140,000 lines
    python benchmarks/lint_speed.py PATH... --repeat 3

Both run as commands, one process each, nothing cached but their own bytecode, which pip compiles
when it installs. The CPU time (user and system) of the process and all its children is counted. Of
several runs the least time counts. With `--profile` the functions that bncheck spends its time in
are listed instead.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = 20


@dataclass(frozen=True)
class Timing:
    """CPU seconds of one command, and how it ended."""

    seconds: float
    exit_code: int
    lines: int


def cpu_time(command: list[str], environment: dict[str, str]) -> Timing:
    """Run a command and return the CPU time of it and its children."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode not in (0, 1):
        sys.exit(f"{' '.join(command[:5])} ended with {ended.returncode}:\n{ended.stderr.decode()}")
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Timing(seconds, ended.returncode, len(ended.stdout.splitlines()))


def source_files(paths: list[str]) -> list[Path]:
    """Return the Python files under the paths."""
    files: list[Path] = []
    for path in map(Path, paths):
        files += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return files


def default_tree() -> list[str]:
    """Return timm's folder, a tree of the size that the target is set for."""
    specification = importlib.util.find_spec("timm")
    if specification is None or not specification.submodule_search_locations:
        sys.exit("timm is not installed: `pip install --no-deps timm`, or name a PATH")
    return [specification.submodule_search_locations[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("paths", nargs="*", help="files and folders; by default timm's")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--select", help="only these rules of bncheck, by default all default ones")
    parser.add_argument("--profile", action="store_true", help="profile bncheck and stop")
    parser.add_argument("--alone", action="store_true", help="leave TorchFix out")
    arguments = parser.parse_args()

    paths = [str(Path(path).resolve()) for path in arguments.paths] or default_tree()
    files = source_files(paths)
    lines = sum(path.read_bytes().count(b"\n") for path in files)
    print(f"{len(files)} files, {lines:,} lines: {' '.join(paths)}", flush=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
    }
    compileall.compile_dir(ROOT / "bncheck", quiet=1)
    ours = ["-m", "bncheck", "lint", "--no-cache", "--format", "json", *paths]
    ours += ["--select", arguments.select] if arguments.select else []
    if arguments.profile:
        command = [sys.executable, "-m", "cProfile", "-s", "tottime", *ours]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        text = ended.stdout
        print(text[text.rfind(" function calls in ") - 20 :][:8000] or ended.stderr)
        return
    best = min(
        (cpu_time([sys.executable, *ours], environment) for _ in range(arguments.repeat)),
        key=lambda timing: timing.seconds,
    )
    print(f"bncheck lint: {best.seconds:.2f} s of CPU, exit code {best.exit_code}", flush=True)
    if arguments.alone:
        return
    try:
        name = f"TorchFix {version('torchfix')}"
    except PackageNotFoundError:
        sys.exit("TorchFix is not installed: `pip install --no-deps torchfix==0.7.0`")
    theirs = [sys.executable, "-m", "torchfix", "-j", "1", *paths]
    other = min(
        (cpu_time(theirs, environment) for _ in range(arguments.repeat)),
        key=lambda timing: timing.seconds,
    )
    print(f"{name}: {other.seconds:.2f} s of CPU, {other.lines} lines of output")
    ratio = other.seconds / best.seconds
    verdict = "reached" if ratio >= TARGET else "missed"
    print(f"ratio 1/{ratio:.1f} (target: at most 1/{TARGET}, {verdict})")


if __name__ == "__main__":
    main()

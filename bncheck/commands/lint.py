"""`bncheck lint`: findings in source files and in saved models."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bncheck.commands._conversion import architecture_option, input_option, trust_option
from bncheck.errors import BNCheckError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bncheck.cache import Cache
    from bncheck.config import Settings
    from bncheck.findings import Finding
    from bncheck.other_files import OtherFiles
    from bncheck.worker import Report


@dataclass(frozen=True)
class Given:
    """What a run looks at, and how."""

    contents: dict[str, bytes]
    """The files as they lie."""
    sources: dict[str, bytes]
    """The same as Python: of a notebook its code."""
    settings: Settings
    cache: Cache | None
    others: OtherFiles


@dataclass(frozen=True)
class Output:
    """How a run reports and what it does about its findings."""

    format: str
    statistics: bool
    exit_zero: bool
    unsafe: bool


def _codes(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.strip().upper() for value in values for code in value.split(","))


@click.command("lint")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option(
    "--select",
    multiple=True,
    callback=_codes,
    metavar="CODES",
    help="Run only these rules: codes or prefixes, with commas or repeated.",
)
@click.option(
    "--extend-select",
    multiple=True,
    callback=_codes,
    metavar="CODES",
    help="Run these rules too, such as ones that are off by default.",
)
@click.option(
    "--ignore", multiple=True, callback=_codes, metavar="CODES", help="Do not run these rules."
)
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Pass over files and folders that match."
)
@click.option(
    "--force-exclude", is_flag=True, help="Pass over excluded files even where they are named."
)
@click.option("--pedantic", is_flag=True, help="Also show findings that are only possible.")
@click.option(
    "--min-batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Training batches below this are tiny (8).",
)
@click.option("--fix", "fixing", is_flag=True, help="Make the fixes that are safe.")
@click.option("--unsafe-fixes", is_flag=True, help="With --fix or --diff: make the others too.")
@click.option("--diff", is_flag=True, help="Show what --fix would change, and change nothing.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
)
@click.option(
    "--statistics",
    is_flag=True,
    help="Also count findings by rule, and classes by how far they were understood.",
)
@click.option("--exit-zero", is_flag=True, help="Exit with 0 although there are findings.")
@click.option(
    "--stdin-filename", metavar="PATH", help="The name of what is read from stdin (PATH is -)."
)
@click.option("--no-cache", is_flag=True, help="Neither use nor write .bncheck_cache.")
@trust_option
@architecture_option
@input_option
@click.pass_context
def command(
    context: click.Context,
    paths: tuple[str, ...],
    select: tuple[str, ...],
    extend_select: tuple[str, ...],
    ignore: tuple[str, ...],
    exclude: tuple[str, ...],
    force_exclude: bool,
    pedantic: bool,
    min_batch_size: int | None,
    fixing: bool,
    unsafe_fixes: bool,
    diff: bool,
    output_format: str,
    statistics: bool,
    exit_zero: bool,
    stdin_filename: str | None,
    no_cache: bool,
    trust: tuple[str, ...],
    architecture: str | None,
    inputs: tuple[str, ...],
) -> None:
    """Find Batch Normalization mistakes in Python files, notebooks, folders and saved models.

    `-` stands for stdin. A saved model is loaded without running code from it, and traced; --trust,
    --arch and --input are for it. Exits with 0 without findings, 1 with some, and 2 if it could not
    run. Settings come from `[tool.bncheck]` of the nearest pyproject.toml; `# noqa: BN101` silences
    a line.
    """
    from bncheck.cache import Cache, cache_folder
    from bncheck.config import read_settings
    from bncheck.discover import is_model_file, source_files, without_excluded
    from bncheck.linting import check_codes, read_sources, tells_of_unreadable
    from bncheck.notebooks import as_sources
    from bncheck.other_files import OtherFiles

    paths = paths or (".",)
    from_stdin = "-" in paths
    if from_stdin and len(paths) > 1:
        raise BNCheckError("`-` reads from stdin and stands alone; give the files in another run")
    settings = read_settings(_settings_folder((stdin_filename or ".",) if from_stdin else paths))
    if select:
        settings = replace(settings, select=select, extend_select=(), ignore=())
    settings = replace(
        settings,
        extend_select=(*settings.extend_select, *extend_select),
        ignore=(*settings.ignore, *ignore),
        exclude=(*settings.exclude, *exclude),
        pedantic=settings.pedantic or pedantic,
        minimum_batch_size=min_batch_size or settings.minimum_batch_size,
    )
    check_codes(settings)
    found: dict[str, list[Finding]] = {}
    if from_stdin:
        contents = {stdin_filename or "<stdin>": sys.stdin.buffer.read()}
    else:
        wanted = without_excluded(paths, settings.exclude) if force_exclude else paths
        models = [path for path in wanted if is_model_file(path)]
        contents = read_sources(
            source_files((path for path in wanted if path not in models), settings.exclude)
        )
        for path in models:
            from bncheck.model.lint import lint_model

            found[path] = lint_model(
                path, settings, inputs=inputs, architecture=architecture, trust=trust
            )
    read = as_sources(contents)
    for finding in read.unreadable if tells_of_unreadable(settings) else ():
        found[finding.path] = [finding]
    others = OtherFiles(tuple(read.texts), () if from_stdin else paths, settings.exclude)
    cache = None if no_cache or from_stdin else Cache(cache_folder(Path.cwd()))
    given = Given(contents, read.texts, settings, cache, others)
    output = Output(output_format, statistics, exit_zero, unsafe_fixes)
    if diff or fixing:
        left = _fix(given, output, found, diff=diff, to_stdout=from_stdin)
    else:
        left = _lint(given, output, found)
    context.exit(1 if left and not exit_zero else 0)


def _settings_folder(paths: tuple[str, ...]) -> Path:
    """Return the folder from which settings are looked for: the one that holds all paths."""
    common = Path(os.path.commonpath([Path(path).resolve() for path in paths]))
    return common if common.is_dir() else common.parent


def _lint(given: Given, output: Output, found: dict[str, list[Finding]]) -> bool:
    """Report the findings, those `found` in models first; tell whether there are any."""
    from bncheck.linting import lint

    report = lint(given.sources, given.settings, given.cache, given.others)
    _report(_in_cells(report, given.sources), output, found, fixed=0)
    return bool(report.findings or any(found.values()))


def _fix(
    given: Given,
    output: Output,
    found: dict[str, list[Finding]],
    *,
    diff: bool,
    to_stdout: bool,
) -> bool:
    """Make the fixes or show them; tell whether findings, or with `diff` changes, are left."""
    from bncheck import fixing
    from bncheck.notebooks import as_files

    sources = given.sources
    fixed = fixing.fix(
        sources, given.settings, unsafe=output.unsafe, cache=given.cache, others=given.others
    )
    if diff:
        for line in fixing.differences(sources, fixed.sources):
            click.echo(line, nl=False)
        return fixed.sources != sources
    contents = as_files(given.contents, sources, fixed.sources)
    if to_stdout:
        (text,) = contents.values()
        click.echo(text, nl=False)
        return bool(fixed.report.findings)
    fixing.write(given.contents, contents)
    _report(_in_cells(fixed.report, fixed.sources), output, found, fixed=fixed.count)
    return bool(fixed.report.findings or any(found.values()))


def _in_cells(report: Report, sources: Mapping[str, bytes]) -> Report:
    """Return a report whose findings in notebooks tell their cell."""
    from bncheck.notebooks import in_cells

    return replace(report, findings=[in_cells(f, sources) for f in report.findings])


def _report(
    report: Report, output: Output, in_models: dict[str, list[Finding]], *, fixed: int
) -> None:
    """Print findings to stdout; what is said about them goes to stderr."""
    from bncheck.report import json, text
    from bncheck.source.understanding import ERRORS

    findings = [*chain.from_iterable(in_models.values()), *report.findings]
    if output.format == "json":
        click.echo(json.findings_as_json(findings))
    else:
        for block in text.findings_as_text(findings):
            click.echo(block)
    if output.statistics:
        for line in text.statistics(findings, report.statistics):
            click.echo(line, err=output.format == "json")
    files = report.files + len(in_models)
    closing = text.summary(findings, files, unsafe=output.unsafe, fixed=fixed)
    click.echo(closing, err=True)
    if errors := report.statistics.get(ERRORS):
        click.echo(text.own_errors(errors), err=True)

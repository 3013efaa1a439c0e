"""The lint command and what it stands on: settings, silence, fixes, the cache, bad input.

The reader has tests of its own; here one network with one mistake is enough.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import bncheck
from bncheck import linting
from bncheck.cli import main
from bncheck.worker import lint_source

WRONG = """\
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.bn(self.conv(x))
"""
RIGHT = WRONG.replace("8, 3)", "8, 3, bias=False)")
SILENCED = WRONG.replace("8, 3)", "8, 3)  # noqa: BN101")
KEYS = {
    "code", "name", "path", "cell", "line", "column", "end_line", "end_column", "message", "hint",
    "severity", "confidence", "fix",
}  # fmt: skip


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty project with one wrong file."""
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text("", encoding="utf-8")
    Path("wrong.py").write_text(WRONG, encoding="utf-8")
    return tmp_path


def lint(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["lint", *arguments], input=stdin)


def codes(result: Result) -> list[str]:
    return [finding["code"] for finding in json.loads(result.stdout)]


def test_text() -> None:
    result = lint("wrong.py")
    assert result.exit_code == 1
    place, margin, line, marks, hint = result.stdout.rstrip().splitlines()
    assert place.startswith("wrong.py:7:21: BN101 Conv2d has a bias")
    assert margin == "  |"
    assert line == "7 |         self.conv = nn.Conv2d(3, 8, 3)"
    assert marks == "  |                     ^^^^^^^^^^^^^^^^^^"
    assert hint.startswith("  = hint: pass bias=False")
    assert result.stderr.startswith("Found 1 finding in 1 file.")
    assert "1 fixable with --fix --unsafe-fixes" in result.stderr


def test_json() -> None:
    result = lint("wrong.py", "--format", "json")
    (finding,) = json.loads(result.stdout)
    assert set(finding) == KEYS
    assert (finding["code"], finding["name"]) == ("BN101", "bias-before-norm")
    assert [finding[k] for k in ("line", "column", "end_line", "end_column")] == [7, 21, 7, 39]
    assert finding["severity"] == "warning"
    assert finding["fix"]["safe"] is False


@pytest.mark.parametrize(
    ("text", "code"),
    [(WRONG, 1), (RIGHT, 0), (SILENCED, 0), (WRONG.replace("8, 3)", "8, 3)  # noqa: BN102"), 1)],
)
def test_exit_codes(text: str, code: int) -> None:
    Path("wrong.py").write_text(text, encoding="utf-8")
    assert lint(".").exit_code == code
    assert lint(".", "--exit-zero").exit_code == 0


@pytest.mark.parametrize(
    ("comment", "silent"),
    [
        ("# noqa", True),
        ("# NOQA : bn101", True),
        ("# noqa:E501,BN101", True),
        ("# noqa: E501 BN101", True),
        ("# noqa: BN1", True),
        ("# noqa: E501", False),
        ("# noqable", False),
        ("# why", False),
    ],
)
def test_silence(comment: str, silent: bool) -> None:
    text = WRONG.replace("8, 3)", f"8, 3)  {comment}")
    assert (bncheck.lint_source(text) == []) is silent


def test_lint_source() -> None:
    (finding,) = bncheck.lint_source(WRONG, path="model.py")
    assert (finding.code, finding.path, finding.line) == ("BN101", "model.py", 7)
    assert finding.source_line == "        self.conv = nn.Conv2d(3, 8, 3)"
    assert bncheck.lint_source(RIGHT) == []
    assert [f.code for f in bncheck.lint_source("def f(:")] == ["BN001"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--select", "BN101"], True),
        (["--select", "bn1"], True),
        (["--select", "BN102,BN101"], True),
        (["--select", "BN102"], False),
        (["--ignore", "BN101"], False),
        (["--ignore", "BN1"], False),
        (["--select", "BN101", "--ignore", "BN1"], True),
        (["--select", "BN1", "--ignore", "BN101"], False),
        (["--exclude", "wrong.py"], False),
        (["--exclude", "w*"], False),
    ],
)
def test_options(options: list[str], found: bool) -> None:
    assert lint(".", *options).exit_code == int(found)


@pytest.mark.parametrize(
    ("setting", "options", "found"),
    [
        ('ignore = ["BN101"]', [], False),
        ('ignore = ["BN101"]', ["--select", "BN101"], True),
        ('select = ["BN102"]', [], False),
        ('select = ["BN102"]', ["--extend-select", "BN101"], True),
        ('exclude = ["wrong.py"]', [], False),
    ],
)
def test_settings(setting: str, options: list[str], found: bool) -> None:
    Path("pyproject.toml").write_text(f"[tool.bncheck]\n{setting}\n", encoding="utf-8")
    assert lint(".", *options).exit_code == int(found)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing"], "missing does not exist"),
        (["wrong.py", "missing.py"], "missing.py does not exist"),
        (["--select", "BN999"], "no rule 'BN999'"),
        (["--ignore", "101"], "no rule '101'"),
        (["--select", ""], "no rule ''"),
        (["-", "wrong.py"], "stands alone"),
        (["--format", "yaml"], "yaml"),
        (["--min-batch-size", "0"], "0"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_bad_options_end_with_2(arguments: list[str], said: str) -> None:
    result = lint(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[tool.bncheck", "not TOML"),
        ("[tool.bncheck]\nselekt = []", "no setting 'selekt'"),
        ("[tool.bncheck]\nselect = 'BN1'", "list of strings"),
        ("[tool.bncheck]\nselect = ['X']", "no rule 'X'"),
        ("[tool.bncheck]\nminimum-batch-size = true", "of type int"),
    ],
)
def test_bad_settings_end_with_2(toml: str, said: str) -> None:
    Path("pyproject.toml").write_text(toml, encoding="utf-8")
    result = lint(".")
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in lint("missing", "--debug").stderr
    assert "Traceback" in CliRunner().invoke(main, ["--debug", "lint", "missing"]).stderr


@pytest.mark.parametrize(
    "content",
    [
        b"def f(:\n",
        b"exec 'x'\n",
        b"x = '\n",
        b"\0",
        b"# Norm\n\xff = 1\n",
        b"# coding: rot13\nNorm\n",
        b"(" * 5000,
    ],
    ids=["bracket", "python2", "string", "null", "encoding", "no text", "deep"],
)
def test_a_file_that_does_not_parse_is_a_finding_and_the_rest_goes_on(content: bytes) -> None:
    Path("broken.py").write_bytes(content)
    result = lint(".", "--format", "json")
    assert result.exit_code == 1
    assert codes(result) == ["BN001", "BN101"]
    assert codes(lint(".", "--format", "json", "--ignore", "BN0")) == ["BN101"]


@pytest.mark.parametrize(
    "text",
    ["x = " + "1+" * 900 + "1", "x = (" + "'a'\n" * 3000 + ")", "if a: 0\n" + "elif a: 0\n" * 900],
    ids=["sum", "strings", "branches"],
)
def test_what_python_takes_is_read_however_deep(text: str) -> None:
    assert [f.code for f in bncheck.lint_source(f"{WRONG}\n\n{text}\n")] == ["BN101"]


def test_a_file_from_before_async_was_a_keyword_is_read() -> None:
    text = WRONG.replace("self.conv(x)", "self.conv(x.cuda(async=True))")
    (finding,) = lint_source(text)
    assert finding.code == "BN101"
    moved = WRONG.replace("3, 8, 3", "3, 8, kernel(async=True)")
    assert [f.source_line.strip() for f in lint_source(moved)] == [
        "self.conv = nn.Conv2d(3, 8, kernel(async=True))"
    ]


def test_a_file_in_python_2_is_read_and_shown_as_it_is_written() -> None:
    """What Python 2 writes stands on the lines of what is found, and around it."""
    old = """
try:
    import numpy
except ImportError, problem:
    print >> log, problem
    raise ValueError, "no numpy"
if numpy: print "numpy", numpy
print "all", "is", "there"
"""
    layer = "self.conv = nn.Conv2d(3, 8, 3)"
    findings = lint_source(WRONG.replace(layer, f"{layer}; print layer") + old)
    assert [(f.code, f.source_line.strip()) for f in findings] == [
        ("BN101", f"{layer}; print layer")
    ]


def test_stdin() -> None:
    result = lint("-", stdin=WRONG)
    assert result.exit_code == 1
    assert result.stdout.startswith("<stdin>:7:21: BN101")
    named = lint("-", "--stdin-filename", "models/x.py", stdin=WRONG)
    assert named.stdout.startswith("models/x.py:7:21: BN101")
    fixed = lint("-", "--fix", "--unsafe-fixes", stdin=WRONG)
    assert (fixed.exit_code, fixed.stdout) == (0, RIGHT)


def test_fixes_are_made_when_they_are_allowed() -> None:
    assert lint(".", "--fix").exit_code == 1
    assert Path("wrong.py").read_text() == WRONG
    Path("wrong.py").chmod(0o754)
    result = lint(".", "--fix", "--unsafe-fixes")
    assert result.exit_code == 0
    assert "1 fixed, 0 remaining" in result.stderr
    assert Path("wrong.py").read_text() == RIGHT
    assert Path("wrong.py").stat().st_mode & 0o777 == 0o754
    assert sorted(path.name for path in Path().iterdir()) == [
        ".bncheck_cache", "pyproject.toml", "wrong.py",
    ]  # fmt: skip


def test_a_file_that_is_no_python_of_today_is_left_as_it_is() -> None:
    Path("wrong.py").write_text(WRONG + "print 1\n", encoding="utf-8")
    result = lint(".", "--fix", "--unsafe-fixes")
    assert (result.exit_code, "BN101" in result.stdout) == (1, True)
    assert "fixable" not in result.stderr
    assert Path("wrong.py").read_text(encoding="utf-8") == WRONG + "print 1\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_fixes_keep_every_other_byte(encoding: str, newline: str) -> None:
    head = "# coding: latin-1\n" if encoding == "latin-1" else ""
    before = f"{head}{WRONG}\n# é \x0c end".replace("\n", newline).encode(encoding)
    Path("wrong.py").write_bytes(before)
    assert lint(".", "--fix", "--unsafe-fixes").exit_code == 0
    expected = before.replace(b"8, 3)", b"8, 3, bias=False)")
    assert Path("wrong.py").read_bytes() == expected


def test_fixes_go_through_links() -> None:
    Path("link.py").symlink_to("wrong.py")
    assert lint("link.py", "--fix", "--unsafe-fixes").exit_code == 0
    assert Path("link.py").is_symlink()
    assert Path("wrong.py").read_text() == RIGHT


def test_diff_changes_nothing() -> None:
    result = lint(".", "--diff", "--unsafe-fixes")
    assert result.exit_code == 1
    assert "-        self.conv = nn.Conv2d(3, 8, 3)\n+" in result.stdout
    assert Path("wrong.py").read_text() == WRONG
    assert lint(".", "--diff").exit_code == 0


def test_statistics() -> None:
    result = lint(".", "--statistics")
    assert "     1  BN101  bias-before-norm" in result.stdout


def test_the_second_run_uses_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    first = lint(".")
    monkeypatch.setattr(linting, "_lint", None)  # calling it fails
    second = lint(".")
    assert (second.stdout, second.exit_code) == (first.stdout, first.exit_code)
    assert Path(".bncheck_cache/.gitignore").read_text() == "*\n"


HELPER = "from torch import nn\n\n\ndef conv(bias):\n    return nn.Conv2d(3, 8, 3, bias=bias)\n"
USER = WRONG.replace("nn.Conv2d(3, 8, 3)", "conv(FLAG)")


@pytest.mark.parametrize(
    "change",
    [
        lambda: Path("wrong.py").write_text(RIGHT),
        lambda: Path("wrong.py").unlink(),
        lambda: Path("other.py").write_text(WRONG),
        lambda: Path("pyproject.toml").write_text("[tool.bncheck]\nignore = ['BN101']"),
    ],
    ids=["content", "removed", "added", "settings"],
)
def test_what_changes_is_linted_again(change: object) -> None:
    before = lint(".", "--format", "json").stdout
    assert callable(change)
    change()
    assert lint(".", "--format", "json").stdout != before
    assert (
        lint(".", "--format", "json").stdout == lint(".", "--no-cache", "--format", "json").stdout
    )


@pytest.mark.parametrize("exists", [True, False])
def test_a_file_outside_the_run_that_was_looked_for_counts(exists: bool) -> None:
    """The linted file imports a helper that decides, and that is not itself linted."""
    text = WRONG.replace("nn.Conv2d(3, 8, 3)", "make(nn.Conv2d(3, 8, 3, bias=WITH))")
    Path("wrong.py").write_text(f"from helper import WITH, make\n{text}")
    with_bias = "WITH = True\n\n\ndef make(layer):\n    return layer\n"
    if exists:
        Path("helper.py").write_text(with_bias.replace("True", "False"))
    assert lint("wrong.py").exit_code == 0
    Path("helper.py").write_text(with_bias)
    assert lint("wrong.py").exit_code == 1
    assert lint("wrong.py").exit_code == 1


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"others": {}}', b"\xff"])
def test_a_damaged_cache_is_no_cache(damage: bytes) -> None:
    assert lint(".").exit_code == 1
    for entry in Path(".bncheck_cache").glob("*.json"):
        entry.write_bytes(damage)
    assert lint(".").exit_code == 1


def test_no_cache_leaves_nothing() -> None:
    lint(".", "--no-cache")
    assert not Path(".bncheck_cache").exists()


CALLS_ANOTHER_FILE = {
    "a random sample": ("head(torch.randn(1, 8))", ["BN304"]),
    "one sample": ("head(torch.load('x.pt').unsqueeze(0))", ["BN304"]),
    "a batch": ("head(torch.randn(2, 8))", []),
}


@pytest.mark.parametrize("case", CALLS_ANOTHER_FILE)
def test_a_file_that_does_not_name_the_norm_that_it_runs(case: str) -> None:
    call, expected = CALLS_ANOTHER_FILE[case]
    layers = "nn.Linear(8, 4, bias=False), nn.BatchNorm1d(4)"
    Path("network.py").write_text(
        "from torch import nn\n\n\nclass Head(nn.Module):\n    def __init__(self):\n"
        f"        super().__init__()\n        self.layers = nn.Sequential({layers})\n\n"
        "    def forward(self, x):\n        return self.layers(x)\n",
        encoding="utf-8",
    )
    Path("use.py").write_text(
        f"import torch\nfrom network import Head\n\nhead = Head()\n{call}.sum().backward()\n",
        encoding="utf-8",
    )
    assert codes(lint("use.py", "--format", "json", "--no-cache")) == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_can_not_be_read() -> None:
    Path("wrong.py").chmod(0)
    result = lint(".")
    assert result.exit_code == 2
    assert result.stderr == "bncheck: wrong.py: Permission denied\n"


def test_rule_pages() -> None:
    page = CliRunner().invoke(main, ["rule", "bn101"])
    assert page.stdout.startswith("# BN101 bias-before-norm\n")
    assert CliRunner().invoke(main, ["rule", "bias-before-norm"]).stdout == page.stdout
    assert "BN101  bias-before-norm" in CliRunner().invoke(main, ["rule"]).stdout
    missing = CliRunner().invoke(main, ["rule", "BN999"])
    assert (missing.exit_code, missing.stdout) == (2, "")


def test_an_error_of_the_reader_leaves_a_file_out_and_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a mistake of ours")

    monkeypatch.setattr("bncheck.source.timeline.entries.timelines", broken)
    with pytest.raises(KeyError):
        lint_source(WRONG)
    monkeypatch.delenv("BNCHECK_STRICT")
    assert [finding.code for finding in lint_source(WRONG)] == ["BN101"]
    result = lint("wrong.py", "--statistics")
    assert "script: internal KeyError" in result.output
    assert "Warning: 1 error in bncheck itself left networks or scripts unread" in result.stderr

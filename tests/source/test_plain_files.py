"""Plain settings files: what of them is read, and what is left unknown."""

import pytest

from bncheck.graph import UNKNOWN
from bncheck.source.plain_files import Format, read

BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 40)
)
"""A tree of a million million entries in forty lines."""

YAML = [
    ("batch: 4\nrate: 0.1\n", {"batch": 4, "rate": 0.1}),
    ("a: true\nb: No\nc: ~\nd:\n", {"a": True, "b": False, "c": None, "d": None}),
    ("# one\nname: resnet  # two\nkey: 'a # b'\n", {"name": "resnet", "key": "a # b"}),
    ("---\ntrain:\n  batch: 2\n  data:\n    root: .\ntest: 1\n",
     {"train": {"batch": 2, "data": {"root": "."}}, "test": 1}),
    ("'quoted': 1\nwith-dash: 2\n", {"quoted": 1, "with-dash": 2}),
    ("steps: [1, 2]\nmore: {a: 1}\nbatch: 4\n", {"steps": UNKNOWN, "more": {"a": 1}, "batch": 4}),
    ("steps:\n- 1\n- 2\nbatch: 4\n", {"steps": UNKNOWN, "batch": 4}),
    ("steps:\n  - 1\n  - b: 2\nbatch: 4\n", {"steps": UNKNOWN, "batch": 4}),
    ("list: [[1, 2],\n       [3, 4]]\nbatch: 4\n", {"list": UNKNOWN, "batch": 4}),
    ("text: |\n  batch: 2\nbatch: 4\n", {"text": "batch: 2\n", "batch": 4}),
    ("base: &base\n  batch: 2\nrun: *base\n", {"base": {"batch": 2}, "run": {"batch": 2}}),
    ("base: &base\n  batch: 2\nrun:\n  <<: *base\n  lr: 1\n",
     {"base": {"batch": 2}, "run": {"batch": 2, "lr": 1}}),
    ("batch: !!int 4\n", {"batch": 4}),
    ("day: 2020-01-01\nrate: 1e-3\n", {"day": UNKNOWN, "rate": "1e-3"}),
    ("batch: !Mine 4\n", None),
    ("a: &a\n  b: *a\n", None),
    ("batch: 2\nbatch: 4\n", {"batch": 4}),
    ("a: 1\n<<: *base\n", None),
    ("a: 1\n---\na: 2\n", None),
    ("- 1\n- 2\n", None),
    ("a: 1\nno entry\n", None),
    ("  a: 1\nb: 2\n", None),
    (BOMB, None),
    ("", None),
]  # fmt: skip

JSON = [
    ('{"train": {"batch": 2, "steps": [1]}, "on": false}',
     {"train": {"batch": 2, "steps": UNKNOWN}, "on": False}),
    ("[1]", None),
    ("{", None),
    ("", None),
    ("[" * 100_000, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "settings"), YAML)
def test_yaml(text: str, settings: object) -> None:
    assert read(text, Format.YAML) == settings


@pytest.mark.parametrize(("text", "settings"), JSON)
def test_json(text: str, settings: object) -> None:
    assert read(text, Format.JSON) == settings


TOML = [
    ('[train]\nbatch = 2\nsteps = [1]\n', {"train": {"batch": 2, "steps": UNKNOWN}}),
    ("batch 2", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "settings"), TOML)
def test_toml(text: str, settings: object) -> None:
    assert read(text, Format.TOML) == settings


def test_long_files_are_no_settings() -> None:
    assert read("a: 1\n" * 100_000, Format.YAML) is None

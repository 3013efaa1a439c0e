"""Batch sizes in settings that are merged, changed and handed on."""

import os
from pathlib import Path

import pytest

from bncheck.config import Settings
from bncheck.findings import Finding
from bncheck.source.plain_files import LONGEST
from bncheck.source.project import Project
from bncheck.worker import lint_files

TRAIN = """
import argparse
import json
from argparse import Namespace

import torch
import torchvision
from easydict import EasyDict
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader


def fit(dataset, batch_size, epochs=1):
    model = torchvision.models.resnet18()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)
    for _ in range(epochs):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()


DEFAULTS = {"batch_size": 2, "optimizer": "sgd", "data": {"root": "."}}
parser = argparse.ArgumentParser()
parser.add_argument("--rate", default=0.1, type=float)
parser.add_argument("--samples", default=2, type=int)
parser.add_argument("--config", default=None)
parser.add_argument("--small", action="store_true", default=False)
"""


def _scripts(text: str) -> list[str]:
    """Return the scripts in a text, between lines of dashes."""
    return text.strip("\n").split("\n---\n")


TINY = _scripts(
    """
cfg = EasyDict(DEFAULTS)
fit([], cfg.batch_size)
---
cfg = Namespace(**DEFAULTS)
fit([], cfg.batch_size)
---
cfg = dict(DEFAULTS)
cfg.update(vars(parser.parse_args()))
fit([], cfg['samples'])
---
cfg = DEFAULTS
cfg.update(vars(parser.parse_args()))
cfg = EasyDict(cfg)
fit([], cfg.batch_size)
---
args = parser.parse_args()
args.__dict__.update(DEFAULTS)
fit([], args.batch_size)
---
args = parser.parse_args()
vars(args)['batch_size'] = 2
fit([], args.batch_size)
---
args = parser.parse_args()
setattr(args, 'batch', 4)
fit([], args.batch // 2)
---
cfg = {**DEFAULTS, **vars(parser.parse_args())}
fit([], cfg['samples'])
---
def run(samples, rate, **more):
    fit([], samples)
run(**vars(parser.parse_args()))
---
def run(**given):
    fit([], EasyDict(given).samples)
run(**vars(parser.parse_args()))
---
args = parser.parse_args()
if args.small:
    args.samples = 64
fit([], args.samples)
---
args = parser.parse_args()
if args.config:
    vars(args).update(json.load(open(args.config)))
fit([], args.samples)
---
cfg = EasyDict()
cfg.train = EasyDict(batch=2)
fit([], cfg.train.batch)
---
cfg = EasyDict(data=dict(samples_per_gpu=2))
fit([], cfg.data.samples_per_gpu)
"""
)

UNKNOWN_OR_LARGE = _scripts(
    """
args = parser.parse_args()
vars(args).update(json.load(open(args.config)))
fit([], args.samples)
---
args = parser.parse_args()
for key, value in json.load(open(args.config)).items():
    setattr(args, key, value)
fit([], args.samples)
---
args = parser.parse_args()
args.__dict__[input()] = 64
fit([], args.samples)
---
args = parser.parse_args()
if args.small:
    args.large = 2
else:
    args.large = 64
fit([], args.large)
---
args = parser.parse_args()
args.samples = 64
if args.small:
    args.samples = 2
fit([], args.samples)
---
args = unknown()
if args.debug:
    args.batch = 2
fit([], args.batch)
---
cfg = DEFAULTS
cfg.update(input())
fit([], cfg['batch_size'])
---
cfg = EasyDict(DEFAULTS)
cfg.update(batch_size=64)
fit([], cfg.batch_size)
---
cfg = EasyDict(DEFAULTS)
cfg.merge_from_file(input())
fit([], cfg.batch_size)
"""
)


def _of(files: dict[str, str]) -> list[Finding]:
    texts: dict[Path, str | bytes] = {Path(path): text for path, text in files.items()}
    return lint_files([*files], Project(texts=texts), Settings()).findings


def _tiny(rest: str) -> list[str]:
    return [finding.code for finding in _of({"train.py": TRAIN + rest + "\n"})]


@pytest.mark.parametrize("rest", TINY)
def test_what_is_known_of_settings_stays_known(rest: str) -> None:
    assert _tiny(rest) == ["BN301"]


@pytest.mark.parametrize("rest", UNKNOWN_OR_LARGE)
def test_what_may_have_been_changed_is_not(rest: str) -> None:
    assert _tiny(rest) == []


PARSED = """
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--batch", default=2)
args = parser.parse_args()
"""

READ = """
import argparse


def read():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", default=2)
    return parser.parse_args()


args = read()
"""

LISTED = """
args = {"batch": 2, "root": None}
"""


@pytest.mark.parametrize(
    ("options", "use"), [(PARSED, "args.batch"), (READ, "args.batch"), (LISTED, "args['batch']")]
)
@pytest.mark.parametrize("way", ["from options import args", "from options import *"])
def test_settings_at_the_top_of_another_file(options: str, use: str, way: str) -> None:
    text = TRAIN.replace("import torch\n", f"import torch\n{way}\n", 1) + f"fit([], {use})\n"
    findings = _of({"train.py": text, "options.py": options})
    assert [(finding.code, finding.path) for finding in findings] == [("BN301", "train.py")]


def test_a_loader_at_the_top_of_another_file() -> None:
    data = "from torch.utils.data import DataLoader\nloader = DataLoader([], batch_size=2)\n"
    train = TRAIN.replace(
        "    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)\n", ""
    )
    train = train.replace("import torch\n", "import torch\nfrom data import loader\n", 1)
    findings = _of({"train.py": train + "fit([], 2)\n", "data.py": data})
    assert [(finding.code, finding.path, finding.line) for finding in findings] == [
        ("BN301", "data.py", 2)
    ]


READ_FILES = _scripts(
    """
cfg = yaml.safe_load(open("conf/train.yaml"))
fit([], cfg["data"]["batch"])
---
with open("conf/train.yaml", "r") as stream:
    cfg = EasyDict(yaml.load(stream, Loader=yaml.FullLoader))
fit([], cfg.data.batch)
---
cfg = yaml.safe_load(Path("conf/train.yaml").read_text())
fit([], cfg["data"].get("batch", 64))
---
cfg = OmegaConf.load("conf/train.yaml")
fit([], cfg.data.batch)
---
parser.add_argument("--file", default="conf/train.json")
args = parser.parse_args()
with open(args.file) as stream:
    cfg = json.loads(stream.read())
fit([], **cfg["loader"])
---
def read(path):
    with open(path) as stream:
        return json.load(stream)
def settings(path):
    return EasyDict(read(path))
fit([], settings("conf/train.json").loader.batch_size)
---
def read(path):
    with open(path) as stream:
        return json.load(stream)
args = parser.parse_args()
vars(args).update(read("conf/train.json")["loader"])
fit([], args.batch_size)
"""
)

UNREAD_FILES = _scripts(
    """
cfg = yaml.safe_load(open("conf/missing.yaml"))
fit([], cfg["data"]["batch"])
---
cfg = yaml.safe_load(open("../conf/train.yaml"))
fit([], cfg["data"]["batch"])
---
cfg = yaml.safe_load(open("/conf/train.yaml"))
fit([], cfg["data"]["batch"])
---
cfg = yaml.safe_load(open(input()))
fit([], cfg["data"]["batch"])
---
cfg = yaml.safe_load(open("conf/train.yaml"))
fit([], cfg["data"]["batches"])
---
cfg = yaml.safe_load(open("conf/train.yaml"))
cfg["data"]["batch"] = int(input())
fit([], cfg["data"]["batch"])
"""
)


def _with_files(rest: str) -> list[str]:
    imports = "import yaml\nfrom omegaconf import OmegaConf\nfrom pathlib import Path\n"
    texts: dict[Path, str | bytes] = {
        Path("train.py"): imports + TRAIN + rest + "\n",
        Path("conf/train.yaml"): "data:\n  root: .\n  batch: 2\nscales: [1, 2]\n",
        Path("conf/train.json"): '{"loader": {"batch_size": 2, "epochs": 3}, "scales": [1, 2]}',
    }
    return [f.code for f in lint_files(["train.py"], Project(texts=texts), Settings()).findings]


@pytest.mark.parametrize("rest", READ_FILES)
def test_settings_files_that_the_script_names_are_read(rest: str) -> None:
    assert _with_files(rest) == ["BN301"]


@pytest.mark.parametrize("rest", UNREAD_FILES)
def test_others_are_not(rest: str) -> None:
    assert _with_files(rest) == []


def test_what_is_no_settings_file_is_not_read(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # to read it would wait for ever
    (tmp_path / "data.json").write_text('{"a": "' + "b" * 4 * LONGEST + '"}')
    (tmp_path / "conf.json").write_text("{}")
    project = Project()
    module = project.module(str(script))
    names = (
        "folder",
        "pipe",
        "data.json",
        "missing.json",
        "conf.json",
        "../conf.json",
        str(script),
    )
    found = [name for name in names if project.text_beside(name, module) is not None]
    assert found == ["conf.json"]

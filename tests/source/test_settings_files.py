"""What the settings files of a project agree on."""

from pathlib import Path

import pytest

from bncheck.cache import Cache
from bncheck.config import Settings
from bncheck.graph import UNKNOWN
from bncheck.linting import lint, read_sources
from bncheck.source.plain_files import Format
from bncheck.source.project import Project
from bncheck.source.settings_files import Tree, agreed, of_project

ROWS: list[tuple[list[Tree], Tree]] = [
    ([], {}),
    ([{"size": 2, "name": "a"}], {"size": 2, "name": "a"}),
    ([{"size": 2, "name": "a"}, {"size": 2, "name": "b"}], {"size": 2, "name": ("a", "b")}),
    ([{"batch_size": 2}, {"batch_size": 4}], {"batch_size": 4}),
    ([{"batch_size": 2}, {"batch_size": True}], {"batch_size": UNKNOWN}),
    ([{"train": {"batch": 2, "lr": 1}}, {"train": {"batch": 2}}], {"train": {"batch": 2}}),
    ([{"train": {"batch": 2}}, {"train": 4}], {"train": UNKNOWN}),
    ([{"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1}], {"a": 1, "b": 1}),
    ([{"a": 1, "b": 1}, {"channels": 1, "name": 1}], {"a": 1, "b": 1, "channels": 1, "name": 1}),
]


@pytest.mark.parametrize(("trees", "joined"), ROWS)
def test_agreed(trees: list[Tree], joined: Tree) -> None:
    assert agreed(trees) == joined


def _project(folder: Path) -> dict[str, bytes]:
    (folder / "tools").mkdir()
    (folder / "configs").mkdir()
    (folder / "configs" / "first.yaml").write_text("batch_size: 2\n")
    (folder / "configs" / "broken.yaml").write_text("batch_size: [\n")
    (folder / "model.py").write_text("net = None\n")
    (folder / "tools" / "train.py").write_text(
        """
import sys, torch, torchvision, yaml
settings = yaml.safe_load(open(sys.argv[1]))
data = torchvision.datasets.ImageFolder("train")
loader = torch.utils.data.DataLoader(data, batch_size=settings["batch_size"])
net = torchvision.models.resnet18().train()
for images, target in loader:
    torch.nn.functional.cross_entropy(net(images), target).backward()
"""
    )
    return read_sources([str(folder / "model.py"), str(folder / "tools" / "train.py")])


def test_a_folder_above_is_looked_into_where_the_run_has_files_there(tmp_path: Path) -> None:
    sources = _project(tmp_path)
    script = str(tmp_path / "tools" / "train.py")
    project = Project(texts={Path(path): text for path, text in sources.items()})
    assert of_project(project, project.module(script), Format.YAML) == ({"batch_size": 2},)
    alone = Project(texts={Path(script): sources[script]})
    assert of_project(alone, alone.module(script), Format.YAML) == ()


def test_a_new_settings_file_is_seen_through_the_cache(tmp_path: Path) -> None:
    sources = _project(tmp_path)
    cache = Cache(tmp_path / ".cache")
    settings = Settings(select=("BN301",))
    assert len(lint(sources, settings, cache).findings) == 1
    assert len(lint(sources, settings, cache).findings) == 1
    (tmp_path / "configs" / "second.yaml").write_text("batch_size: 64\n")
    assert lint(sources, settings, cache).findings == []

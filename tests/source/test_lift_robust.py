"""Sources that are strange, large or endless: no crash, no hang, an honest count."""

from __future__ import annotations

from pathlib import Path

import pytest

from bncheck.config import Settings
from bncheck.graph import UNKNOWN, Kind, LayerGraph, Symbol
from bncheck.source.interpret import calls
from bncheck.source.interpret.classes import construct
from bncheck.source.interpret.effort import Effort
from bncheck.source.interpret.problems import FruitlessError
from bncheck.source.lift import graphs, networks
from bncheck.source.project import Defined, Project
from bncheck.source.timeline.closer import CloserLook
from bncheck.source.understanding import Understanding
from bncheck.worker import lint_files, lint_source

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"

STRANGE = {
    "recursion": "def f(n=3):\n    return nn.Sequential(f(n + 1), nn.ReLU())\n",
    "a class of itself": (
        "class A(nn.Module):\n    def __init__(self, n):\n        super().__init__()\n"
        "        self.inner = A(n - 1) if n > 0 else None\n"
        "    def forward(self, x):\n        return self.inner(x)\n"
    ),
    "a class of three of itself": (
        "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.one, self.two, self.three = A(), A(), A()\n"
        "        self.norm = nn.BatchNorm2d(3)\n"
        "    def forward(self, x):\n        return self.norm(x)\n"
    ),
    "an endless loop": "def f():\n    while True:\n        pass\n    return nn.ReLU()\n",
    "a long count": "def f():\n    x = 0\n    while x < 10**9:\n        x += 1\n    return x\n",
    "a list of itself": "def f():\n    a = [nn.ReLU()]\n    b, c, d = (1,), [1], nn.ModuleList(a)\n"
    "    for n in range(60):\n        a = a + a\n        b = b + b\n        c += c\n"
    "        c = [*c, *c]\n        d.extend(d)\n    return nn.Sequential(*a, *d)\n",
    "huge numbers": "A = 10 ** 10 ** 10\nB = 'a' * 10 ** 12\ndef f():\n    return A * B\n",
    "exec": "exec('import os')\ndef f():\n    exec('x = nn.ReLU()')\n    return x\n",
    "metaclass": "class M(type):\n    pass\nclass A(nn.Module, metaclass=M):\n    pass\n",
    "decorators": (
        "@(lambda c: c)\nclass A(nn.Module):\n    @torch.no_grad()\n"
        "    def forward(s, x):\n        return x\n"
    ),
    "a cycle of bases": "class A(B):\n    pass\nclass B(A):\n    pass\n",
    "star import of itself": "from strange import *\nclass A(nn.Module):\n    pass\n",
    "deep inheritance": "class A0(nn.Module):\n    pass\n"
    + "".join(f"class A{n}(A{n - 1}):\n    pass\n" for n in range(1, 80)),
    "a generator": "def f():\n    yield nn.ReLU()\n    yield from f()\n",
    "async": "async def f():\n    async with x as y:\n        return await y\n",
    "match": "def f(x=1):\n    match x:\n        case 1:\n            return nn.ReLU()\n",
    "a starred mess": "a, *b = 1, 2, 3\ndef f(*, k=1, **w):\n    return nn.Sequential(*[*b, *w])\n",
    "forks upon forks": "def f(c):\n    layers = []\n"
    + "".join(f"    if c[{n}]:\n        layers.append(nn.Conv2d(1, 1, 1))\n" for n in range(60))
    + "    return nn.Sequential(*layers)\nclass A(nn.Module):\n    def __init__(self, c):\n"
    "        super().__init__()\n        self.f = f(c)\n    def forward(self, x):\n"
    "        return self.f(x)\n",
}


def read(source: str, path: str = "strange.py") -> tuple[list[LayerGraph], Understanding]:
    project = Project(texts={Path(path): HEAD + source})
    understanding = Understanding()
    return list(networks([project.module(path)], project, understanding)), understanding


@pytest.mark.parametrize("name", STRANGE)
def test_strange_sources_are_survived(name: str) -> None:
    found, understanding = read(STRANGE[name])
    assert len(found) == understanding.fully + understanding.partly
    assert not [reason for reason in understanding.given_up if reason.startswith("internal")]


def test_a_generated_file_is_read_within_the_bound() -> None:
    source = "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    source += "        x = 1\n" * 45_000
    found, understanding = read(source)
    assert found == []
    assert understanding.given_up == {"too much work": 1}


_INSPECTS = """
class Inspector:
    def __init__(self):
        self.known = {}
    def inspect(self, names):
        for name in names:
            for other in names:
                for third in names:
                    self.known[name, other, third] = name
    def signature(self, name):
        found = self.known.get((name, name, name))
        if found is None:
            raise ValueError(name)
        return found
"""


@pytest.mark.parametrize("number", [1, 30])
def test_work_of_a_base_does_not_use_up_what_its_networks_have(number: int) -> None:
    source = (
        _INSPECTS
        + """
class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.inspector = Inspector()
        self.inspector.inspect(range(40))
        self.signature = self.inspector.signature(39)
        self.norm = nn.BatchNorm1d(8)
"""
    )
    for index in range(number):
        source += f"""
class Net{index}(Base):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)
    def forward(self, x):
        return self.norm(self.fc(x))
"""
    found, understanding = read(source)
    assert not understanding.given_up
    assert len(found) == number + 1
    for graph in found[:number]:
        [norm] = graph.of_kind(Kind.BATCH_NORM)
        assert [node.kind for node in norm.inputs] == [Kind.LINEAR]


def test_what_a_call_that_was_cut_short_gives_and_changes_is_unknown() -> None:
    source = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.sizes = [3, 8]
        self.width = self.measure()
        self.conv = nn.Conv2d(3, self.width, 1)
        self.last = nn.Conv2d(self.sizes[0], self.factor, 1)
    def measure(self):
        self.factor = 1
        for _ in range(100):
            for _ in range(100):
                self.factor = self.factor + 1
                self.sizes[0] = self.factor
        return self.factor
    def forward(self, x):
        return self.last(self.conv(x))
"""
    [graph], understanding = read(source)
    assert not graph.complete
    assert understanding.doubts["much work without a layer"] == 1
    first, last = graph.layers
    assert first.get("out_channels") is UNKNOWN
    assert last.get("in_channels") is UNKNOWN
    assert last.get("out_channels") is UNKNOWN


def test_a_call_of_a_caller_with_little_left_says_little_of_its_function() -> None:
    effort = Effort()
    effort.begin()
    outer = effort.begin()
    effort.step(5_000)
    inner = effort.begin()
    assert not effort.is_ample
    with pytest.raises(FruitlessError):
        effort.step(500)
    effort.end(inner)
    with pytest.raises(FruitlessError):
        effort.step(200)
    assert effort.is_ample
    effort.end(outer)


def test_a_recursion_over_what_is_not_known_takes_little_work() -> None:
    source = """
def padding(kernel, stride, dilation):
    if any([isinstance(v, tuple) for v in (kernel, stride, dilation)]):
        return [padding(*a) for a in zip(kernel, stride, dilation)]
    return (stride - 1 + dilation * (kernel - 1)) // 2

class Net(nn.Module):
    def __init__(self, kernel, stride, dilation):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, kernel, stride, padding(kernel, stride, dilation), dilation)
        self.norm = nn.BatchNorm2d(8)
    def forward(self, x):
        return self.norm(self.conv(x))
"""
    [graph], understanding = read(source)
    assert graph.complete
    assert "recursion" not in understanding.doubts


def test_a_class_that_was_too_much_work_is_not_constructed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []
    monkeypatch.setattr(calls, "construct", lambda *given: begun.append(1) or construct(*given))
    source = """
class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        for _ in range(900):
            self.act = nn.ReLU()
            for _ in range(30):
                self.act = self.act
    def forward(self, x):
        return self.act(self.norm(x))
def net(width):
    return Net(width)
"""
    found, understanding = read(source)
    assert not found
    assert understanding.given_up == {"too much work": 2}
    assert begun == [1]


def test_no_network_is_left_out_because_others_were_much_work() -> None:
    classes = [
        f"class A{number}(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        for a in range(60):\n            for b in range(60):\n"
        f"                self.layer = nn.Linear({number}, b)\n"
        for number in range(80)
    ]
    found, understanding = read("".join(classes))
    assert not understanding.given_up
    assert len(found) == 80


def test_parts_of_a_network_given_up_are_read_as_another_constructs_them() -> None:
    source = """
class Encoder(nn.Module):
    def __init__(self, norm="batch"):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8) if norm == "batch" else nn.Sequential()
    def forward(self, x):
        return self.norm(self.conv(x))

class Net(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.encoder = Encoder("none")
    def forward(self, x):
        return self.encoder(x)

def endless(args=None):
    net = Net(args)
"""
    source += "    x = 1\n" * 45_000 + "    return net\n"
    found, understanding = read(source)
    assert understanding.given_up == {"too much work": 1}
    assert [graph.name for graph in found] == ["Net"]


def test_import_cycles_end(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(HEAD + "from two import B\nclass A(B):\n    pass\n")
    (tmp_path / "two.py").write_text(HEAD + "from one import *\nclass B(nn.Module):\n    pass\n")
    project = Project()
    modules = [project.module(str(tmp_path / name)) for name in ("one.py", "two.py")]
    assert all(graph.name in {"A", "B"} for graph in networks(modules, project))


def test_a_package_of_modules_that_import_from_it_is_resolved_once(tmp_path: Path) -> None:
    # Each module may hold what each other asks the package for: without a record of what is
    # being looked for, that is 20 to the power of the re-exports that are followed.
    package = tmp_path / "models"
    package.mkdir()
    names = [f"m{number}" for number in range(20)]
    stars = "".join(f"from .{name} import *\n" for name in names)
    (package / "__init__.py").write_text(stars)
    for name in names:
        (package / f"{name}.py").write_text("from models import Base\n")
    (package / "m7.py").write_text("class Base:\n    pass\n")
    project = Project()
    assert project.resolve("Missing", project.module(str(package / "m3.py"))) == []
    (found,) = project.resolve("Base", project.module(str(package / "m3.py")))
    assert isinstance(found, Defined)
    assert found.module.path == str(package / "m7.py")


def test_modules_that_import_everything_of_all_others_are_resolved_once() -> None:
    # The ways through 14 such modules are some 14 factorial.
    names = [f"m{number}" for number in range(14)]
    texts = {
        Path(f"{name}.py"): "".join(f"from {other} import *\n" for other in names if other != name)
        for name in names
    }
    texts[Path("m9.py")] += "class Base:\n    pass\n"
    project = Project(texts=texts)
    assert project.resolve("Missing", project.module("m3.py")) == []
    (found,) = project.resolve("Base", project.module("m3.py"))
    assert isinstance(found, Defined)
    assert found.module.path == "m9.py"


def test_layers_are_followed_to_the_file_that_constructs_them(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text(
        HEAD + "def conv(a, b, **kwargs):\n    return nn.Conv2d(a, b, 3, **kwargs)\n"
    )
    net = HEAD + (
        "from helpers import conv\n"
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.body = nn.Sequential(conv(3, 8, padding=1), nn.BatchNorm2d(8))\n"
        "    def forward(self, x):\n        return self.body(x)\n"
    )
    (tmp_path / "net.py").write_text(net)
    paths = [str(tmp_path / name) for name in ("helpers.py", "net.py")]
    texts = {Path(path): Path(path).read_bytes() for path in paths}
    report = lint_files(paths, Project(texts=texts), Settings(select=("BN101",)))
    assert [(Path(f.path).name, f.line) for f in report.findings] == [("helpers.py", 5)]


def test_symbols_are_the_same_for_the_same_expression() -> None:
    [graph], _ = read(
        "class A(nn.Module):\n    def __init__(self, channels):\n        super().__init__()\n"
        "        width = channels * 4\n"
        "        self.c, self.b = nn.Conv2d(3, width, 1), nn.BatchNorm2d(4 * channels + 0)\n"
        "        self.h = nn.Linear(width // 2, (channels + 1) // 2)\n"
        "    def forward(self, x):\n        return self.h(self.b(self.c(x)))\n"
    )
    convolution, norm, linear = graph.layers
    assert convolution.get("out_channels") == norm.get("num_features") == Symbol("4*channels")
    assert linear.get("in_channels") == Symbol("2*channels")
    assert isinstance(linear.get("out_channels"), Symbol)
    assert graph.complete
    assert graph.symbolic


def test_what_is_not_understood_is_opaque() -> None:
    [graph], understanding = read(
        "import elsewhere\nclass A(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.c, self.b = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)\n"
        "    def forward(self, x):\n        return self.b(elsewhere.twist(self.c(x)))\n"
    )
    assert not graph.complete
    [opaque] = graph.of_kind(Kind.OPAQUE)
    assert [node.kind for node in opaque.inputs] == [Kind.CONVOLUTION]
    assert [node.kind for node in opaque.consumers] == [Kind.BATCH_NORM]
    assert understanding.doubts == {"call of elsewhere.twist": 1}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("self.l = nn.Sequential(nn.Linear(1, n), nn.BatchNorm1d(n))", True),
        ("self.l = nn.Linear(1, n)", False),
        ("self.l = n", False),
        ("self.l = elsewhere.make(n)", False),
        ("self.l = make(n)", UNKNOWN),
        ("self.l = nn.BatchNorm1d(n)\n    def forward(self, x):\n        return x", False),
        ("self.l = nn.BatchNorm1d(n)\n    def forward(self, x):\n        return self.l(x)", True),
        ("self.l = Own(n)", UNKNOWN),
        ("self.l = LayerNorm(n)", False),
        ("self.l = Drop(elsewhere.rate(n))", False),
        ("self.l = Wrapped(elsewhere.make(n))", False),
        ("self.fast = elsewhere.may(n)\n        self.l = 1 if self.fast else 2", False),
        ("self.l = elsewhere.make(n)\n        self.m = self.l if n else None", False),
        ("self.l = make(n)\n        self.m = self.l if n else None", UNKNOWN),
    ],
)
def test_whether_a_class_holds_batch_norm(body: str, answer: object) -> None:
    source = HEAD + (
        "import elsewhere\nclass Own(nn.modules.batchnorm._BatchNorm):\n"
        "    def forward(self, x):\n        return x\n"
        "class LayerNorm(nn.LayerNorm):\n    def forward(self, x):\n        return x\n"
        "class Drop(nn.Module):\n    def __init__(self, rate: float = 0.0):\n"
        "        super().__init__()\n        self.rate = rate\n"
        "    def forward(self, x):\n        return drop(x, self.rate, self.training)\n"
        "class Wrapped(nn.Module):\n    def __init__(self, inner=None):\n"
        "        super().__init__()\n        self.inner = inner\n"
        "    def forward(self, x):\n        return drop(x, self.inner, self.training)\n"
        "def make(n):\n    return elsewhere.make(nn.BatchNorm1d(n))\n"
        "class A(nn.Module):\n    def __init__(self, n):\n"
        f"        super().__init__()\n        {body}\n"
    )
    project = Project(texts={Path("a.py"): source})
    module = project.module("a.py")
    [meaning] = project.resolve("A", module)
    assert isinstance(meaning, Defined)
    assert CloserLook(meaning, project, frozenset())() is answer


def test_a_repeated_block_is_read_as_if_each_were_run() -> None:
    [graph] = graphs_of(
        "class Block(nn.Module):\n    def __init__(self, n):\n        super().__init__()\n"
        "        self.c, self.b = nn.Conv2d(n, n, 1), nn.BatchNorm2d(n)\n"
        "    def forward(self, x):\n        return x + self.b(self.c(x))\n"
        "def net():\n    return nn.Sequential(*[Block(8) for _ in range(3)])\n"
    )
    convolutions = list(graph.of_kind(Kind.CONVOLUTION))
    assert len({id(node.layer) for node in convolutions}) == 3
    assert [layer.name for layer in graph.layers] == ["0.c", "0.b", "1.c", "1.b", "2.c", "2.b"]
    for node in convolutions:
        [norm] = node.consumers
        assert norm.kind is Kind.BATCH_NORM
        assert {n.kind for n in norm.consumers} == {Kind.ADD}
    assert [len(node.inputs) for node in graph.of_kind(Kind.ADD)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("raised", "found"), [("NotImplementedError()", 0), ("ValueError(edge)", 1)]
)
def test_a_loop_that_raises_runs_in_no_round_unless_it_is_a_placeholder(
    raised: str, found: int
) -> None:
    source = HEAD + (
        "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.a, self.b = nn.BatchNorm1d(8), nn.BatchNorm1d(8)\n"
        "    def forward(self, x, edges):\n        x = self.a(x)\n"
        f"        for edge in edges:\n            raise {raised}\n"
        "        return self.b(x)\n"
    )
    assert len(lint_source(source, settings=Settings(select=("BN110",)))) == found


@pytest.mark.parametrize(("parameters", "found"), [("", 1), ("width", 0)])
def test_what_is_known_may_take_all_the_work_to_construct(parameters: str, found: int) -> None:
    rounds = "        for j in range(100):\n            a = j\n"
    source = HEAD + (
        f"def net({parameters}):\n    layers = [nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)]\n"
        f"    for i in range(100):\n{rounds}    return nn.Sequential(*layers)\n"
    )
    assert len(lint_source(source, settings=Settings(select=("BN101",)))) == found


def graphs_of(source: str) -> list[LayerGraph]:
    project = Project(texts={Path("a.py"): HEAD + source})
    return graphs(project.module("a.py"), project)

"""BN101 on source: each case is a small program; `# yes` marks the lines that are findings."""

from __future__ import annotations

import pytest

from bncheck.config import Settings
from bncheck.worker import lint_source

HEAD = """
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import partial
import torch
import torch.nn as nn
import torch.nn.functional as F

"""

CASES = {
    "attributes and reassigned names": """
class Net(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3)  # yes
        self.bn = nn.BatchNorm2d(channels)
    def forward(self, x):
        x = self.conv(x)
        x = self.bn(x)
        return F.relu(x)
""",
    "a configuration that completes itself": """
@dataclass
class Config:
    width: int = 8
    norm: str = ""
    acts: list = field(default_factory=lambda: [nn.ReLU])
    bias: bool = None
    def __post_init__(self):
        self.norm = self.norm or "batch"
        if self.bias is None:
            self.bias = True
class Net(nn.Module):
    def __init__(self, config: Config = Config()):
        super().__init__()
        self.conv = nn.Conv2d(3, config.width, 3, bias=config.bias)  # yes
        self.bn = {"batch": nn.BatchNorm2d, "none": nn.Identity}[config.norm](config.width)
        self.act = config.acts[0]()
    def forward(self, x):
        return self.act(self.bn(self.conv(x)))
""",
    "a class of Sequential that other code constructs and loses": """
class Regressor(nn.Sequential):
    def __init__(self, width):
        layers = OrderedDict()
        layers["conv"] = nn.Conv2d(3, width, 3)  # yes
        layers["bn"] = nn.BatchNorm2d(width)
        super().__init__(layers)
def adapted(model, width):
    model.put(Regressor(width))
    return nn.Sequential(model, nn.ReLU())
""",
    "a Sequential that a library is given": """
from torch_geometric.nn import GINConv
class Net(nn.Module):
    def __init__(self, layers=2):
        super().__init__()
        self.convs = nn.ModuleList()
        for _ in range(layers):
            mlp = nn.Sequential(
                nn.Linear(8, 8),  # yes
                nn.BatchNorm1d(8),
                nn.ReLU(),
                nn.Linear(8, 8),
            )
            self.convs.append(GINConv(mlp, train_eps=True))
    def forward(self, x, edges):
        for conv in self.convs:
            x = conv(x, edges)
        return x
""",
    "a changed configuration completes itself": """
@dataclass
class Config:
    norm: bool = False
    bias: bool = True
    def __post_init__(self):
        self.bias = not self.norm
class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=config.bias)
        self.bn = nn.BatchNorm2d(8) if config.norm else nn.Identity()
    def forward(self, x):
        return self.bn(self.conv(x))
def net():
    return Net(replace(Config(), norm=True))
""",
    "nested calls": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)  # yes
    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))
""",
    "the order of forward decides": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
    def forward(self, x):
        return self.bn(F.relu(self.conv(x)))
""",
    "a dropout between": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.BatchNorm1d(8))
    def forward(self, x):
        return self.body(x)
""",
    "a second reader": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.bn = nn.BatchNorm2d(3)
    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y
""",
    "layers applied twice": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.both = nn.Conv2d(3, 3, 3)  # yes
        self.one = nn.Conv2d(3, 3, 3)
        self.bn1 = nn.BatchNorm2d(3)
        self.bn2 = nn.BatchNorm2d(3)
    def forward(self, x):
        x = self.bn2(self.both(self.bn1(self.both(x))))
        return self.one(self.bn1(self.one(x)))
""",
    "a join before the norm": """
class Net(nn.Module):
    def __init__(self, wide):
        super().__init__()
        self.wide = wide
        self.a = nn.Conv2d(3, 3, 3)  # yes
        self.b = nn.Conv2d(3, 3, 1)  # yes
        self.bn = nn.BatchNorm2d(3)
    def forward(self, x):
        if self.wide:
            x = self.a(x)
        else:
            x = self.b(x)
        return self.bn(x)
""",
    "a norm on one path only": """
class Net(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm
        self.conv = nn.Conv2d(3, 3, 3)
        self.bn = nn.BatchNorm2d(3)
    def forward(self, x):
        x = self.conv(x)
        if self.norm:
            x = self.bn(x)
        return F.relu(x)
""",
    "other norms": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8))
        self.b = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
        self.c = nn.Sequential(nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8))  # yes
        self.d = nn.Sequential(nn.Conv3d(8, 8, 3), nn.SyncBatchNorm(8))  # yes
    def forward(self, x):
        return self.d(self.c(self.b(self.a(x))))
""",
    "functional norms": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 3)  # yes
        self.b = nn.Conv2d(3, 3, 3)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))
    def forward(self, x):
        x = F.batch_norm(self.a(x), self.mean, self.var, training=self.training)
        return F.batch_norm(self.b(x), self.mean, self.var, training=False)
""",
    "weights read elsewhere, and hooks": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.bn_a = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.b, self.bn_b = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.b.register_forward_hook(print)
    def forward(self, x):
        y = F.linear(x, self.a.weight, self.a.bias)
        return self.bn_b(self.b(self.bn_a(self.a(x)))) + y
""",
    "every form of Sequential": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(OrderedDict([
            ("conv", nn.Conv2d(3, 3, 1)),  # yes
            ("bn", nn.BatchNorm2d(3)),
        ]))
        layers = []
        for width in (3, 4):
            layers += [nn.Conv2d(width, width + 1, 1), nn.BatchNorm2d(width + 1)]  # yes
        self.b = nn.Sequential(*layers)
        self.c = nn.Sequential()
        self.c.add_module("conv", nn.Conv2d(5, 5, 1))  # yes
        self.c.add_module("bn", nn.BatchNorm2d(5))
        self.d = nn.ModuleList([nn.Conv2d(5, 5, 1) for _ in range(2)])  # yes
        self.e = nn.ModuleList(nn.BatchNorm2d(5) for _ in range(2))
        self.f = nn.ModuleDict({"conv": nn.Conv2d(5, 5, 1), "bn": nn.BatchNorm2d(5)})  # yes
    def forward(self, x):
        x = self.c(self.b(self.a(x)))
        for conv, bn in zip(self.d, self.e):
            x = bn(conv(x))
        return self.f["bn"](self.f["conv"](x))
""",
    "subclasses of Sequential and inherited methods": """
class ConvBNReLU(nn.Sequential):
    def __init__(self, inputs, outputs, norm_layer=nn.BatchNorm2d, **kwargs):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, **kwargs),  # yes
            norm_layer(outputs),
            nn.ReLU(inplace=True),
        )

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = ConvBNReLU(3, 8, padding=1)
    def forward(self, x):
        return self.head(self.block(x))

class Net(Base):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(8, 2, 1)
""",
    "a branch for each item of what is not known": """
class Pyramid(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.widths = [width // 2 for width in widths]
        self.before = nn.ModuleList([
            nn.Sequential(nn.Conv2d(width, 8, 1), nn.BatchNorm2d(8))  # yes
            for number, width in enumerate(widths)
        ])
        self.after = nn.ModuleList([nn.Conv2d(8, 8, 3) for width in widths])
        self.norms = nn.ModuleList([nn.BatchNorm2d(8) for width in widths])
    def forward(self, x):
        if len(x) != len(self.before):
            raise ValueError
        x = [branch(part) for branch, part in zip(self.before, x)]
        return [norm(conv(part).relu()) for conv, norm, part in zip(self.after, self.norms, x)]

class Net(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features = features
        shapes = [part.shape[1] for part in features(torch.zeros(1, 3, 64, 64)).values()]
        self.pyramid = Pyramid(shapes)
    def forward(self, x):
        found = self.features(x)
        return self.pyramid([found[str(number)] for number in range(len(found))])
""",
    "a norm of the project's own that looks at its input": """
class SampleNorm(nn.modules.batchnorm._BatchNorm):
    def _check_input_dim(self, x):
        if x.dim() != 5:
            raise ValueError("expected five dimensions, not {}".format(x.dim()))
        super()._check_input_dim(x)
    def forward(self, x):
        self._check_input_dim(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, True
        )

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv3d(width, width, 3)  # yes
        self.norm = SampleNorm(width)
    def forward(self, x):
        return self.norm(self.conv(x))
""",
    "longer names of torch's layers": """
from torch.nn import modules

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = modules.Sequential(nn.modules.Conv2d(3, 8, 3), modules.BatchNorm2d(8))  # yes
        self.conv = torch.nn.modules.conv.Conv2d(8, 8, 3)  # yes
        self.norm = modules.batchnorm.BatchNorm2d(8)
        self.last = nn.modules.Conv2d(8, 8, 3)
    def forward(self, x):
        return self.last(self.norm(self.conv(self.one(x))))
""",
    "helpers, partial, tables and getattr": """
def conv3x3(inputs, outputs, bias=True):
    return nn.Conv2d(inputs, outputs, 3, bias=bias)  # yes

NORMS = {"bn": nn.BatchNorm2d, "in": nn.InstanceNorm2d}
pointwise = partial(nn.Conv2d, kernel_size=1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.bn_a = conv3x3(3, 8), NORMS["bn"](8)
        self.b, self.bn_b = pointwise(8, 8), getattr(nn, "BatchNorm2d")(8)  # yes
    def forward(self, x):
        return self.bn_b(self.b(self.bn_a(self.a(x))))
""",
    "a set of classes and a class's name": """
class NormAct(nn.BatchNorm2d):
    def forward(self, x):
        return F.relu(super().forward(x))

class GroupAct(nn.GroupNorm):
    pass

FUSED = {kind for _, kind in dict(batchnorm2d=NormAct, groupnorm=GroupAct).items()}
CHANNELS_FIRST = {NormAct, GroupAct}
BY_NAME = dict(batchnorm2d=NormAct, groupnorm=GroupAct)

def fused(norm_layer):
    if norm_layer in FUSED:
        return norm_layer
    found = BY_NAME[norm_layer.__name__.lower()]
    return partial(found, eps=1e-4) if found in CHANNELS_FIRST else nn.Identity

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.bn_a = nn.Conv2d(3, 8, 1), fused(nn.BatchNorm2d)(8)  # yes
        self.b, self.bn_b = nn.Conv2d(8, 8, 1), fused(NormAct)(8)  # yes
    def forward(self, x):
        return self.bn_b(self.b(self.bn_a(self.a(x))))
""",
    "a configuration that is replaced in part": """
@dataclass(frozen=True)
class Config:
    bias: bool = False
    norm: bool = True

class Net(nn.Module):
    def __init__(self, config, **changes):
        super().__init__()
        config = replace(config, **changes)
        self.conv = nn.Conv2d(3, 8, 1, bias=config.bias)  # yes
        self.bn = nn.BatchNorm2d(8) if config.norm else nn.Identity()
    def forward(self, x):
        return self.bn(self.conv(x))

def net():
    return Net(Config(norm=True), bias=True)
""",
    "conditional biases": """
class Block(nn.Module):
    def __init__(self, width, norm_layer=None, use_bn=False):
        super().__init__()
        self.a = nn.Conv2d(width, width, 3, bias=not use_bn)
        self.b = nn.Conv2d(width, width, 3, bias=norm_layer is None)
        self.norm = norm_layer(width) if norm_layer is not None else nn.Identity()
        self.bn = nn.BatchNorm2d(width) if use_bn else None
    def forward(self, x):
        x = self.a(x)
        if self.bn is not None:
            x = self.bn(x)
        return self.norm(self.b(x))

def with_norm():
    return nn.Sequential(Block(8, nn.BatchNorm2d, True), Block(8), Block(8, None))
""",
    "a helper used with a norm and without": """
def conv(inputs, outputs, bn):
    layer = nn.Conv2d(inputs, outputs, 3)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs)) if bn else nn.Sequential(layer)

def net():
    return nn.Sequential(conv(3, 8, True), conv(8, 2, False))
""",
    "an unknown flag is never a finding": """
class Net(nn.Module):
    def __init__(self, use_bn, bias):
        super().__init__()
        layers = [nn.Conv2d(3, 8, 3)]
        if use_bn:
            layers.append(nn.BatchNorm2d(8))
        layers.append(nn.ReLU())
        self.a = nn.Sequential(*layers)
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, bias=bias), nn.BatchNorm2d(8))
    def forward(self, x):
        return self.b(self.a(x))
""",
    "an unknown number of rounds": """
class Net(nn.Module):
    def __init__(self, depth):
        super().__init__()
        layers = []
        for _ in range(depth):
            layers.append(nn.Conv2d(8, 8, 3))
        layers.append(nn.BatchNorm2d(8))
        self.body = nn.Sequential(*layers)
    def forward(self, x):
        return self.body(x)
""",
    "an early return": """
def make(kind):
    if kind == "plain":
        return nn.Conv2d(3, 3, 3)
    layers = [nn.Conv2d(3, 3, 3)]  # yes
    layers.append(nn.BatchNorm2d(3))
    return nn.Sequential(*layers)

class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body = make(kind)
    def forward(self, x):
        return self.body(x)
""",
    "a loop left early on some paths": """
class Net(nn.Module):
    def __init__(self, flags):
        super().__init__()
        layers = []
        for i in range(3):
            layers.append(nn.Conv2d(8, 8, 3))
            if flags[i]:
                break
            layers.append(nn.BatchNorm2d(8))
        self.body = nn.Sequential(*layers)
    def forward(self, x):
        return self.body(x)
""",
    "a forward that leaves its loop early": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.broken = nn.ModuleList(nn.Conv2d(8, 8, 3) for _ in range(2))
        self.skipped = nn.ModuleList(nn.Conv2d(8, 8, 3) for _ in range(2))
        self.norm = nn.BatchNorm2d(8)
    def forward(self, x):
        for conv in self.broken:
            x = conv(x)
            if x.mean() > 0:
                break
            x = self.norm(x)
        for conv in self.skipped:
            x = conv(x)
            if x.mean() > 0:
                continue
            x = self.norm(x)
        return F.relu(x)
""",
    "a round that is skipped as a whole": """
class Net(nn.Module):
    def __init__(self, flags):
        super().__init__()
        layers = []
        for i in range(3):
            if flags[i]:
                continue
            layers.append(nn.Conv2d(8, 8, 3))  # yes
            layers.append(nn.BatchNorm2d(8))
        self.body = nn.Sequential(*layers)
    def forward(self, x):
        return self.body(x)
""",
    "every path but one leaves the loop": """
class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        for name in ("a", "b"):
            body = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())
            if kind == name:
                body = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))  # yes
                break
        else:
            raise ValueError(kind)
        self.body = body
    def forward(self, x):
        return self.body(x)
""",
    "a return before an error": """
def make(kind):
    if kind == "bn":
        return nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))  # yes
    raise ValueError(kind)

class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body = make(kind)
    def forward(self, x):
        return self.body(x)
""",
    "lists of unknown length, iterated side by side": """
class Net(nn.Module):
    def __init__(self, inputs, mlp):
        super().__init__()
        self.convs = nn.ModuleList()
        self.bns = nn.ModuleList()
        for outputs in mlp:
            self.convs.append(nn.Conv2d(inputs, outputs, 1))  # yes
            self.bns.append(nn.BatchNorm2d(outputs))
            inputs = outputs
    def forward(self, x):
        for i, conv in enumerate(self.convs):
            bn = self.bns[i]
            x = F.relu(bn(conv(x)))
        return x
""",
    "a given module beside a norm": """
class Net(nn.Module):
    def __init__(self, given):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), given, nn.BatchNorm2d(8))
    def forward(self, x):
        return self.body(x)
""",
    "a part that is not seen to be applied": """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 3))  # yes
        self.bn = nn.BatchNorm2d(3)
    def forward(self, x):
        return self.a(x)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()
    def forward(self, x):
        return unknown(self)(x)
""",
    "a part of a network whose constructor raises": """
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))  # yes
    def forward(self, x):
        return self.body(x)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block(8)
        raise NotImplementedError
    def forward(self, x):
        return self.block(x)
""",
    "a function that nothing calls": """
def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.BatchNorm2d(outputs))  # yes

class Net(nn.Module):
    def __init__(self, classes, sizes=None):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        layers = []
        for size in sizes or ():
            layers += [nn.Linear(8, size), nn.BatchNorm1d(size), nn.ReLU()]  # yes
        self.head = nn.Sequential(*layers)
        self.classifier = nn.Linear(8, classes)
    def forward(self, x):
        return self.classifier(self.head(self.conv(x).mean((2, 3))))

def plain(classes):
    return Net(classes)

def with_head(classes):
    model = Net(classes, [16])
    return model
""",
    "what a constructor and a forward want is optional": """
class Net(nn.Module):
    def __init__(self, width, shape=None, size=None, bias=True):
        super().__init__()
        if shape is None and size is None:
            raise ValueError("give one of them")
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, bias=bias), nn.BatchNorm2d(width))  # yes
    def forward(self, x=None, scale=2, y=None):
        if x is None and y is None:
            raise ValueError("give one of them")
        return self.body(x if x is not None else y)
""",
    "a part that another method applies": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        self.judge = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))  # yes
    def forward(self, x):
        return self.body(x)
    def loss(self, x):
        return self.judge(self.body(x).mean((2, 3)))
""",
    "a registry filled by decorators": """
from collections import namedtuple
import inspect

class Registry:
    Entry = namedtuple("Entry", ("note", "value"))
    def __init__(self):
        self.entries = {}
    def register(self, name):
        def add(function):
            self.entries[name.upper()] = self.Entry(function.__doc__, function)
            return function
        return add
    def __getitem__(self, arguments):
        name, *arguments = arguments
        return self.entries[name.upper()].value(*arguments)
    def __getattr__(self, name):
        if name in self.entries:
            return name
        raise AttributeError(name)

LAYERS = Registry()
TABLE = {}
TABLE["linear"] = nn.Linear

@LAYERS.register("conv")
def convolution(dimensions):
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]

@LAYERS.register("batch")
def norm(dimensions):
    return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimensions - 1]

class Net(nn.Module):
    def __init__(self, dimensions=2, norm="batch"):
        super().__init__()
        kind = LAYERS[norm, dimensions]
        given = {}
        if "num_features" in inspect.signature(kind).parameters:
            given["num_features"] = 8
        self.body = nn.Sequential(LAYERS[LAYERS.CONV, dimensions](3, 8, 3), kind(**given))  # yes
        self.head = nn.Sequential(TABLE["linear"](8, 8), nn.BatchNorm1d(8))  # yes
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))
""",
    "a norm along a linear layer's features": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(8, 8), nn.InstanceNorm1d(1), nn.ReLU())
        self.b = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(3), nn.ReLU())
        self.c = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm2d(8), nn.ReLU())
        self.d = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())  # yes
    def forward(self, x):
        return self.a(x), self.b(x), self.c(x), self.d(x)
""",
    "a bias for InstanceNorm only": """
class Net(nn.Module):
    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        if type(norm) == partial:
            bias = norm.func == nn.InstanceNorm2d
        else:
            bias = norm == nn.InstanceNorm2d
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, bias=bias), norm(8))
        self.tail = nn.Sequential(nn.Conv2d(8, 8, 3), norm(8))  # yes
    def forward(self, x):
        return self.tail(self.body(x))

class Other(Net):
    def __init__(self):
        super().__init__(partial(nn.BatchNorm2d, affine=True))
""",
    "a subclass of a layer": """
class SameConv(nn.Conv2d):
    def forward(self, x):
        x = F.pad(x, (1, 1, 1, 1))
        return F.conv2d(x, self.weight, self.bias, self.stride)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = SameConv(3, 8, 3)  # yes
        self.bn = nn.BatchNorm2d(8)
    def forward(self, x):
        return self.bn(self.conv(x))
""",
    "a norm of one kind or another": """
def get_norm_layer(kind):
    if kind == "batch":
        return partial(nn.BatchNorm2d, affine=True)
    elif kind == "instance":
        return partial(nn.InstanceNorm2d, affine=False)
    raise NotImplementedError(kind)

def get_any_norm_layer(kind):
    return nn.GroupNorm if kind == "group" else get_norm_layer(kind)

class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), get_norm_layer(kind)(8))  # yes
        self.tail = nn.Sequential(nn.Conv2d(8, 8, 3), get_any_norm_layer(kind)(8))
    def forward(self, x):
        return self.tail(self.body(x))
""",
    "two norms read the output, and nothing else does": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)  # yes
        self.plain = nn.Conv2d(3, 8, 3)
        self.clean, self.noisy = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
    def forward(self, x):
        y, z = self.conv(x), self.plain(x)
        return self.clean(y) + self.noisy(y) + self.clean(z) + z
""",
    "a network that is constructed for a part of it": """
class Backbone(nn.Module):
    def __init__(self, bias=True):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
        self.neck = nn.Linear(8, 8, bias=bias)
        self.neck_norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 8)  # yes
        self.norm = nn.BatchNorm1d(8)
    def forward(self, x):
        x = self.neck_norm(self.neck(self.features(x).mean((2, 3))))
        return self.norm(self.head(x))

class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = Backbone(bias=False).features
    def forward(self, x):
        return self.base(x)
""",
    "as many layers as an option says": """
import argparse
options = argparse.ArgumentParser().parse_args()

class Net(nn.Module):
    def __init__(self, depth):
        super().__init__()
        groups = [[nn.Conv2d(3, 8, 3), nn.ReLU()]]
        for n in range(depth):
            groups += [[nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]]  # yes
        groups += [[nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8)]]  # yes
        layers = []
        for n in range(len(groups)):
            layers += groups[n]
        self.body = nn.Sequential(*layers)
    def forward(self, x):
        return self.body(x)

net = Net(options.depth)
""",
    "more blocks than were assumed": """
class Net(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(8, 8, 3) for _ in range(depth)])
        self.conv = nn.Conv2d(8, 8, 3)  # yes
        self.norm = nn.BatchNorm2d(8)
    def forward(self, x):
        kept = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in (3, 7, 11):
                kept.append(x)
        return self.norm(self.conv(kept[2])), self.blocks[5](x)
""",
    "a base class that goes through what it does not know": """
class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.names = self.modules_of(self.__class__)
    def modules_of(self, cls):
        below = self.modules_of(cls.left) + self.modules_of(cls.right)
        return [cls.__module__, *below]

class Net(Base):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8))  # yes
    def forward(self, x):
        return self.body(x)
""",
}


@pytest.mark.parametrize("name", CASES)
def test_findings_are_exactly_the_marked_lines(name: str) -> None:
    source = HEAD + CASES[name]
    expected = [n for n, line in enumerate(source.splitlines(), 1) if line.endswith("# yes")]
    found = lint_source(source, settings=Settings(select=("BN101",)))
    assert [finding.line for finding in found] == expected

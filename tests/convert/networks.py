"""Random small networks: programs over a pool of tensors, drawn by hypothesis.

A network is data, a list of steps, each of which reads values made before it, so that hypothesis
can shrink it and a failure prints as the list. Sizes are tiny: what is looked for is structure.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

from fixtures.models.adversarial import randomise


@dataclass(frozen=True)
class Step:
    """One layer or operation, the values it reads, and the shape it gives, without the batch."""

    kind: str
    reads: tuple[int, ...]
    shape: tuple[int, ...]
    layer: int | None = None
    options: tuple = ()


@dataclass(frozen=True)
class Layer:
    """How a layer is constructed."""

    type_name: str
    arguments: tuple
    options: tuple = ()

    def build(self):
        return getattr(nn, self.type_name)(*self.arguments, **dict(self.options))


@dataclass(frozen=True)
class Network:
    """Layers, the steps that apply them, and the seed of the parameters."""

    shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    steps: tuple[Step, ...]
    seed: int
    positive: bool
    """Whether all scales are positive, so that they go through max pooling."""
    constants: tuple[tuple[int, ...], ...] = ()
    """Shapes of parameters that steps multiply by or add."""

    def model(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = Program(self).eval()
            randomise(model)
            if self.positive:
                for norm in model.modules():
                    if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.affine:
                        norm.weight.data.abs_()
        return model.double()

    def input(self, seed, batch=2):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn((batch, *self.shape), generator=generator, dtype=torch.float64)


class Program(nn.Module):
    """Runs the steps of a network and returns what no step reads."""

    def __init__(self, network):
        super().__init__()
        self.layers = nn.ModuleList(layer.build() for layer in network.layers)
        self.steps = network.steps
        self.constants = nn.ParameterList(torch.randn(shape) for shape in network.constants)
        read = {index for step in network.steps for index in step.reads}
        self.ends = [i for i in range(len(network.steps) + 1) if i not in read]

    def forward(self, x):
        values = [x]
        for step in self.steps:
            operands = [values[index] for index in step.reads]
            if step.kind in CALLED_ON_ONE:
                constant = self.constants[step.options[0]]
                values.append(CALLED_ON_ONE[step.kind](*operands, constant))
            elif step.layer is not None:
                values.append(self.layers[step.layer](*operands))
            else:
                values.append(OPERATIONS[step.kind](operands, step))
        return tuple(values[index] for index in self.ends)


def _shuffle(operands, step):
    x = operands[0]
    groups = step.options[0]
    c, *space = step.shape
    return x.view(-1, groups, c // groups, *space).transpose(1, 2).reshape(-1, *step.shape)


OPERATIONS = {
    "relu": lambda o, s: F.relu(o[0]),
    "relu_": lambda o, s: (o[0] + 0).relu_(),
    "tanh": lambda o, s: torch.tanh(o[0]),
    "sigmoid": lambda o, s: torch.sigmoid(o[0]),
    "leaky_relu": lambda o, s: F.leaky_relu(o[0], 0.2),
    "dropout": lambda o, s: F.dropout(o[0], 0.5, False),
    "contiguous": lambda o, s: o[0].contiguous(),
    "add": lambda o, s: o[0] + o[1],
    "subtract": lambda o, s: o[0] - o[1],
    "multiply": lambda o, s: o[0] * o[1],
    "double": lambda o, s: o[0] * 2.0,
    "concat": lambda o, s: torch.cat(o, s.options[0]),
    "slice": lambda o, s: o[0][:, s.options[0] : s.options[1]],
    "flatten": lambda o, s: o[0].flatten(1),
    "reshape": lambda o, s: o[0].reshape(-1, *s.shape),
    "transpose": lambda o, s: o[0].transpose(*s.options),
    "shuffle": _shuffle,
    "mean": lambda o, s: o[0].mean(tuple(range(2, o[0].dim()))),
    "avg_pool": lambda o, s: _by_rank("avg_pool", o[0])(
        o[0], 2, padding=s.options[0], count_include_pad=s.options[1]
    ),
    "max_pool": lambda o, s: _by_rank("max_pool", o[0])(o[0], 2, padding=s.options[0]),
    "adaptive": lambda o, s: _by_rank("adaptive_avg_pool", o[0])(o[0], s.options[0]),
    "upsample": lambda o, s: F.interpolate(o[0], scale_factor=2, mode=s.options[0]),
    "pad": lambda o, s: F.pad(o[0], (1, 1), s.options[0]),
}


MORE_OPERATIONS = {
    "less_than_one": lambda o, s: 1 - o[0],
    "zeros": lambda o, s: torch.zeros_like(o[0]) + o[0],
    "ones": lambda o, s: o[0] * torch.ones_like(o[0]),
    "whole": lambda o, s: o[0][:, 0 : s.shape[0]],
    "maximum": lambda o, s: torch.maximum(o[0], o[1]),
    "total": lambda o, s: o[0].sum(s.options[0], keepdim=s.options[1]),
    "stacked": lambda o, s: torch.stack(o, s.options[0]).sum(s.options[0]),
}
MIXTURES = {
    "lerp": lambda o, s: torch.lerp(o[0], o[1], 0.3),
    "beyond": lambda o, s: o[0].lerp(o[1], 1.5),
    "chosen": lambda o, s: torch.where(o[2] > 0, o[0], o[1]),
    "alternating": lambda o, s: torch.where(torch.arange(s.shape[-1]) % 2 == 0, o[0], o[1]),
}
OPERATIONS |= MORE_OPERATIONS | MIXTURES
WITH_CONSTANT = {
    "times": lambda x, c: x * c,
    "times_first": lambda x, c: c * x,
    "over": lambda x, c: x / c,
    "plus": lambda x, c: x + c,
    "less": lambda x, c: x - c,
    "less_than": lambda x, c: c - x,
    "multiple_of": lambda x, c: torch.add(x, c, alpha=-1.5),
    "multiple_to": lambda x, c: torch.add(c, x, alpha=0.5),
}
FUSED = {
    "multiply_add": lambda x, c: torch.addcmul(c, x, c),
    "add_multiple": lambda x, c: torch.addcmul(x, c, c, value=-0.5),
    "divide_add": lambda x, c: torch.addcdiv(c, x, c),
    "lerp_to": lambda x, c: torch.lerp(x, c, 0.3),
    "lerp_from": lambda x, c: torch.lerp(c, x, 0.3),
}
PRODUCTS = {
    "rows": lambda x, w: x @ w,
    "rows_turned": lambda x, w: torch.matmul(x, w.t()),
    "columns": lambda x, w: w @ x,
    "channels": lambda x, w: torch.einsum("nc...,co->no...", x, w),
    "channels_and_last": lambda x, w: torch.einsum("nc...l,clo->no...", x, w),
}
CALLED_ON_ONE = WITH_CONSTANT | FUSED | PRODUCTS


def _by_rank(name, x):
    return getattr(F, f"{name}{x.dim() - 2}d")


@st.composite
def networks(draw, more=False, products=False):
    """Draw a network with a BatchNorm in it.

    `more` adds constants and sums over axes, `products` products by parameters, and mixtures.
    """
    rank = draw(st.sampled_from([1, 1, 2, 2, 2, 3]))
    width = draw(st.sampled_from([2, 4]))
    size = draw(st.integers(2, 4)) if rank == 3 else draw(st.integers(3, 6))
    builder = _Builder(draw, (width, *[size] * rank), more, products)
    for _ in range(draw(st.integers(1, 9))):
        builder.step()
    if not any(layer.type_name.startswith("BatchNorm") for layer in builder.layers):
        builder.norm(len(builder.shapes) - 1)
    return Network(
        builder.shapes[0],
        tuple(builder.layers),
        tuple(builder.steps),
        draw(st.integers(0, 2**16)),
        draw(st.booleans()),
        tuple(builder.constants),
    )


class _Builder:
    """A network under construction."""

    def __init__(self, draw, shape, more=False, products=False):
        self.draw, self.more, self.products = draw, more, products
        self.constants = []
        self.shapes = [shape]
        self.layers = []
        self.steps = []

    def choose(self, *options):
        return self.draw(st.sampled_from(options))

    def add(self, kind, reads, shape, layer=None, options=()):
        self.steps.append(Step(kind, tuple(reads), tuple(shape), layer, tuple(options)))
        self.shapes.append(tuple(shape))

    def step(self):
        """Add one step, mostly on the newest value, and often a BatchNorm behind it."""
        newest = len(self.shapes) - 1
        source = newest if self.choose(True, True, True, False) else self.choose(*range(newest + 1))
        kinds = [self.layer, self.layer, self.norm, self.elementwise, self.join, self.arrange]
        if len(self.shapes[source]) > 1:
            kinds += [self.layer, self.pool]
        if self.more:
            kinds += [self.constant, self.constant, self.total]
        if self.products:
            kinds += [self.product, self.product, self.product, self.fused, self.mixture]
        before = len(self.steps)
        self.choose(*kinds)(source)
        if len(self.steps) > before and self.choose(True, True, False):
            self.norm(len(self.shapes) - 1)

    def constructed(self, kind, source, make, shape):
        """Apply a new layer, or one that is there already and takes the same input."""
        made = make()
        same = [
            index
            for index, layer in enumerate(self.layers)
            if layer.type_name == made.type_name and layer.arguments[0] == made.arguments[0]
        ]
        index = len(self.layers)
        if same and self.choose(True, False, False):
            index = self.choose(*same)
            made = self.layers[index]
        result = shape(made)
        if min(result) < 1:
            return
        if index == len(self.layers):
            self.layers.append(made)
        self.add(kind, [source], result, layer=index)

    def norm(self, source):
        shape = self.shapes[source]
        rank = max(len(shape) - 1, 1)

        def make():
            return Layer(
                f"BatchNorm{rank}d", (shape[0],), (("affine", self.choose(True, True, False)),)
            )

        self.constructed("norm", source, make, lambda layer: shape)

    def layer(self, source):
        shape = self.shapes[source]
        if len(shape) == 1 or (len(shape) == 2 and self.choose(True, False)):
            self.linear(source, shape)
        else:
            self.convolution(source, shape)

    def linear(self, source, shape):
        def make():
            outputs = self.choose(shape[-1], 2, 3)
            return Layer("Linear", (shape[-1], outputs), (("bias", self.choose(True, False)),))

        self.constructed("linear", source, make, lambda layer: (*shape[:-1], layer.arguments[1]))

    def convolution(self, source, shape):
        channels, *space = shape
        rank = len(space)
        transposed = self.choose(True, False, False, False)

        def make():
            groups = self.choose(1, 1, *[g for g in (2, channels) if channels % g == 0])
            outputs = groups * self.choose(1, 2)
            kernel = self.choose(1, 2, 3)
            options = {"bias": self.choose(True, False), "groups": groups}
            if transposed:
                options["stride"] = self.choose(1, 2)
                return Layer(
                    f"ConvTranspose{rank}d", (channels, outputs, kernel), tuple(options.items())
                )
            options["padding"] = self.choose(0, 0, 1, kernel // 2)
            options["stride"] = self.choose(1, 1, 2)
            options["padding_mode"] = self.choose(
                "zeros", "zeros", "reflect", "replicate", "circular"
            )
            return Layer(f"Conv{rank}d", (channels, outputs, kernel), tuple(options.items()))

        def shape_after(layer):
            options = dict(layer.options)
            kernel, stride = layer.arguments[2], options["stride"]
            if transposed:
                after = [(n - 1) * stride + kernel for n in space]
            else:
                padding = options["padding"]
                if options["padding_mode"] in ("reflect", "circular") and padding >= min(space):
                    return (0,)
                after = [(n + 2 * padding - kernel) // stride + 1 for n in space]
            return (layer.arguments[1], *after) if max(after) <= 8 else (0,)

        self.constructed("convolution", source, make, shape_after)

    def elementwise(self, source):
        kinds = "relu relu_ tanh sigmoid leaky_relu dropout contiguous double"
        self.add(self.choose(*kinds.split()), [source], self.shapes[source])

    def constant(self, source):
        """Multiply by a parameter or a number, or add one."""
        shape = self.shapes[source]
        kind = self.choose(*WITH_CONSTANT, "less_than_one", "zeros", "ones", "whole")
        options = ()
        if kind in WITH_CONSTANT:
            options = (len(self.constants),)
            of_channels = (shape[0], *[1] * (len(shape) - 1))
            self.constants.append(self.choose((1,), of_channels, of_channels, shape[-1:]))
        self.add(kind, [source], shape, options=options)

    def fused(self, source):
        """Multiply by a parameter and add it, or mix with one."""
        shape = self.shapes[source]
        self.add(self.choose(*FUSED), [source], shape, options=(len(self.constants),))
        self.constants.append((shape[0], *[1] * (len(shape) - 1)))

    def product(self, source):
        """Multiply by a matrix, often with a bias behind it."""
        *before, last = shape = self.shapes[source]
        outputs, after = self.choose(2, 3), None
        match self.choose(*PRODUCTS):
            case "rows" as kind:
                weight, after = (last, outputs), (*before, outputs)
            case "rows_turned" as kind:
                weight, after = (outputs, last), (*before, outputs)
            case "columns" as kind if before:
                weight, after = (outputs, before[-1]), (*before[:-1], outputs, last)
            case "channels" as kind:
                weight, after = (shape[0], outputs), (outputs, *shape[1:])
            case "channels_and_last" as kind if before:
                weight, after = (shape[0], last, outputs), (outputs, *before[1:])
        if after is None:
            return
        self.add(kind, [source], after, options=(len(self.constants),))
        self.constants.append(weight)
        if self.choose(True, False):
            axis = {"columns": -2, "channels": 0, "channels_and_last": 0}.get(kind, -1)
            size = [1] * len(after)
            size[axis] = outputs
            self.add("plus", [len(self.shapes) - 1], after, options=(len(self.constants),))
            self.constants.append(tuple(size))

    def mixture(self, source):
        """Mix two values, or choose between them."""
        shape = self.shapes[source]
        equal = [index for index, other in enumerate(self.shapes) if other == shape]
        kind, other = self.choose(*MIXTURES), self.choose(*equal)
        # A choice between a value and itself reads nothing else, at which no BatchNorm is missed.
        if kind == "chosen" and other != source:
            self.add(kind, [source, other, self.choose(*equal)], shape)
        elif kind != "chosen":
            self.add(kind, [source, other], shape)

    def total(self, source):
        """Sum over an axis, or over a stack of two values, or take the larger of two."""
        shape = self.shapes[source]
        equal = [index for index, other in enumerate(self.shapes) if other == shape]
        if self.choose(True, False):
            axis, other = self.choose(0, 1, -1, None), self.choose(*equal)
            kind, options = ("maximum", ()) if axis is None else ("stacked", (axis,))
            self.add(kind, [source, other], shape, options=options)
        elif len(shape) > 1:
            axis = self.choose(*range(1, len(shape) + 1))
            kept = list(shape)
            if self.choose(True, False):
                kept[axis - 1] = 1
                self.add("total", [source], kept, options=(axis, True))
            elif len(shape) > 2 or axis == 2:
                del kept[axis - 1]
                self.add("total", [source], kept, options=(axis, False))

    def join(self, source):
        """Put two values together, where two fit."""
        shape = self.shapes[source]
        equal = [index for index, other in enumerate(self.shapes) if other == shape]
        rows = [
            index
            for index, other in enumerate(self.shapes)
            if other[1:] == shape[1:] and len(other) == len(shape) and other[0] + shape[0] <= 8
        ]
        kind = self.choose("add", "add", "concat", "concat", "subtract", "multiply", "space")
        if kind == "concat" and rows:
            other = self.choose(*rows)
            total = (shape[0] + self.shapes[other][0], *shape[1:])
            self.add("concat", [source, other], total, options=(1,))
        elif kind == "space" and len(shape) > 1 and 2 * shape[1] <= 8:
            longer = (shape[0], 2 * shape[1], *shape[2:])
            self.add("concat", [source, self.choose(*equal)], longer, options=(2,))
        elif kind in ("add", "subtract", "multiply"):
            # x - x is nothing, at which no BatchNorm is missed.
            others = [index for index in equal if index != source or kind != "subtract"]
            if others:
                self.add(kind, [source, self.choose(*others)], shape)

    def arrange(self, source):
        """Move elements, or take some of them."""
        shape = self.shapes[source]
        channels, *space = shape
        kind = self.choose("slice", "flatten", "join", "split", "transpose", "shuffle")
        if kind == "slice" and channels > 1:
            start = self.draw(st.integers(0, channels - 1))
            stop = self.draw(st.integers(start + 1, channels))
            self.add("slice", [source], (stop - start, *space), options=(start, stop))
        elif kind == "flatten" and space and _product(shape) <= 64:
            self.add("flatten", [source], (_product(shape),))
        elif kind == "join" and space and channels % 2 == 0 and 2 * space[0] <= 8:
            self.add("reshape", [source], (channels // 2, 2 * space[0], *space[1:]))
        elif kind == "split" and space and space[0] % 2 == 0 and 2 * channels <= 8:
            self.add("reshape", [source], (2 * channels, space[0] // 2, *space[1:]))
        elif kind == "transpose" and space:
            order = (1, 2) if self.choose(True, False) else (len(shape) - 1, len(shape))
            moved = list(shape)
            a, b = order[0] - 1, order[1] - 1
            moved[a], moved[b] = moved[b], moved[a]
            self.add("transpose", [source], moved, options=order)
        elif kind == "shuffle" and channels % 2 == 0 and space:
            self.add("shuffle", [source], shape, options=(2,))

    def pool(self, source):
        """Pool, upsample or pad in space."""
        channels, *space = self.shapes[source]
        rank = len(space)
        kind = self.choose("mean", "avg_pool", "max_pool", "adaptive", "upsample", "pad")
        if kind == "mean":
            self.add("mean", [source], (channels,))
        elif kind in ("avg_pool", "max_pool") and min(space) >= 2:
            padding = self.choose(0, 1)
            after = [(n + 2 * padding - 2) // 2 + 1 for n in space]
            options = (padding, self.choose(True, False))
            self.add(kind, [source], (channels, *after), options=options)
        elif kind == "adaptive":
            self.add("adaptive", [source], (channels, *[1] * rank), options=(1,))
        elif kind == "upsample" and max(space) <= 4:
            linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[rank]
            mode = self.choose("nearest", linear)
            self.add("upsample", [source], (channels, *[2 * n for n in space]), options=(mode,))
        elif kind == "pad" and space[-1] >= 2:
            mode = self.choose("constant", "replicate") if rank < 3 else "constant"
            # Replication of the last dimension alone is defined for one dimension only.
            mode = "constant" if mode == "replicate" and rank != 1 else mode
            self.add("pad", [source], (channels, *space[:-1], space[-1] + 2), options=(mode,))


def _product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result

"""What makes a batch of a single sample, or of more rows than samples.

`x.unsqueeze(0)`, `torch.tensor([state])`; `torch.cat([view, other])`, `x.view(b * t, c)`.
"""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from bncheck.source.joined_samples import joins_samples
from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.values import Constant, Container, Opaque, Tensor, Value

_HAND_ON = frozenset(
    """
    torch.from_numpy torch.autograd.Variable torch.tensor torch.as_tensor torch.Tensor
    torch.FloatTensor torch.cuda.FloatTensor numpy.array numpy.asarray
    """.split()  # noqa: SIM905
)
"""What makes a tensor of the values that it is given, in the same shape."""

_JOIN = frozenset({"torch.cat", "torch.concat", "torch.concatenate", "torch.vstack"})
"""What makes one batch of several, such as of two views of each sample."""


def of_call(name: str, first: Value | None, arguments: Arguments) -> Tensor | None:
    """Return the tensor that a function makes of one; None: it is another function."""
    if name == "torch.normal":
        mean = arguments.get(0, "mean")
        return mean if isinstance(mean, Tensor) else None
    axis = arguments.get(1, "dim") or arguments.keywords.get("axis")
    if name in {"torch.unsqueeze", "numpy.expand_dims"} and axis == Constant(0):
        return Tensor(1)
    alone = isinstance(first, Container) and len(first.elements) == 1
    if name in _JOIN and (axis is None or axis == Constant(0)) and not alone:
        return Tensor(unpacked=True)
    if name not in _HAND_ON:
        return None
    if arguments.keywords.get("volatile") == Constant(True):
        return replace(first if isinstance(first, Tensor) else Tensor(), volatile=True)
    match first:
        case Tensor():
            return first
        case Container(elements=[Opaque() | Tensor()], keys=None, grown=False):
            return Tensor(1)
    return None


def reshaped(node: cst.Call, method: str, arguments: Arguments) -> Tensor | None:
    """Return what a method makes of a batch; None: it leaves the samples as they are.

    One sample by `x.unsqueeze(0)`, `x.view(1, -1)`; rows that are no samples of the loader by
    `x.squeeze(0)`, `x.view(b * t, c, h, w)`, `x.view(-1, c, h, w)`.
    """
    match method:
        case "squeeze" if arguments.get(0, "dim") == Constant(0):
            return Tensor(unpacked=True)
        case "unsqueeze" if arguments.get(0, "dim") == Constant(0):
            return Tensor(1)
        case "view" | "reshape" | "flatten":
            first = arguments.get(0, "shape")
            if isinstance(first, Container) and first.elements:
                first = first.elements[0]
            if method != "flatten" and first == Constant(1):
                return Tensor(1)
            if joins_samples(method, node):
                return Tensor(unpacked=True)
    return None

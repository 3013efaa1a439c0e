"""What makes a batch of a single sample: `x.unsqueeze(0)`, `torch.tensor([state])`."""

from __future__ import annotations

from dataclasses import replace

from bncheck.source.timeline.arguments import Arguments
from bncheck.source.timeline.values import Constant, Container, Opaque, Tensor, Value

_HAND_ON = frozenset(
    """
    torch.from_numpy torch.autograd.Variable torch.tensor torch.as_tensor torch.Tensor
    torch.FloatTensor torch.cuda.FloatTensor numpy.array numpy.asarray
    """.split()  # noqa: SIM905
)
"""What makes a tensor of the values that it is given, in the same shape."""


def of_call(name: str, first: Value | None, arguments: Arguments) -> Tensor | None:
    """Return the tensor that a function makes of one; None: it is another function."""
    axis = arguments.get(1, "dim") or arguments.keywords.get("axis")
    if name in {"torch.unsqueeze", "numpy.expand_dims"} and axis == Constant(0):
        return Tensor(1)
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


def is_unpacked(method: str, arguments: Arguments) -> bool:
    """Recognise `x.squeeze(0)`, which leaves the rows of a single sample."""
    return method == "squeeze" and arguments.get(0, "dim") == Constant(0)


def of_method(method: str, arguments: Arguments) -> bool:
    """Recognise `x.unsqueeze(0)`, and `x.view(1, -1)` or `x.reshape(1, ...)`."""
    match method:
        case "unsqueeze":
            return arguments.get(0, "dim") == Constant(0)
        case "view" | "reshape":
            first = arguments.get(0, "shape")
            if isinstance(first, Container) and first.elements:
                first = first.elements[0]
            return first == Constant(1)
    return False

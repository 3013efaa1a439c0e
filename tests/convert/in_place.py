"""Operations of random networks that write over a value, which other steps may read."""

import torch
import torch.nn.functional as F
from networks import OPERATIONS


def _rectified(x):
    x += 0.5
    return F.relu(x, inplace=True)


def _emptied(x):
    x.narrow(1, 0, 1).zero_()
    return x


IN_PLACE = {
    "relu": lambda o: F.relu(o[0], inplace=True),
    "relu_": lambda o: _rectified(o[0]),
    "tanh": lambda o: o[0].tanh_(),
    "sigmoid": lambda o: torch.sigmoid_(o[0]),
    "leaky_relu": lambda o: F.leaky_relu_(o[0], 0.2),
    "double": lambda o: o[0].mul_(2.0),
    "add": lambda o: o[0].add_(o[1]),
    "subtract": lambda o: o[0].sub_(o[1]),
    "multiply": lambda o: o[0].mul_(o[1]),
    "zeros": lambda o: _emptied(o[0]),
}


def on_what_was_computed(kind):
    """Return the operation in place, but on the network's input, which is the caller's."""
    plain = OPERATIONS[kind]
    return lambda o, step: IN_PLACE[kind](o) if step.reads[0] else plain(o, step)

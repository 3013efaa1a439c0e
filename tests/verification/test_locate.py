import copy

import torch
from torch import nn

from bncheck.verification.locate import first_difference


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()]
    return nn.Sequential(*layers, *copy.deepcopy(layers), nn.Conv2d(3, 2, 1)).eval()


def test_names_the_layer_from_which_on_outputs_differ() -> None:
    original, converted, x = network(), network(), torch.randn(2, 3, 8, 8)
    for at in (0, 3):
        converted[at] = nn.utils.fuse_conv_bn_eval(converted[at], converted[at + 1])
        converted[at + 1] = nn.Identity()
    assert first_difference(original, converted, x) == ""
    with torch.no_grad():
        converted[3].bias[1] += 0.5
    assert first_difference(original, converted, x) == "3"
    assert not any(layer._forward_hooks for layer in original.modules())

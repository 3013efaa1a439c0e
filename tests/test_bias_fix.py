"""BN101's fix stands at the call that constructs the layer, wherever that is, or is not made."""

from __future__ import annotations

import pytest

from bncheck.config import Settings
from bncheck.fixing import fix

TEMPLATE = """\
from functools import partial

from torch import nn


{helper}


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.layer = {layer}
        self.bn = nn.BatchNorm2d(n)

    def forward(self, x):
        return self.bn(self.layer(x))
"""
PLAIN = "class Conv(nn.Conv2d):\n    pass"
KEYWORDS = (
    "class Conv(nn.Conv2d):\n"
    "    def __init__(self, a, b, pad=0, **kwargs):\n"
    "        super().__init__(a, b, 3, **kwargs)"
)
OWN = (
    "class Conv(nn.Conv2d):\n"
    "    def __init__(self, a, b, bias=True):\n"
    "        super().__init__(a, b, 3, bias=bias)"
)
EVERYTHING = (
    "class Conv(nn.Conv2d):\n"
    "    def __init__(self, *args, **kwargs):\n"
    "        self.norm = kwargs.pop('norm', None)\n"
    "        super().__init__(*args, **kwargs)"
)
STUBBORN = (
    "class Conv(nn.Conv2d):\n    def __init__(self, a, b):\n        super().__init__(a, b, 3)"
)
BUILDER = "from mmcv.cnn import build_conv_layer\nfrom mmengine.registry import MODELS"
BUILT = "build_conv_layer(None, 3, n, 3, bias=False)"


@pytest.mark.parametrize(
    ("helper", "layer", "fixed_helper", "fixed_layer"),
    [
        ("", "nn.Conv2d(3, n, 3)", "", "nn.Conv2d(3, n, 3, bias=False)"),
        (
            "",
            "nn.Conv2d(3, n, 3, 1, 1, 1, 1, True)",
            "",
            "nn.Conv2d(3, n, 3, 1, 1, 1, 1, False)",
        ),
        ("", "nn.LazyConv2d(n, 3)", "", "nn.LazyConv2d(n, 3, bias=False)"),
        (
            "def conv(a, b):\n    return nn.Conv2d(a, b, 3)",
            "conv(3, n)",
            "def conv(a, b):\n    return nn.Conv2d(a, b, 3, bias=False)",
            "conv(3, n)",
        ),
        (
            "def conv(a, b, bias=True):\n    return nn.Conv2d(a, b, 3, bias=bias)",
            "conv(3, n)",
            "def conv(a, b, bias=False):\n    return nn.Conv2d(a, b, 3, bias=bias)",
            "conv(3, n)",
        ),
        (
            "def conv(a, b, bias=True):\n"
            "    return nn.Sequential(nn.Linear(a, a, bias=bias), nn.Conv2d(a, b, 3, bias=bias))",
            "conv(3, n)",
            None,
            None,
        ),
        (
            "def conv(a, b, **more):\n    return nn.Conv2d(a, b, 3, **more)",
            "conv(3, n)",
            None,
            None,
        ),
        (PLAIN, "Conv(3, n, 3)", PLAIN, "Conv(3, n, 3, bias=False)"),
        (KEYWORDS, "Conv(3, n, 1)", KEYWORDS, "Conv(3, n, 1, bias=False)"),
        (OWN, "Conv(3, n, True)", OWN, "Conv(3, n, False)"),
        (OWN, "Conv(3, n)", OWN, "Conv(3, n, bias=False)"),
        (EVERYTHING, "Conv(3, n, 3)", EVERYTHING, "Conv(3, n, 3, bias=False)"),
        (
            EVERYTHING,
            "Conv(3, n, 3, 1, 1, 1, 1, True, norm=1)",
            EVERYTHING,
            "Conv(3, n, 3, 1, 1, 1, 1, False, norm=1)",
        ),
        (STUBBORN, "Conv(3, n)", None, None),
        (BUILDER, "build_conv_layer(None, 3, n, 3)", BUILDER, BUILT),
        (
            BUILDER,
            "build_conv_layer(None, 3, n, 3, 1, 1, 1, 1, True)",
            BUILDER,
            "build_conv_layer(None, 3, n, 3, 1, 1, 1, 1, False)",
        ),
        (
            BUILDER,
            "MODELS.build(dict(type='Conv', in_channels=3, out_channels=n, kernel_size=3))",
            None,
            None,
        ),
    ],
)
def test_where_the_fix_stands(
    helper: str, layer: str, fixed_helper: str | None, fixed_layer: str | None
) -> None:
    before = TEMPLATE.format(helper=helper, layer=layer)
    made = fix({"m.py": before.encode()}, Settings(select=("BN101",)), unsafe=True)
    if fixed_helper is None:
        assert made.count == 0
        assert [finding.fix for finding in made.report.findings] == [None]
    else:
        after = TEMPLATE.format(helper=fixed_helper, layer=fixed_layer)
        assert made.sources["m.py"].decode() == after
        assert made.report.findings == []

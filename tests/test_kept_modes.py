"""Which texts are taken to keep parts of networks in eval mode."""

import pytest

from bncheck.kept_modes import keep_parts_in_eval

STEP = "loss.backward()\n    optimizer.step()\n"


@pytest.mark.parametrize(
    "text",
    [
        "model.train()\nmodel.backbone.eval()\n",
        "model.module.encoder.train(False)\n",
        "model.train()\nmodel.layers[0].eval()\n",
        "def freeze(m):\n    m.eval()\nmodel.apply(freeze)\n",
        "for m in model.modules():\n    if isinstance(m, kinds):\n        m.eval()\n",
        "model.apply(lambda m: m.eval())\n",
        "def test():\n    pass\n\n\nencoder.eval()\nloss.backward()\n",
        "def train(self, mode=True):\n    super().train(mode)\n    return self\n",
        "def train(self, mode=True):\n    nn.Module.train(self, mode)\n",
        f"def fit(model):\n    model.eval()\n    {STEP}",
        f"if args.freeze:\n    model.eval()\nelse:\n    model.train()\ndef fit():\n    {STEP}",
    ],
)
def test_kept(text: str) -> None:
    assert keep_parts_in_eval([b"", text.encode()])


@pytest.mark.parametrize(
    "text",
    [
        f"def fit(model):\n    model.train()\n    {STEP}\ndef test(model):\n    model.eval()\n",
        f"if phase == 'train':\n    model.train()\nelse:\n    model.eval()\n{STEP}",
        "# model.backbone.eval()\n",
        "model.eval()\nself.model.eval()\nself.net.train(False)\n",
        "def train(model):\n    model.train()\n",
        "def validate(encoder):\n    if encoder is not None:\n        encoder.eval()\n",
        "def caption(x):\n    return x\n\n\nif __name__ == 'x':\n    encoder.eval()\n",
    ],
)
def test_not_kept(text: str) -> None:
    assert not keep_parts_in_eval([text.encode()])

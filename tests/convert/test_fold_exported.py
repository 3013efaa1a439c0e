"""Exported programs stay exported programs, for a process that has no bncheck too."""

import subprocess
import sys

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from bncheck.convert.fold import fold_exported
from bncheck.errors import BNCheckError
from fixtures.models.adversarial import randomise


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.left = nn.Conv2d(8, 4, 1)
        self.right = nn.ConvTranspose2d(8, 4, 1, bias=False)
        self.joined = nn.BatchNorm2d(8)
        self.after = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x, scale):
        x = torch.relu(self.norm(self.conv(x))) * scale
        x = torch.relu(self.joined(torch.cat([self.left(x), self.right(x)], 1)))
        return {"logits": self.head(self.after(x.mean((2, 3))))}


def exported(dynamic):
    torch.manual_seed(0)
    model = Network().eval().double()
    randomise(model)
    inputs = (torch.randn(2, 3, 6, 6).double(), torch.tensor(1.5).double())
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = ({0: batch}, None) if dynamic else None
    return model, inputs, torch.export.export(model, inputs, dynamic_shapes=shapes)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_a_program_is_folded_and_stays_one(dynamic, tmp_path):
    model, inputs, program = exported(dynamic)
    before = {name: tensor.clone() for name, tensor in program.state_dict.items()}

    result = fold_exported(program)

    assert result.verification.passed, result.verification
    assert {step.batch_norm: step.how for step in result.steps} == {
        "norm": "backward", "joined": "backward", "after": "forward",
    }  # fmt: skip
    assert not result.refusals
    folded = result.model
    assert not [n for n in folded.graph.nodes if "batch_norm" in str(n.target)]
    assert not [name for name in folded.state_dict if "norm" in name or "joined" in name]
    assert folded.graph_signature.user_inputs == program.graph_signature.user_inputs
    assert all(torch.equal(before[name], value) for name, value in program.state_dict.items())
    torch.testing.assert_close(folded.module()(*inputs)["logits"], model(*inputs)["logits"])
    if dynamic:
        more = (torch.randn(7, 3, 6, 6).double(), inputs[1])
        torch.testing.assert_close(folded.module()(*more)["logits"], model(*more)["logits"])

    if not dynamic:
        return  # one new process shows it
    torch.export.save(folded, tmp_path / "folded.pt2")
    torch.save((inputs, model(*inputs)["logits"]), tmp_path / "expected.pt")
    code = (
        "import sys, torch\n"
        "inputs, expected = torch.load('expected.pt')\n"
        "found = torch.export.load('folded.pt2').module()(*inputs)['logits']\n"
        "torch.testing.assert_close(found, expected)\n"
        "assert 'bncheck' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_linear_layers_of_a_program_in_core_operators(dynamic, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(),
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 3),
    ).eval().double()  # fmt: skip
    randomise(model)
    x = torch.randn(3, 6).double()
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},) if dynamic else None
    program = torch.export.export(model, (x,), dynamic_shapes=shapes).run_decompositions()
    targets = {node.target for node in program.graph.nodes}
    assert {torch.ops.aten.mm.default, torch.ops.aten.addmm.default} <= targets

    result = fold_exported(program)

    assert [step.how for step in result.steps] == ["backward", "backward", "forward"]
    assert result.verification.passed, result.verification
    torch.export.save(result.model, tmp_path / "folded.pt2")
    loaded = torch.export.load(tmp_path / "folded.pt2").module()
    assert not [node for node in loaded.graph.nodes if "batch_norm" in str(node.target)]
    for inputs in (x, torch.randn(5, 6).double())[: 1 + dynamic]:
        torch.testing.assert_close(loaded(inputs), model(inputs), rtol=1e-9, atol=1e-9)


def test_program_with_one_norm_in_train_mode_is_left_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    model.eval()[3].train()
    program = torch.export.export(model, (torch.randn(2, 3, 6, 6),))
    before = {name: tensor.clone() for name, tensor in program.state_dict.items()}

    result = fold_exported(program)

    assert [step.batch_norm for step in result.steps] == ["1"]
    assert "train mode" in result.refusals[0].reason
    for name, tensor in before.items():
        assert torch.equal(program.state_dict[name], tensor)
        assert (
            name not in result.model.state_dict
            or name.startswith(("0.", "1."))
            or torch.equal(result.model.state_dict[name], tensor)
        )


def test_what_is_no_program_is_refused_in_a_sentence():
    with pytest.raises(BNCheckError, match="takes an exported program, not Linear"):
        fold_exported(torch.nn.Linear(2, 2))

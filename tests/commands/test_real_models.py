"""The main job on models that no one here wrote, as a user types it."""

import json
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner

import bncheck.cli
from fixtures.models.real import crepe_tiny, crepe_tiny_weights, efficientnet_lite0


def run(*arguments: Any) -> Any:
    result = CliRunner().invoke(bncheck.cli.main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_all_49_of_a_trained_efficientnet_go_and_its_scores_agree(tmp_path: Path) -> None:
    path, out = tmp_path / "lite0.pt", tmp_path / "folded.pt"
    original = efficientnet_lite0()
    torch.save(original, path)
    trust = ("--trust", "efficientnet_lite_pytorch")
    shape = ("--input", "1,3,224,224")
    report = json.loads(run("fold", path, "-o", out, *trust, *shape, "--format", "json").stdout)
    assert len(report["steps"]) == 49
    assert report["refusals"] == []
    assert report["verification"]["passed"]
    folded = torch.load(out, weights_only=False)
    assert type(folded) is type(original)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    torch.manual_seed(0)
    x = torch.rand(2, 3, 224, 224) * 2 - 1
    with torch.no_grad():
        wanted, found = original(x), folded(x)
    assert torch.equal(wanted.topk(5).indices, found.topk(5).indices)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_crepe_whose_batch_norms_follow_a_relu_is_not_broken(tmp_path: Path) -> None:
    out = tmp_path / "folded.pth"
    arch = ("--arch", "fixtures.models.real:crepe_tiny", "--input", "2,1024")
    result = run("fold", crepe_tiny_weights(), "-o", out, *arch, "--format", "json")
    report = json.loads(result.stdout)
    assert all(step["how"] == "forward" for step in report["steps"])  # none of them backward
    assert {refusal["batch_norm"] for refusal in report["refusals"]} >= {
        f"conv{number}_BN" for number in range(1, 6)
    }
    assert all("relu" in refusal["reason"] for refusal in report["refusals"])
    assert "Verified" in run("verify", crepe_tiny_weights(), out, *arch).stdout
    state = torch.load(out, weights_only=True)
    folded = bncheck.remove_folded(crepe_tiny(), state)
    folded.load_state_dict(state)
    original = crepe_tiny()
    original.load_state_dict(torch.load(crepe_tiny_weights(), weights_only=True))
    x = torch.randn(3, 1024)
    with torch.no_grad():
        torch.testing.assert_close(folded.eval()(x), original.eval()(x), rtol=1e-4, atol=1e-5)

import copy
import json

import pytest

torch = pytest.importorskip("torch")
from click.testing import CliRunner  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import bncheck  # noqa: E402
from bncheck.cli import main  # noqa: E402


class Biased(nn.Module):
    """Redundant biases: of `conv`, `twice` (applied before two BatchNorms), `up` and `fc`."""

    bias = True

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=self.bias)
        self.bn = nn.BatchNorm2d(4)
        self.twice = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=self.bias)
        self.first = nn.BatchNorm2d(4)
        self.second = nn.BatchNorm2d(4, affine=False)
        self.kept = nn.Conv2d(4, 4, 1)
        self.late = nn.BatchNorm2d(4)
        self.up = nn.ConvTranspose2d(4, 2, 2, stride=2, bias=self.bias)
        self.instance = nn.InstanceNorm2d(2)
        self.fc = nn.Linear(2, 5, bias=self.bias)
        self.flat = nn.BatchNorm1d(5)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        x = self.second(self.twice(self.first(self.twice(x))))
        x = self.late(F.relu(self.kept(x)))
        x = self.instance(self.up(x))
        return self.flat(self.fc(x.amax((2, 3))))


class Clean(Biased):
    bias = False


def shaken(model):
    """Give a model weights, biases and statistics that all matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point():
                tensor.normal_()
    return model.eval()


X = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(1))


def difference(one, other):
    with torch.no_grad():
        return float((one(X) - other(X)).abs().max())


def test_a_debiased_model_computes_the_same():
    model = shaken(Biased())
    before = copy.deepcopy(model.state_dict())
    result = bncheck.debias(model, X)
    assert result.verification.passed
    assert [(step.into, step.batch_norm) for step in result.steps] == [
        ("conv", "bn"),
        ("twice", "first"),
        ("twice", "second"),
        ("up", "instance"),
        ("fc", "flat"),
    ]
    assert not result.refusals
    converted = result.model
    assert type(converted) is Biased
    assert converted.conv.bias is converted.twice.bias is converted.up.bias is None
    assert converted.kept.bias is not None
    clean = Clean().eval()
    clean.load_state_dict(converted.state_dict())  # strict: exactly the keys of mended source
    assert difference(model, clean) < 4e-6
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_without_the_reduced_mean_it_would_not():
    model = shaken(Biased())
    converted = bncheck.debias(model, X).model
    converted.flat.running_mean.copy_(model.flat.running_mean)
    assert difference(model, converted) > 0.1
    assert not bncheck.verify(model, converted, X).passed


class Used(nn.Module):
    """Biases that must stay, each for its own reason."""

    def __init__(self, case):
        super().__init__()
        self.case = case
        self.one = nn.Conv2d(3, 3, 1)
        self.two = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)
        if case == "tied":
            self.two.bias = self.one.bias
        if case == "hook":
            self.one.register_forward_hook(lambda module, args, output: output * 2)
        if case == "parametrized":
            nn.utils.parametrizations.weight_norm(self.one)
        if case == "nan":
            self.one.bias.data[1] = float("nan")

    def forward(self, x):
        match self.case:
            case "shared norm":
                return self.bn(self.one(x)) + self.bn(self.two(x))
            case "read twice":
                y = self.one(x)
                return self.bn(y) + y.mean()
            case "activation":
                return self.bn(F.relu(self.one(x)))
            case "tied":
                return self.two(self.bn(self.one(x)))
            case "parameter":
                return self.bn(self.one(x)) + self.one.bias.view(3, 1, 1)
        return self.bn(self.one(x))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("shared norm", "bn is also applied to something else"),
        ("read twice", "also read elsewhere"),
        ("activation", None),
        ("parameter", "its bias is also used by"),
        ("hook", "hook"),
        ("nan", "NaN"),
    ],
)
def test_a_bias_that_matters_elsewhere_stays(case, reason):
    model = Used(case).eval()
    result = bncheck.debias(model, X)
    assert not result.steps
    assert result.model.one.bias is not None
    reasons = {refusal.reason for refusal in result.refusals}
    if reason is None:
        assert not reasons
    else:
        assert all(reason in text for text in reasons)
        assert reasons


def test_a_bias_tied_to_another_layer_leaves_that_layer_its_own():
    model = shaken(Used("tied"))
    result = bncheck.debias(model, X)
    assert result.verification.passed
    assert result.model.one.bias is None
    assert torch.equal(result.model.two.bias, model.two.bias)


def test_a_parametrized_weight_leaves_nothing_wrong():
    result = bncheck.debias(Used("parametrized").eval(), X)
    assert result.verification is None or result.verification.passed


class Tokens(nn.Module):
    """Its BatchNorm normalises tokens, not the linear layer's channels: the bias matters."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(9, 9)
        self.bn = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.bn(self.fc(x[:, :, 0]))


def test_channels_of_another_axis_are_left_alone():
    result = bncheck.debias(shaken(Tokens()), X)
    assert not result.steps
    assert result.model.fc.bias is not None


def test_train_mode_is_refused():
    result = bncheck.debias(Used("plain").train(), X)
    assert not result.steps
    assert "train mode" in result.refusals[0].reason


def run(*arguments):
    return CliRunner().invoke(main, ["debias", *map(str, arguments)])


def test_command_on_a_nested_checkpoint_with_its_model(tmp_path):
    model = shaken(Biased())
    around = {"epoch": 7, "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}
    source, target = tmp_path / "old.pth", tmp_path / "new.pth"
    torch.save(around, source)
    arch = f"{__name__}:Biased"
    done = run(source, "--arch", arch, "--input", "2,3,9,9", "-o", target, "--format", "json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["verification"]["passed"]
    assert len(report["steps"]) == 5
    stored = torch.load(target)
    assert stored["epoch"] == 7
    clean = Clean().eval()
    clean.load_state_dict({k.removeprefix("module."): v for k, v in stored["state_dict"].items()})
    assert difference(model, clean) < 4e-6


PAIRS = ("--pairs", "conv:bn,twice:first", "--pairs", "twice:second", "--pairs", "fc:flat")


@pytest.mark.parametrize("kind", ["pickle", "prefixed", "safetensors"])
def test_command_on_a_state_dict_alone(tmp_path, kind):
    model = shaken(Biased())
    source, target = tmp_path / "old", tmp_path / "new"
    prefix = "module." if kind == "prefixed" else ""
    state = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    save_file(state, source) if kind == "safetensors" else torch.save(state, source)
    done = run(source, *PAIRS, "-o", target)
    assert done.exit_code == 0, done.output
    assert "nothing was verified" in done.output
    stored = load_file(target) if kind == "safetensors" else torch.load(target)
    clean = Clean().eval()
    del stored[f"{prefix}up.bias"]  # before an InstanceNorm: nothing to move, and not named
    clean.load_state_dict({k.removeprefix(prefix): v for k, v in stored.items()})
    assert difference(model, clean) < 4e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pairs", "conv"), "is not LAYER:BATCHNORM"),
        (("--pairs", "cov:bn"), "nothing named cov"),
        (("--pairs", "conv:bn", "--arch", "x:y"), "leave --arch out"),
        ((), "without a model"),
    ],
)
def test_command_refuses_in_one_sentence(tmp_path, arguments, message):
    source, target = tmp_path / "old.pth", tmp_path / "new.pth"
    torch.save(shaken(Biased()).state_dict(), source)
    done = run(source, "-o", target, *arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
    assert not target.exists()


def test_a_bias_goes_into_every_norm_that_reads_it():
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.clean, self.noisy = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return self.clean(y) * self.noisy(y)

    result = bncheck.debias(shaken(Forked()), X)
    assert [step.batch_norm for step in result.steps] == ["clean", "noisy"]
    assert result.model.conv.bias is None
    assert result.verification.passed
    assert not result.refusals


class Idle(nn.Module):
    """A head that this forward does not apply, and a part that is scripted."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.body(x)


def test_batch_norms_that_were_not_seen_at_work_are_told_of():
    model = shaken(Idle())
    result = bncheck.debias(model, X)
    (note,) = result.notes
    assert "1 BatchNorms" in note
    assert "such as head.1; name their biases with --pairs" in note
    assert [step.into for step in result.steps] == ["body.0"]
    assert bncheck.debias(shaken(Biased()), X).notes == ()


def test_the_batch_norms_of_a_scripted_part_are_told_of():
    model = shaken(Idle())
    model.body = nn.Sequential(torch.jit.script(model.head), nn.ReLU())
    model.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).eval()
    result = bncheck.debias(model, torch.randn(1, 4, 5, 5))
    assert result.steps == ()
    assert any("2 BatchNorms" in note and "body.0.1" in note for note in result.notes)


def test_a_bias_before_a_dropout_stays_as_in_the_source():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5), nn.BatchNorm2d(3))
    result = bncheck.debias(shaken(model), X)
    assert not result.steps
    assert [refusal.batch_norm for refusal in result.refusals] == ["2"]
    assert "dropout" in result.refusals[0].reason


class Cropped(nn.Module):
    def __init__(self, crop):
        super().__init__()
        self.crop = crop
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.bn(self.crop(self.conv(x)))


@pytest.mark.parametrize(
    "crop",
    [
        lambda y: y[..., 1:-1],
        lambda y: y[:, :, :4, 2:],
        lambda y: y[:3],
        lambda y: y.narrow(3, 1, 5),
        lambda y: torch.narrow(y, -2, 0, 4),
    ],
)
def test_a_bias_before_a_crop_of_the_image_moves(crop):
    result = bncheck.debias(shaken(Cropped(crop)), X)
    assert [(step.batch_norm, step.into) for step in result.steps] == [("bn", "conv")]
    assert result.verification is not None
    assert result.verification.passed


@pytest.mark.parametrize(
    "crop",
    [
        lambda y: y[:, [1, 0, 3, 2]],
        lambda y: F.pad(y[:, :, 1:], (1, 1)),
        lambda y: F.dropout(y[:, :, 1:], 0.5, training=False),
        lambda y: torch.cat([y[:, 1:], y[:, :1]], 1),
    ],
)
def test_a_bias_before_more_than_a_crop_stays(crop):
    result = bncheck.debias(shaken(Cropped(crop)), X)
    assert not result.steps
    assert result.model.conv.bias is not None

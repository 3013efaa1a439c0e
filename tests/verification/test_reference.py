import pytest
import torch
from torch import nn

from bncheck.verification.reference import Statistics, batch_norm, batch_statistics, running_update


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d, (4, 3)),
        (nn.BatchNorm1d, (4, 3, 5)),
        (nn.BatchNorm2d, (2, 3, 4, 5)),
        (nn.BatchNorm3d, (2, 3, 2, 3, 4)),
    ],
)
@pytest.mark.parametrize("affine", [True, False])
def test_equations_are_what_pytorch_does(norm: type, shape: tuple[int, ...], affine: bool) -> None:
    torch.manual_seed(0)
    layer = norm(3, momentum=0.3, affine=affine).double()
    if affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    running = Statistics(layer.running_mean.clone(), layer.running_var.clone())
    x = torch.randn(shape, dtype=torch.float64) * 3 + 2
    torch.testing.assert_close(
        batch_norm(x, batch_statistics(x), layer.weight, layer.bias), layer(x)
    )
    updated = running_update(running, x, 0.3)
    torch.testing.assert_close(updated.mean, layer.running_mean)
    torch.testing.assert_close(updated.variance, layer.running_var)
    layer.eval()
    torch.testing.assert_close(batch_norm(x, updated, layer.weight, layer.bias), layer(x))


def test_one_value_per_channel_has_no_variance() -> None:
    with pytest.raises(ValueError, match="one value"):
        running_update(Statistics(torch.zeros(3), torch.ones(3)), torch.randn(1, 3), 0.1)

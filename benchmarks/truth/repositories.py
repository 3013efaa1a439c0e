"""Which models of which public repository are built, and what they are run on."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from truth.models import Inputs, Model, images


@dataclass(frozen=True)
class Repository:
    """Models of a repository without a package of its own: expressions over its modules."""

    models: tuple[tuple[str, str], ...]
    """Module to import with the repository's folder on the path, and an expression in it."""
    inputs: tuple[Inputs, ...]


_CIFAR = images((2, 3, 32, 32), (2, 3, 224, 224))
_POINTS = images((2, 3, 128))
REPOSITORIES = {
    "weiaicunzai/pytorch-cifar100": Repository(
        tuple(
            (f"models.{module}", expression)
            for module, expressions in {
                "attention": "attention56()",
                "densenet": "densenet121()",
                "googlenet": "googlenet()",
                "inceptionv3": "inceptionv3()",
                "inceptionv4": "inceptionv4() inception_resnet_v2()",
                "mobilenet": "mobilenet()",
                "mobilenetv2": "mobilenetv2()",
                "nasnet": "nasnet()",
                "preactresnet": "preactresnet18() preactresnet50()",
                "resnet": "resnet18() resnet50()",
                "resnext": "resnext50()",
                "rir": "resnet_in_resnet()",
                "senet": "seresnet18() seresnet50()",
                "shufflenet": "shufflenet()",
                "shufflenetv2": "shufflenetv2()",
                "squeezenet": "squeezenet()",
                "stochasticdepth": "stochastic_depth_resnet18()",
                "vgg": "vgg11_bn() vgg16_bn()",
                "wideresidual": "wideresnet(depth=10)",
                "xception": "xception()",
            }.items()
            for expression in expressions.split()
        ),
        _CIFAR,
    ),
    "kuangliu/pytorch-cifar": Repository(
        tuple(
            ("models", expression)
            for expression in [
                "VGG('VGG11')",
                "DenseNet121()",
                "DLA()",
                "SimpleDLA()",
                "DPN26()",
                "EfficientNetB0()",
                "GoogLeNet()",
                "LeNet()",
                "MobileNet()",
                "MobileNetV2()",
                "PNASNetA()",
                "PNASNetB()",
                "PreActResNet18()",
                "PreActResNet50()",
                "RegNetX_200MF()",
                "RegNetY_400MF()",
                "ResNet18()",
                "ResNet50()",
                "ResNeXt29_2x64d()",
                "SENet18()",
                "ShuffleNetG2()",
                "ShuffleNetV2(1)",
            ]
        ),
        _CIFAR,
    ),
    "4uiiurz1/pytorch-nested-unet": Repository(
        (("archs", "UNet(1)"), ("archs", "NestedUNet(1,deep_supervision=True)")),
        images((2, 3, 96, 96)),
    ),
    "milesial/Pytorch-UNet": Repository(
        (("unet", "UNet(3,2)"), ("unet", "UNet(3,2,bilinear=True)")), images((2, 3, 96, 96))
    ),
    "fxia22/pointnet.pytorch": Repository(
        (
            ("pointnet.model", "PointNetCls(feature_transform=True)"),
            ("pointnet.model", "PointNetDenseCls()"),
            ("pointnet.model", "STN3d()"),
        ),
        _POINTS,
    ),
    "Lextal/pspnet-pytorch": Repository(
        tuple(
            ("pspnet", f"PSPNet(backend='{backend}',psp_size={size},pretrained=False)")
            for backend, size in {
                "resnet18": 512,
                "resnet50": 2048,
                "squeezenet": 512,
                "densenet": 1024,
            }.items()
        ),
        images((2, 3, 96, 96)),
    ),
}


def repository(name: str, folder: Path) -> Iterator[Model]:
    """Yield the models of a public repository that lies unpacked in a folder."""
    entry = REPOSITORIES[name]
    sys.path.insert(0, str(folder))
    for module, expression in entry.models:

        def build(module: str = module, expression: str = expression) -> nn.Module:
            names = vars(importlib.import_module(module))
            return eval(expression, dict(names))  # type: ignore[no-any-return]

        yield Model(expression, expression, build, entry.inputs)

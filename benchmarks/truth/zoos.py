"""Which models of which package are built, and what they are run on."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from truth.models import Inputs, Model, images

_IMAGE = images(
    (2, 3, 224, 224), (2, 3, 512, 512), (2, 3, 299, 299), (2, 1, 64, 64), (2, 3, 32, 32)
)


def torchvision_importable() -> None:
    """Import torchvision also where its compiled operators do not fit this torch."""
    real = torch.library.register_fake

    def lenient(name: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return real(name, *args, **kwargs)

    torch.library.register_fake = lenient  # type: ignore[assignment]
    try:
        import torchvision  # noqa: F401
    except ImportError:
        pass
    finally:
        torch.library.register_fake = real


def pytorchcv() -> Iterator[Model]:
    if importlib.util.find_spec("torchvision") is None:
        # One video network derives a layer from torchvision's, and is not run without it.
        operators = types.ModuleType("torchvision.ops")
        operators.DeformConv2d = nn.Module  # type: ignore[attr-defined]
        sys.modules.update(
            {"torchvision": types.ModuleType("torchvision"), operators.__name__: operators}
        )
    from pytorchcv.model_provider import _models

    others = (*_IMAGE[:2], *images((2, 80, 128), (2, 64, 128)))
    for name, build in sorted(_models.items()):
        yield Model(name, build.__module__, build, (_declared_size, *others))


def _declared_size(
    device: torch.device, network: nn.Module
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an image of the size that a model of pytorchcv says it takes."""
    size = getattr(network, "in_size", (224, 224))
    channels = getattr(network, "in_channels", 3)
    return (torch.rand(2, channels, *size, device=device),), {}


def timm() -> Iterator[Model]:
    import timm as package

    for module in package.list_modules():
        for name in package.list_models(module=module):
            config = package.get_pretrained_cfg(name)
            size = (2, *(config.input_size if config else (3, 224, 224)))
            yield Model(name, module, lambda name=name: package.create_model(name), images(size))


def torchvision() -> Iterator[Model]:
    from torchvision import models

    for name in models.list_models():
        builder = models.get_model_builder(name)
        extra = {"weights_backbone": None} if "/" not in name and _takes_backbone(builder) else {}
        clip = images((2, 3, 16, 112, 112), (2, 3, 16, 224, 224))
        pair = (lambda device, network: ((torch.rand(2, 3, 128, 128, device=device),) * 2, {}),)
        yield Model(
            name,
            builder.__module__,
            lambda name=name, extra=extra: models.get_model(name, weights=None, **extra),
            (*_IMAGE[:3], *clip, *pair),
        )


def _takes_backbone(builder: Any) -> bool:
    import inspect

    return "weights_backbone" in inspect.signature(builder).parameters


def segmentation_models_pytorch() -> Iterator[Model]:
    import segmentation_models_pytorch as smp

    architectures = (
        "Unet UnetPlusPlus MAnet Linknet FPN PSPNet PAN DeepLabV3 DeepLabV3Plus UPerNet Segformer"
    )
    for architecture in architectures.split():
        yield Model(
            f"{architecture}-resnet18",
            architecture,
            lambda a=architecture: getattr(smp, a)("resnet18", encoder_weights=None),
            _IMAGE[:2],
        )
    for encoder in sorted(smp.encoders.encoders):
        if not encoder.startswith("tu-"):
            yield Model(
                f"Unet-{encoder}",
                smp.encoders.encoders[encoder]["encoder"].__module__,
                lambda e=encoder: smp.Unet(e, encoder_weights=None),
                _IMAGE[:2],
            )


def monai() -> Iterator[Model]:
    from monai.networks import nets

    flat = images((2, 1, 64, 64), (2, 1, 96, 96))
    cube = images((1, 1, 64, 64, 64), (2, 1, 32, 32, 32), (1, 1, 96, 96, 96))
    two = {"spatial_dims": 2, "in_channels": 1}
    three = {"spatial_dims": 3, "in_channels": 1}
    unet = {"channels": (8, 16, 32), "strides": (2, 2), "out_channels": 2}
    table: list[tuple[str, dict[str, Any], tuple[Inputs, ...]]] = [
        ("AHNet", {"spatial_dims": 2}, images((2, 1, 128, 128))),
        ("AHNet", {"spatial_dims": 3}, cube),
        ("AttentionUnet", {**two, **unet}, flat),
        ("BasicUNet", {**two, "out_channels": 2}, flat),
        ("BasicUNet", {**two, "out_channels": 2, "norm": "batch"}, flat),
        ("BasicUNetPlusPlus", {**two, "out_channels": 2, "norm": "batch"}, flat),
        ("DenseNet121", {**two, "out_channels": 2}, flat),
        ("DynUNet", {**three, "out_channels": 2, "kernel_size": [3, 3, 3],
                     "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}, cube),
        ("DynUNet", {**two, "out_channels": 2, "kernel_size": [3, 3, 3], "strides": [1, 2, 2],
                     "upsample_kernel_size": [2, 2], "norm_name": "batch"}, flat),
        ("EfficientNetBN", {"model_name": "efficientnet-b0", "pretrained": False, **two}, flat),
        ("FlexibleUNet", {"in_channels": 3, "out_channels": 2, "backbone": "efficientnet-b0"},
         _IMAGE),
        ("Generator", {"latent_shape": (8,), "start_shape": (8, 8, 8), "channels": [8, 4, 1],
                       "strides": [2, 2, 1]}, images((2, 8))),
        ("HighResNet", {**two, "out_channels": 2}, flat),
        ("HoVerNet", {}, images((2, 3, 270, 270), (2, 3, 256, 256))),
        ("MILModel", {"num_classes": 2, "pretrained": False}, images((2, 3, 3, 64, 64))),
        ("Regressor", {"in_shape": (1, 32, 32), "out_shape": (2,), "channels": (4, 8),
                       "strides": (2, 2)}, images((2, 1, 32, 32))),
        ("Classifier", {"in_shape": (1, 32, 32), "classes": 2, "channels": (4, 8),
                        "strides": (2, 2)}, images((2, 1, 32, 32))),
        ("Critic", {"in_shape": (1, 32, 32), "channels": (4, 8), "strides": (2, 2)},
         images((2, 1, 32, 32))),
        ("AutoEncoder", {**two, "out_channels": 1, "channels": (4, 8), "strides": (2, 2)}, flat),
        ("VarAutoEncoder", {"spatial_dims": 2, "in_shape": (1, 32, 32), "out_channels": 1,
                            "latent_size": 4, "channels": (4, 8), "strides": (2, 2)},
         images((2, 1, 32, 32))),
        ("RegUNet", {**two, "num_channel_initial": 4, "depth": 2, "out_channels": 2}, flat),
        ("GlobalNet", {"image_size": [32, 32], **two, "num_channel_initial": 4, "depth": 2},
         images((2, 1, 32, 32))),
        ("LocalNet", {**two, "num_channel_initial": 4, "extract_levels": (0, 1),
                      "out_channels": 2}, flat),
        ("ResNet", {"block": "basic", "layers": [1, 1, 1, 1], "block_inplanes": [4, 8, 8, 8],
                    "spatial_dims": 2, "n_input_channels": 1}, flat),
        ("resnet50", {"spatial_dims": 2, "n_input_channels": 1}, flat),
        ("resnet18", {"spatial_dims": 3, "n_input_channels": 1, "shortcut_type": "A"}, cube),
        ("SegResNet", {**two, "out_channels": 2, "norm": ("BATCH", {})} | {}, flat),
        ("SegResNetDS", {**two, "out_channels": 2, "norm": "batch"}, flat),
        ("SENet154", {**two, "num_classes": 2}, flat),
        ("SEResNet50", {**two, "num_classes": 2}, flat),
        ("SEResNext50", {**two, "num_classes": 2}, flat),
        ("SwinUNETR", {"in_channels": 1, "out_channels": 2, "spatial_dims": 2,
                       "feature_size": 12}, flat),
        ("UNet", {**two, **unet}, flat),
        ("UNet", {**two, **unet, "num_res_units": 2, "norm": "batch"}, flat),
        ("UNETR", {"in_channels": 1, "out_channels": 2, "img_size": 32, "spatial_dims": 2,
                   "norm_name": "batch"}, images((2, 1, 32, 32))),
        ("ViT", {"in_channels": 1, "img_size": 32, "patch_size": 8, "spatial_dims": 2},
         images((2, 1, 32, 32))),
        ("VNet", {"spatial_dims": 2}, flat),
        ("VNet", {"spatial_dims": 3}, cube),
        ("MultiScalePatchDiscriminator",
         {"num_d": 2, "num_layers_d": 2, "spatial_dims": 2, "channels": 8, "in_channels": 1,
          "out_channels": 1}, flat),
        ("MedNeXt", {**two, "out_channels": 2}, flat),
        ("VoxelMorphUNet", {"spatial_dims": 2, "in_channels": 2, "unet_out_channels": 4,
                            "channels": (4, 4, 4, 4), "final_conv_channels": (4,)},
         images((2, 2, 64, 64))),
    ]  # fmt: skip
    for index, (name, arguments, inputs) in enumerate(table):
        yield Model(
            f"{name}-{index}",
            name,
            lambda name=name, arguments=arguments: getattr(nets, name)(**arguments),
            inputs,
        )


def transformers() -> Iterator[Model]:
    import transformers as package

    pixels = tuple(
        (lambda device, network, size=size: ((), {"pixel_values": torch.rand(size, device=device)}))
        for size in ((2, 3, 224, 224), (2, 3, 640, 640), (2, 3, 512, 512))
    )
    names = [
        "ResNet",
        "RegNet",
        "MobileNetV1",
        "MobileNetV2",
        "EfficientNet",
        "Levit",
        "ConvNext",
        "Segformer",
        "TextNet",
        "HGNetV2",
        "RTDetr",
        "RTDetrV2",
        "DFine",
        "Detr",
        "ConditionalDetr",
        "DPT",
        "ZoeDepth",
        "Swiftformer",
        "EfficientFormer",
        "PoolFormer",
        "Bit",
        "Cvt",
        "MobileViT",
        "MobileViTV2",
        "VitMatte",
        "Upernet",
        "GLPN",
        "PPLCNet",
        "PPHGNet",
        "VitDet",
        "Beit",
        "Data2VecVision",
        "DepthAnything",
        "YolosS",
        "MaskFormer",
    ]
    for name in names:
        config = getattr(package, f"{name}Config", None)
        if config is not None:
            yield Model(name, name, lambda c=config: package.AutoModel.from_config(c()), pixels)
    heads = [
        "BeitForSemanticSegmentation",
        "Data2VecVisionForSemanticSegmentation",
        "SegformerForSemanticSegmentation",
        "DPTForSemanticSegmentation",
        "DPTForDepthEstimation",
        "UperNetForSemanticSegmentation",
        "MobileViTForSemanticSegmentation",
        "MobileViTV2ForSemanticSegmentation",
        "MobileNetV2ForSemanticSegmentation",
        "VitMatteForImageMatting",
        "LevitForImageClassification",
        "RTDetrForObjectDetection",
        "DFineForObjectDetection",
        "SuperPointForKeypointDetection",
        "Swin2SRForImageSuperResolution",
    ]
    for name in heads:
        head = getattr(package, name, None)
        if head is not None:
            yield Model(name, name, lambda h=head: h(h.config_class()), pixels)


def torchcrepe() -> Iterator[Model]:
    # The network needs none of what the package imports to read sound.
    for absent in ("librosa", "resampy", "scipy", "torchaudio", "torchcrepe.load"):
        if absent == "torchcrepe.load" or importlib.util.find_spec(absent) is None:
            sys.modules[absent] = types.ModuleType(absent)
    import torchcrepe as package

    for size in ("tiny", "full"):
        yield Model(size, "crepe", lambda s=size: package.Crepe(s), images((2, 1024)))


def efficientnet_lite_pytorch() -> Iterator[Model]:
    from efficientnet_lite_pytorch import EfficientNet

    for index in range(5):
        name = f"efficientnet-lite{index}"
        yield Model(name, "lite", lambda n=name: EfficientNet.from_name(n), _IMAGE[:2])


def braindecode() -> Iterator[Model]:
    from braindecode.models.util import models_dict

    recording = {"n_chans": 22, "n_outputs": 4, "n_times": 1000, "sfreq": 250}
    for name, build in sorted(models_dict.items()):
        yield Model(
            name,
            name,
            lambda build=build: build(**recording),
            images((2, 22, 1000), (2, 1, 22, 1000), (2, 4, 22, 1000)),
        )


PACKAGES: dict[str, Callable[[], Iterator[Model]]] = {
    f.__name__: f
    for f in (
        pytorchcv,
        timm,
        torchvision,
        segmentation_models_pytorch,
        monai,
        transformers,
        torchcrepe,
        efficientnet_lite_pytorch,
        braindecode,
    )
}

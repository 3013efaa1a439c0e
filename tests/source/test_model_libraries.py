"""Which models of libraries hold BatchNorm; `benchmarks/zoo_families.py` compares all of them."""

from __future__ import annotations

import pytest

from bncheck.graph import UNKNOWN
from bncheck.source.timeline.model_libraries import zoo_model

WITH = """
    resnet18 seresnext50_32x4d ecaresnet50t gcresnet33ts legacy_seresnet18 vit_base_resnet50d_224
    maxvit_tiny_tf_224 coatnet_0_rw_224 levit_256 xcit_tiny_12_p8_224 mobilevitv2_100 fastvit_t8
    efficientvit_b0 res2net50_26w_4s resnetv2_50 resnetv2_18d hgnet_tiny tresnet_l regnety_040
    cs3darknet_m halonet26t efficientformer_l1 convmixer_768_32 tiny_vit_5m_224 volo_d1_224
"""
WITHOUT = """
    vit_base_patch16_224 vit_base_r50_s16_224 convnext_tiny swin_tiny_patch4_window7_224 deit3_base
    nf_resnet50 nf_seresnet50 nfnet_f0 dm_nfnet_f0 eca_nfnet_l0 resnetv2_50x1_bit resnetv2_50d_gn
    resnetv2_50d_evos resnet50_gn regnety_040_sgn mobilenetv5_300m maxxvit_rmlp_nano_rw_256
    coatnext_nano_rw_224 edgenext_small mixer_b16_224 vgg16 squeezenet1_0
"""


@pytest.mark.parametrize("name", WITH.split())
def test_families_with_batch_norm(name: str) -> None:
    assert zoo_model("timm.create_model", name) is True
    assert zoo_model("timm.create_model", f"timm/{name}") is True


@pytest.mark.parametrize("name", WITHOUT.split())
def test_families_without(name: str) -> None:
    assert zoo_model("timm.create_model", name) is False


@pytest.mark.parametrize(
    ("function", "holds"),
    [
        ("torchvision.models.resnet50", True),
        ("torchvision.models.quantization.resnet18", True),
        ("torchvision.models.maxvit_t", True),
        ("torchvision.models.vgg16", False),
        ("torchvision.models.detection.maskrcnn_resnet50_fpn", False),
        ("torchvision.models.detection.maskrcnn_resnet50_fpn_v2", True),
        ("torchvision.models.detection.backbone_utils.resnet_fpn_backbone", False),
        ("torchvision.models.ResNet50_Weights", None),
        ("monai.networks.nets.AttentionUnet", True),
        ("monai.networks.nets.SEResNeXt50", True),
        ("monai.networks.nets.UNet", False),
        ("monai.networks.nets.DynUNet", False),
        ("monai.networks.nets.RegUNet", UNKNOWN),
        ("segmentation_models_pytorch.Unet", True),
        ("segmentation_models_pytorch.losses.DiceLoss", None),
        ("transformers.ResNetForImageClassification", True),
        ("transformers.ResNetConfig", None),
        ("transformers.BertModel", False),
        ("transformers.RobertaForSequenceClassification", False),
        ("transformers.BeitForSemanticSegmentation", None),
        ("transformers.AutoModel", None),
        ("timm.create_model", UNKNOWN),
        ("torchaudio.models.Tacotron2", True),
        ("torchaudio.models.wav2vec2_base", None),
        ("speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN", True),
        ("torchreid.models.build_model", True),
        ("torchreid.data.ImageDataManager", None),
        ("effdet.create_model", True),
        ("learn2learn.vision.models.ResNet12", True),
        ("collections.OrderedDict", None),
    ],
)
def test_functions_of_libraries(function: str, holds: object) -> None:
    assert zoo_model(function, None) is holds

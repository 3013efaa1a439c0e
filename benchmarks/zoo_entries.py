"""The zoo's list: which constructor, with which arguments, on which input shape.

One architecture a family, the smallest that has the family's structure, so that the whole list
runs on two cores. ImageNet classifiers of pytorchcv end in a fixed 7 x 7 pooling and so need 224.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One architecture; `shapes` are those of its inputs, without the batch."""

    name: str
    constructor: str
    shapes: tuple[tuple[int, ...], ...]
    positional: tuple[Any, ...] = ()
    arguments: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict)


_PYTORCHCV = {
    (3, 224, 224): """
        airnet:airnet50_1x64d_r16 airnext:airnext50_32x4d_r2 bagnet:bagnet9
        bamresnet:bam_resnet18 bninception:bninception cbamresnet:cbam_resnet18
        channelnet:channelnet condensenet:condensenet74_c8_g8 darknet:darknet_ref
        darknet:darknet19 darts:darts densenet:densenet121 diapreresnet:diapreresnet10
        diaresnet:diaresnet10 dicenet:dicenet_wd5 dla:dla34 dla:dla46xc
        dpn:dpn68 drn:drnd22 efficientnet:efficientnet_b0 efficientnet:efficientnet_b0b
        efficientnetedge:efficientnet_edge_small_b espnetv2:espnetv2_wd2 fbnet:fbnet_cb
        fishnet:fishnet99 ghostnet:ghostnet hardnet:hardnet39ds hrnet:hrnet_w18_small_v1
        ibnbresnet:ibnb_resnet50 ibndensenet:ibn_densenet121 ibnresnet:ibn_resnet50
        igcv3:igcv3_wd4 irevnet:irevnet301 isqrtcovresnet:isqrtcovresnet18
        menet:menet108_8x1_g3 mixnet:mixnet_s mnasnet:mnasnet_small mobilenet:mobilenet_wd4
        fdmobilenet:fdmobilenet_wd4 mobilenetb:mobilenetb_wd4 mobilenetv2:mobilenetv2_wd4
        mobilenetv2:mobilenetv2b_wd4 mobilenetv3:mobilenetv3_small_wd2
        mobilenetv3:mobilenetv3_large_wd2 msdnet:msdnet22 nasnet:nasnet_4a1056 peleenet:peleenet
        preresnet:preresnet18_wd4 preresnet:preresnetbc14b proxylessnas:proxylessnas_cpu
        pyramidnet:pyramidnet101_a360 regnet:regnetx002 regnet:regnety002 resattnet:resattnet56
        resnesta:resnestabc14 resnet:resnet18 resnet:resnet18_wd4 resnet:resnet50
        resneta:resneta10 resnetd:resnetd50b
        resnext:resnext14_16x4d revnet:revnet38 scnet:scnet50 selecsls:selecsls42 senet:senet16
        sepreresnet:sepreresnet10 seresnet:seresnet10 seresnext:seresnext50_32x4d
        sharesnet:sharesnet18 shufflenet:shufflenet_g3_wd4 shufflenetv2:shufflenetv2_wd2
        shufflenetv2b:shufflenetv2b_wd2 sknet:sknet50 sparsenet:sparsenet121 spnasnet:spnasnet
        squeezenext:sqnxt23_w1 vgg:bn_vgg11 vgg:bn_vgg11b vovnet:vovnet27s
        xdensenet:xdensenet121_2 fastseresnet:fastseresnet101b octresnet:octresnet10_ad2
    """,
    (3, 299, 299): "xception:xception inceptionv3:inceptionv3 inceptionv4:inceptionv4",
    (3, 32, 32): """
        densenet_cifar:densenet40_k12_cifar10 diaresnet_cifar:diaresnet20_cifar10
        fractalnet_cifar:fractalnet_cifar10 msdnet_cifar10:msdnet22_cifar10
        preresnet_cifar:preresnet20_cifar10 pyramidnet_cifar:pyramidnet110_a48_cifar10
        resdropresnet_cifar:resdropresnet20_cifar10 resnet_cifar:resnet20_cifar10
        resnext_cifar:resnext20_16x4d_cifar10 rir_cifar:rir_cifar10 ror_cifar:ror3_56_cifar10
        shakedropresnet_cifar:shakedropresnet20_cifar10
        shakeshakeresnet_cifar:shakeshakeresnet20_2x16d_cifar10
        wrn_cifar:wrn16_10_cifar10 xdensenet_cifar:xdensenet40_2_k24_bc_cifar10
    """,
    (3, 480, 480): "pspnet:pspnet_resnetd50b_voc deeplabv3:deeplabv3_resnetd50b_voc",
    (3, 256, 192): """
        simplepose_coco:simplepose_resnet18_coco
        simpleposemobile_coco:simplepose_mobile_mobilenetv3_small_w1_coco
    """,
    (3, 512, 512): "centernet:centernet_resnet18_voc",
    (3, 128, 256): """
        cgnet:cgnet_cityscapes contextnet:ctxnet_cityscapes dabnet:dabnet_cityscapes
        edanet:edanet_cityscapes enet:enet_cityscapes erfnet:erfnet_cityscapes
        esnet:esnet_cityscapes espcnet:espcnet_cityscapes fastscnn:fastscnn_cityscapes
        fpenet:fpenet_cityscapes lednet:lednet_cityscapes linknet:linknet_cityscapes
        segnet:segnet_cityscapes sinet:sinet_cityscapes
        unet:unet_cityscapes
    """,
}
_PYTORCHCV_IN_SIZE = frozenset({(3, 128, 256)})
"""Shapes that are not the constructor's default, so that `in_size` must say them."""


def _pytorchcv() -> list[Entry]:
    return [
        Entry(
            f"pytorchcv/{function}",
            f"pytorchcv.models.{module}:{function}",
            (shape,),
            arguments={"in_size": shape[1:]} if shape in _PYTORCHCV_IN_SIZE else {},
        )
        for shape, lines in _PYTORCHCV.items()
        for module, function in (item.split(":") for item in lines.split())
    ]


def _transformers(
    name: str, module: str, family: str, shape: tuple[int, ...], head: str, **config: Any
) -> Entry:
    def arguments() -> dict[str, Any]:
        import transformers

        return {"config": getattr(transformers, f"{family}Config")(**config)}

    path = module if "." in module else f"{module}.modeling_{module}"
    constructor = f"transformers.models.{path}:{family}{head}"
    return Entry(f"transformers/{name}", constructor, (shape,), arguments=arguments)


_IMAGE = (3, 64, 64)
_CLASSIFIER = "ForImageClassification"
_TRANSFORMERS = [
    _transformers("levit", "levit", "Levit", (3, 224, 224), _CLASSIFIER),
    _transformers("mobilenet_v1", "mobilenet_v1", "MobileNetV1", _IMAGE, _CLASSIFIER),
    _transformers("mobilenet_v2", "mobilenet_v2", "MobileNetV2", _IMAGE, _CLASSIFIER),
    _transformers("resnet18", "resnet", "ResNet", _IMAGE, _CLASSIFIER,
                  layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512]),
    _transformers("resnet50", "resnet", "ResNet", _IMAGE, _CLASSIFIER),
    _transformers("regnet_x", "regnet", "RegNet", _IMAGE, _CLASSIFIER, layer_type="x"),
    _transformers("regnet_y", "regnet", "RegNet", _IMAGE, _CLASSIFIER, depths=[2, 2, 2, 2]),
    _transformers("efficientnet_b0", "efficientnet", "EfficientNet", _IMAGE, _CLASSIFIER,
                  width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280),
    _transformers("mobilevit", "mobilevit", "MobileViT", _IMAGE, _CLASSIFIER),
    _transformers("mobilevit_v2", "mobilevitv2", "MobileViTV2", _IMAGE, _CLASSIFIER,
                  width_multiplier=0.5),
    _transformers("hgnet_v2", "hgnet_v2", "HGNetV2", _IMAGE, _CLASSIFIER),
    _transformers("textnet", "textnet", "TextNet", _IMAGE, _CLASSIFIER),
    _transformers("swiftformer", "swiftformer", "SwiftFormer", (3, 224, 224), _CLASSIFIER),
    _transformers("cvt", "cvt", "Cvt", _IMAGE, _CLASSIFIER),
    _transformers("pp_lcnet", "pp_lcnet", "PPLCNet", _IMAGE, _CLASSIFIER),
    _transformers("rt_detr_resnet", "rt_detr.modeling_rt_detr_resnet", "RTDetrResNet", _IMAGE,
                  "Backbone"),
    _transformers("patchtst", "patchtst", "PatchTST", (32, 3), "Model",
                  num_input_channels=3, context_length=32, patch_length=4, patch_stride=4),
    _transformers("patchtsmixer", "patchtsmixer", "PatchTSMixer", (32, 3), "Model",
                  num_input_channels=3, context_length=32, patch_length=8, patch_stride=8,
                  norm_mlp="BatchNorm"),
]  # fmt: skip

_VOLUME = (1, 32, 32, 32)
_SLICE = (1, 64, 64)
_UNET = {"channels": (8, 16, 32), "strides": (2, 2)}
_NETS = "monai.networks.nets"
_MONAI = [
    Entry("monai/resnet18_3d", f"{_NETS}:resnet18", (_VOLUME,),
          arguments={"spatial_dims": 3, "n_input_channels": 1, "num_classes": 5}),
    Entry("monai/resnet50_2d", f"{_NETS}:resnet50", (_SLICE,),
          arguments={"spatial_dims": 2, "n_input_channels": 1, "num_classes": 5}),
    Entry("monai/densenet121_1d", f"{_NETS}:DenseNet121", ((1, 128),), (1, 1, 5)),
    Entry("monai/densenet121_3d", f"{_NETS}:DenseNet121", (_VOLUME,), (3, 1, 5)),
    Entry("monai/senet50_2d", f"{_NETS}:SEResNet50", (_SLICE,),
          arguments={"spatial_dims": 2, "in_channels": 1}),
    Entry("monai/efficientnet_b0", f"{_NETS}:EfficientNetBN", ((3, 64, 64),),
          ("efficientnet-b0",), {"pretrained": False}),
    Entry("monai/flexible_unet", f"{_NETS}:FlexibleUNet", ((3, 64, 64),), (3, 2),
          {"backbone": "efficientnet-b0"}),
    Entry("monai/unet_2d", f"{_NETS}:UNet", (_SLICE,), (2, 1, 2), {**_UNET, "norm": "batch"}),
    Entry("monai/unet_residual_3d", f"{_NETS}:UNet", (_VOLUME,), (3, 1, 2),
          {**_UNET, "norm": "batch", "num_res_units": 2}),
    Entry("monai/unet_order_ndna", f"{_NETS}:UNet", (_SLICE,), (2, 1, 2),
          {**_UNET, "norm": "batch", "adn_ordering": "AND"}),
    Entry("monai/attention_unet", f"{_NETS}:AttentionUnet", (_SLICE,),
          (2, 1, 2, (8, 16, 32), (2, 2))),
    Entry("monai/autoencoder", f"{_NETS}:AutoEncoder", (_SLICE,), (2, 1, 1),
          {"channels": (8, 16, 32), "strides": (2, 2, 2), "norm": "batch",
           "inter_channels": [16, 16], "inter_dilations": [1, 2]}),
    Entry("monai/basic_unet", f"{_NETS}:BasicUNet", (_SLICE,), (2, 1, 2),
          {"norm": "batch", "features": (8, 8, 16, 16, 32, 8)}),
    Entry("monai/basic_unet_plus", f"{_NETS}:BasicUNetPlusPlus", (_SLICE,), (2, 1, 2),
          {"norm": "batch", "features": (8, 8, 16, 16, 32, 8)}),
    Entry("monai/dynunet", f"{_NETS}:DynUNet", (_SLICE,), (2, 1, 2),
          {"kernel_size": (3, 3, 3), "strides": (1, 2, 2), "upsample_kernel_size": (2, 2),
           "norm_name": "batch", "res_block": True, "filters": (8, 16, 32)}),
    Entry("monai/highresnet", f"{_NETS}:HighResNet", ((1, 16, 16, 16),)),
    Entry("monai/patch_discriminator", f"{_NETS}:PatchDiscriminator", (_SLICE,), (2, 8, 1)),
    Entry("monai/segresnet_ds", f"{_NETS}:SegResNetDS", (_VOLUME,),
          arguments={"init_filters": 8, "blocks_down": (1, 1, 1)}),
    Entry("monai/unetr", f"{_NETS}:UNETR", ((1, 32, 32),),
          (1, 2, (32, 32)), {"norm_name": "batch", "spatial_dims": 2, "hidden_size": 48,
                             "num_heads": 4, "mlp_dim": 96}),
    Entry("monai/vnet", f"{_NETS}:VNet", (_VOLUME,)),
    Entry("monai/localnet", f"{_NETS}:LocalNet", (_SLICE,), (2, 1, 4, (0, 1, 2))),
]  # fmt: skip

_TIMM = """
    resnet18 resnetv2_50 mobilenetv3_small_050 efficientnet_b0 tf_efficientnet_b0 mixnet_s
    mnasnet_small repvgg_a0 mobileone_s0 regnety_002 densenet121 dla34 hrnet_w18_small
    levit_128s levit_conv_128s ghostnet_050 hardcorenas_a inception_v3 res2net50_14w_8s
    resnest14d rexnet_100 seresnet18 skresnet18 vovnet39a ese_vovnet19b_dw dpn68b fastvit_t8
    efficientformer_l1 mobilevit_xxs mobilevitv2_050 repvit_m1 selecsls42b
    cspresnet50 darknet53 tresnet_m visformer_tiny tinynet_e lcnet_035 ghostnetv2_100
    gcresnet33ts efficientvit_b0 hgnet_tiny hgnetv2_b0
    mobilenetv4_conv_small tiny_vit_5m_224 swiftformer_xs starnet_s1 repghostnet_050
    convmixer_768_32 xception41
"""
_TIMM_ENTRIES = [
    Entry(f"timm/{name}", "timm:create_model", ((3, 224, 224),), (name,)) for name in _TIMM.split()
]

_TORCHVISION = "resnet18 mobilenet_v2 densenet121 shufflenet_v2_x0_5 regnet_y_400mf mnasnet0_5"
_TORCHVISION_ENTRIES = [
    Entry(f"torchvision/{name}", f"torchvision.models:{name}", ((3, 224, 224),))
    for name in _TORCHVISION.split()
]

_SMP = "Unet UnetPlusPlus MAnet Linknet FPN PSPNet PAN DeepLabV3 DeepLabV3Plus UPerNet"
_SMP_ENTRIES = [
    Entry(f"segmentation_models_pytorch/{name.lower()}", f"segmentation_models_pytorch:{name}",
          ((3, 128, 128),), ("resnet18",), {"encoder_weights": None})
    for name in _SMP.split()
]  # fmt: skip

_YOLO = "yolov3-tiny yolov5n yolov6n yolov8n yolov9t yolov10n yolo11n yolo12n"
_YOLO_ENTRIES = [
    Entry(f"ultralytics/{name}", f"ultralytics.nn.tasks:{task}", ((3, 128, 128),),
          (f"{name}.yaml",), {"verbose": False})
    for name, task in (
        *((name, "DetectionModel") for name in _YOLO.split()),
        ("yolov8n-seg", "SegmentationModel"),
        ("yolov8n-pose", "PoseModel"),
        ("yolo11n-cls", "ClassificationModel"),
    )
]  # fmt: skip

ENTRIES: tuple[Entry, ...] = (
    *_pytorchcv(),
    *_TRANSFORMERS,
    *_MONAI,
    *_TIMM_ENTRIES,
    *_TORCHVISION_ENTRIES,
    *_SMP_ENTRIES,
    *_YOLO_ENTRIES,
)

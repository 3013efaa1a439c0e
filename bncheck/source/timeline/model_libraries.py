"""Which models of known libraries hold BatchNorm: `benchmarks/zoo_families.py` compares it."""

from __future__ import annotations

import re

from bncheck.events import Fact
from bncheck.graph import UNKNOWN
from bncheck.source.timeline.known import BATCH_NORMS

ZOOS = (
    "torchvision.models",
    "timm",
    "pytorchcv",
    "segmentation_models_pytorch",
    "monai.networks.nets",
    "pretrainedmodels",
    "efficientnet_pytorch",
    "facenet_pytorch.InceptionResnetV1",
    "geffnet",
    "pytorch_fid.inception.InceptionV3",
    "resnest.torch",
    "pytorchvideo.models.hub",
    "torchreid",
    "effdet",
    "torchaudio.models",
    "speechbrain.lobes.models",
    "learn2learn.vision.models",
)
"""Packages of known models."""

_NETWORKS_OF = {
    "torchreid": {"build_model"},
    "effdet": {"create_model", "create_model_from_config", "EfficientDet"},
    "torchaudio.models": {"Tacotron2", "Conformer", "WaveRNN"},
    "speechbrain.lobes.models": {"ECAPA_TDNN", "Xvector", "CRDNN"},
    "learn2learn.vision.models": {
        "OmniglotFC", "OmniglotCNN", "MiniImagenetCNN", "CNN4", "ResNet12", "WRN28",
    },
}  # fmt: skip
"""What makes networks with BatchNorm in packages that have much else."""

ZOO_ROOTS = frozenset(
    {*ZOOS, *(zoo.partition(".")[0] for zoo in ZOOS if zoo not in _NETWORKS_OF)}
    - _NETWORKS_OF.keys()
)
"""What is imported to make a model by a dotted name: `torchvision.models.resnet50()`."""

_WITHOUT = re.compile(
    # Normalised weights, GroupNorm, LayerNorm or none, where the name tells of another family too.
    r"^nf_|^nfnet|^dm_nf|^eca_nf|_(?:s?gn|evos|frn|ln)(?:[_.\d]|$)|resnetv2_\d+x|"
    r"^squeeze(?!.*bn)|^sqnet|mobilenetv5|^wrn50_2$|^maxxvit|^coatnext|^edgenext|"
    # Detectors of torchvision, whose BatchNorm is frozen where they are pretrained.
    r"^(?:keypointrcnn|maskrcnn_resnet50_fpn$|fasterrcnn_resnet50_fpn$|fasterrcnn_mobile|"
    r"retinanet_resnet50_fpn$|fcos_|ssd300_vgg16)|"
    # Their backbones, whose BatchNorm is frozen unless another norm is asked for.
    r"^(?:resnet_fpn|mobilenet)_backbone$|"
    r"^vit(?!\w*(?:resnet\d+d|mci))|^(?:deit|swin|convnext|alexnet|vgg\d+$|beit|mixer|cait|"
    r"crossvit|pit_|bert|gpt|t5|roberta|llama|clip|dinov2|eva|mvit|raft_small)",
    re.IGNORECASE,
)
_WITH = re.compile(
    r"res(?:net|ne[xs]t|2ne)|mobile(?:net|one|vit)|mnasnet|efficient(?:net|former|vim|vit)|"
    r"densenet|googlenet|inception|shufflenet|regnet|xception|darknet|hrnet|fbnet|ghostnet|"
    r"rep(?:vgg|vit)|senet|hardcorenas|spnasnet|semnasnet|mixnet|rexnet|vovnet|selecsls|lcnet|"
    r"tinynet|lraspp|r3d_18|mc3_18|r2plus1d|s3d|nasnet|polynet|condensenet|proxyless|igcv|airne[tx]|"
    r"vgg\d+_bn|^bn_vgg|"
    r"^(?:\w+rcnn_resnet50_fpn_v2|retinanet_resnet50_fpn_v2|maxvit|raft_|dpn|dla|csp|cs3|botnet|"
    r"coatnet|eca_\w*ts|halo|lambda_|lamhalo|sebotnet|sehalonet|convmixer|cpubone|fasternet|fastvit|gernet|"
    r"haloregnet|hgnet|iformer|levit|lowformer|nextvit|shvit|starnet|swiftformer|tiny_vit|"
    r"visformer|volo_|xcit|bagnet|bninception|diaresnet|drn[cd]\d|espnetv2|fishnet|fractalnet|"
    r"hardnet|ibn_|ibnb_|irevnet|menet|msdnet|peleenet|resattnet|revnet\d|ror3_|scneta?\d|sknet|"
    r"sqnxt|pyramidnet|deeplabv3|wrn\d+_\d+_|xdensenet)|_cityscapes$",
    re.IGNORECASE,
)

_SEGMENTATION_MODELS = frozenset(
    """
    Unet UnetPlusPlus MAnet Linknet FPN PSPNet PAN DeepLabV3 DeepLabV3Plus UPerNet create_model
    """.split()  # noqa: SIM905
)
_MONAI_WITH = re.compile(
    r"(?:Se)?(?:DenseNet|ResNet|SENet|SEResNe[xX]?t|EfficientNet|TorchVisionFC)|FlexibleUNet|VNet$|"
    r"AHNet$|AttentionUnet$|HighResNet$|HoVerNet$|DAF3D$|SegResNetDS",
    re.IGNORECASE,
)
_MONAI_WITHOUT = re.compile(
    # Normalised by instances or groups, unless the constructor is told otherwise.
    r"(?:Basic|Dyn)?Unet(?:PlusPlus)?$|(?:Swin)?UNETR$|SegResNet(?:VAE)?$|(?:Var)?AutoEncoder$|"
    r"(?:VQVAE|AutoencoderKL|DiffusionModelUNet|ViT|ViTAutoEnc)$",
    re.IGNORECASE,
)
_TRANSFORMERS_WITH = re.compile(
    r"(?:ResNet|RegNet|Levit|MobileNetV[12]|EfficientNet|MobileViT(?:V2)?|SwiftFormer|Cvt|TextNet|"
    r"PatchTST|RTDetr(?:V2)?|DFine|Wav2Vec2Conformer|FastSpeech2Conformer|GroupViT)"
    r"(?:Model|For\w+)$|SegformerForSemanticSegmentation$"
)
_TRANSFORMERS_WITHOUT = re.compile(
    r"(?:\w*(?:Bert|BERT|berta|GPT|T5|Bart|Llama|Electra|XLNet|CLIP|Swin|Mistral|Mixtral|Qwen|Gemma|"
    r"Bloom|OPT|Longformer|Pegasus|Marian|Falcon|Whisper|Hubert|WavLM|Dino[vV]2|ConvNext)|ViT|DeiT|"
    r"Wav2Vec2|Phi|Blip|Siglip)(?:V?\d*)(?:Model|For(?!SemanticSegmentation)\w+)$"
)

SEGMENTATION_FACTORIES = frozenset({"_segm_model", "_segm_resnet"})
"""Older torchvision's own factories, which scripts call; their first argument names the model."""


def zoo_model(function: str, argument: object) -> Fact | None:
    """Tell whether what a library's function makes holds BatchNorm; None: makes no model.

    `function` is qualified; `argument` is its first argument where that is a constant, which is
    the model's name for timm, torch.hub and pytorchcv.
    """
    last = function.rpartition(".")[2]
    if function.startswith("transformers."):
        if last in _OF_CHECKPOINTS:
            last = function.split(".")[-2]
            if last.startswith("Auto"):
                return _by_checkpoint(argument)
        if _TRANSFORMERS_WITH.match(last):
            return True
        return False if _TRANSFORMERS_WITHOUT.match(last) else None
    package = next((z for z in ZOOS if function == z or function.startswith(f"{z}.")), None)
    if package is None:
        return None
    if package in _NETWORKS_OF:
        return True if last in _NETWORKS_OF[package] else None
    if package == "segmentation_models_pytorch":
        return True if last in _SEGMENTATION_MODELS else None
    if package == "monai.networks.nets":
        if not last[:1].isupper():
            return by_family(last)
        if _MONAI_WITHOUT.match(last):
            return False
        return True if _MONAI_WITH.match(last) else UNKNOWN
    if last in {"create_model", "get_model", "ptcv_get_model"}:
        return by_family(argument) if isinstance(argument, str) else UNKNOWN
    if package == "pytorchvideo.models.hub":
        return not last.startswith("mvit")
    if package == "efficientnet_pytorch":
        return True if function.startswith("efficientnet_pytorch.EfficientNet") else None
    if package == "timm" and not function.startswith("timm.models."):
        return None
    if last == "__dict__":
        return UNKNOWN
    if last in SEGMENTATION_FACTORIES:
        return True
    if (
        "_Weights" in function
        or last.endswith("transforms")
        or last.startswith(("list_", "is_", "_"))
    ):
        return None
    return by_family(last)


_OF_CHECKPOINTS = frozenset({"from_pretrained", "from_config", "_from_config"})
_CHECKPOINTS_WITH = re.compile(r"(?:resnet|regnet|efficientnet|mobilenet_?v|mobilevit|levit)[-_]?")


def _by_checkpoint(name: object) -> Fact:
    """Tell whether the model of a checkpoint holds BatchNorm, by the checkpoint's name.

    A detector that is named for its backbone may have frozen it.
    """
    if not isinstance(name, str):
        return UNKNOWN
    if _CHECKPOINTS_WITH.match(name.rpartition("/")[2]):
        return True
    return False if by_family(name) is False else UNKNOWN


def by_norm_layer(names: frozenset[str], otherwise: Fact) -> Fact:
    """Tell by the names in a `norm_layer` argument whether a model's layers are BatchNorm."""
    if names <= {"None"}:
        return otherwise
    norms = {name for name in names if "Norm" in name or name == "Identity"}
    if names & BATCH_NORMS:
        return True if norms <= BATCH_NORMS else otherwise
    return False if norms else UNKNOWN


BATCH_NORM_NAMES = frozenset({"batch", "batch_norm", "batchnorm", "syncbatch", "bn"})
"""What libraries call BatchNorm where a text says which norm to make."""
_NOT_BATCH = frozenset({"instance", "group", "layer", "localresponse", "instance_nvfuser"})


def by_norm_name(names: frozenset[str], otherwise: Fact) -> Fact:
    """Tell the same by MONAI's names of norms: Norm.BATCH, "batch", ("batch", {"eps": 1e-3})."""
    told = {name.lower() for name in names}
    if told & BATCH_NORM_NAMES:
        return True
    return False if told & _NOT_BATCH else otherwise


def by_family(name: str) -> Fact:
    """Tell by a model's name, such as `resnet18`, whether it holds BatchNorm."""
    base = name.rpartition("/")[2]
    if _WITHOUT.search(base):
        return False
    return True if _WITH.search(base) else UNKNOWN

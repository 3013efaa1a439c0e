"""What is known of code outside the project: model libraries, frameworks, harmless functions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bncheck.events import ExportKind, WrapKind
from bncheck.timeline import ContextKind


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BATCH_NORMS = frozenset(
    {
        "BatchNorm1d",
        "BatchNorm2d",
        "BatchNorm3d",
        "SyncBatchNorm",
        "LazyBatchNorm1d",
        "LazyBatchNorm2d",
        "LazyBatchNorm3d",
        "_BatchNorm",
        "BatchNormAct2d",
        "SyncBatchNormAct",
        "InPlaceABN",
        "InPlaceABNSync",
        "SynchronizedBatchNorm1d",
        "SynchronizedBatchNorm2d",
        "SynchronizedBatchNorm3d",
    }
)
"""Last parts of the names of BatchNorm classes."""
OF_THE_SHAPE = _words("rand_like randn_like zeros_like ones_like empty_like full_like")
"""Functions of a tensor's shape alone."""
TORCH_BATCH_NORMS = frozenset(f"torch.nn.{name}" for name in BATCH_NORMS)

LAYERS_WITH_NORM = {
    "MinkowskiEngine.MinkowskiBatchNorm": "BatchNorm1d",
    "MinkowskiEngine.MinkowskiSyncBatchNorm": "SyncBatchNorm",
    "torchsparse.nn.BatchNorm": "BatchNorm1d",
    "e3nn.nn.BatchNorm": "BatchNorm1d",
    "torch_geometric.nn.BatchNorm": "BatchNorm1d",
    "torch_geometric.nn.norm.BatchNorm": "BatchNorm1d",
    "torch_geometric.nn.MLP": "BatchNorm1d",
    "torch_geometric.nn.models.MLP": "BatchNorm1d",
    "torchvision.ops.Conv2dNormActivation": "BatchNorm2d",
    "torchvision.ops.Conv3dNormActivation": "BatchNorm3d",
    "torchvision.ops.misc.ConvNormActivation": "BatchNorm2d",
    "torchvision.ops.misc.Conv2dNormActivation": "BatchNorm2d",
    **{
        f"{package}.{layer}": "BatchNorm2d"
        for package in ("timm.layers", "timm.models.layers")
        for layer in ("ConvNormAct", "ConvBnAct", "ConvNormActAa", "SeparableConvNormAct")
    },
    **{
        f"{package}.{layer}": "BatchNorm2d"
        for package in ("fastai.layers", "fastai.vision.all", "fastai.basics")
        for layer in ("ConvLayer", "ResBlock", "UnetBlock", "LinBnDrop", "BatchNorm")
    },
    **{
        f"ultralytics.nn.modules{part}.{layer}": "BatchNorm2d"
        for part in ("", ".conv", ".block", ".head")
        for layer in _words("Conv DWConv C2f C3 C3k2 C2PSA SPPF Bottleneck Detect")
    },
}
"""Layers of libraries that hold a BatchNorm of this class, unless they are told otherwise."""
NORM_ARGUMENTS = frozenset({"norm", "norm_layer", "norm_type", "norm_name"})
"""The keywords that tell them."""

FRAMEWORKS = {
    "pytorch_lightning": "lightning",
    "lightning": "lightning",
    "lightning_fabric": "lightning",
    "ignite": "ignite",
    "fastai": "fastai",
    "mmcv": "mmcv",
    "mmengine": "mmengine",
    "mmdet": "mmdet",
    "mmseg": "mmseg",
    "detectron2": "detectron2",
    "transformers": "transformers",
    "trl": "trl",
    "accelerate": "accelerate",
    "catalyst": "catalyst",
    "skorch": "skorch",
    "poutyne": "poutyne",
    "torchbearer": "torchbearer",
    "composer": "composer",
    "keras": "keras",
    "pytorch_metric_learning": "pytorch_metric_learning",
    "torchtnt": "torchtnt",
    "anomalib": "anomalib",
    "sentence_transformers": "sentence_transformers",
    "setfit": "setfit",
    "darts": "darts",
    "pytorch_forecasting": "pytorch_forecasting",
    "pl_bolts": "lightning",
}
"""Packages whose classes drive the modes of the models that they are given or derived to."""


def framework(qualified: str) -> str:
    """Return the framework that a base class comes from; empty: none."""
    top, _, rest = qualified.partition(".")
    if top in {"transformers", "accelerate", "keras"} and not re.search(
        r"Trainer|LightningModule|Callback|keras", rest
    ):
        return ""
    if re.search(r"(?:^|\.)(?:pl\.)?(?:LightningModule|LightningDataModule)$", qualified):
        return "lightning"
    return FRAMEWORKS.get(top, "")


HARMLESS = _words(
    """
    print len str repr id type isinstance issubclass hasattr sum max min any all abs range list
    tuple dict set sorted enumerate zip map filter iter next getattr setattr callable vars dir
    format int float bool super open hash torch.save torch.numel torch.manual_seed
    torch.set_num_threads torch.cuda.is_available torch.jit.save torch.is_tensor wandb.watch
    torchsummary.summary torchinfo.summary thop.profile thop.clever_format
    ptflops.get_model_complexity_info torchviz.make_dot weakref.ref weakref.proxy gc.collect
    copy.copy copy.deepcopy fvcore.nn.FlopCountAnalysis fvcore.nn.parameter_count pprint.pprint
    torch.compile torch.save pickle.dump warnings.warn safetensors.torch.save_model
    torch.utils.mobile_optimizer.optimize_for_mobile
    """
)
"""Functions that change no model that they are given."""

HARMLESS_PREFIXES = (
    "torch.optim.",
    "torch.nn.utils.",
    "torch.nn.init.",
    "torch.nn.functional.",
    "torch.utils.tensorboard",
    "tensorboardX",
    "logging.",
    "os.",
    "numpy.",
    "math.",
    "time.",
    "json.",
    "torch.cuda.",
    "torch.backends.",
    "torch.utils.checkpoint",
    "timm.optim.",
    "timm.scheduler.",
    "timm.utils.model_ema",
    "tqdm.",
    "matplotlib.",
    "tensorflow.",
    "wandb.",
    "pandas.",
    "torchvision.transforms",
    "torchvision.utils.",
    "torchvision.datasets.",
    "torch.autograd.",
    "albumentations.",
    "cv2.",
    "PIL.",
    "skimage.",
    "scipy.",
    "sklearn.",
    "random.",
    "pathlib.",
    "yaml.",
    "shutil.",
    "sys.",
    "datetime.",
    "imageio.",
    "trimesh.",
    "pyrender.",
    "apex.amp.scale_loss",
    "collections.",
)

TENSOR_OPERATIONS = re.compile(r"torch\.(?:linalg\.|fft\.|special\.)?[a-z]\w*$")
"""Functions such as `torch.stack`, of a network's parameters say."""

OF_TENSORS = re.compile(r"torch\.(?!(?:vmap|cond|compile|load)$)[a-z][a-z0-9_]*$")
"""Functions of torch's own that compute with tensors and run no network."""

LEAVES_MODES = re.compile(
    r"(?:save(?![a-z])|dump|log(?:ger)?(?:_|$)|print_|summar|count_|broadcast_|reduce_|distribute_bn$"
    r"|unwrap|de_parallel$|is_parallel$|(?:get_)?state_dict$|clip_grad|zero_grad"
    r"|(?:model_?)?check_?point(?:s|er|saver)?$|early_?stop|saver$"
    r"|(?:build|configure|create|get|init|make|set_?up)_?\w*optim(?:izers?)?(?:_v\d)?$)",
    re.IGNORECASE,
)
"""How names of functions begin that store a model, print it, share its weights or optimise them."""

HARMLESS_METHODS = _words(
    """
    append info debug warning error log add_graph watch write add_scalar state_dict add_summary
    add_scalars add_image add_images add_histogram add_text add_figure
    view reshape flatten squeeze permute transpose contiguous size dim numel numpy tolist expand
    repeat abs sqrt pow norm argmax argmin softmax sigmoid new_zeros new_ones startswith endswith
    split lower upper join format
    """
)

PARAMETERS = _words("parameters named_parameters")
"""Methods that go through a network's parameters."""

CONTAINERS = _words("Sequential ModuleList ModuleDict Module")
"""Last parts of the names of torch.nn's classes that hold what they are given."""

IMPORTERS = _words("import_module load_source module_from_spec load_module __import__")
"""Last parts of functions that import a module by its name or path."""

PASS_THROUGH = _words(
    """
    enumerate tqdm zip iter next list tuple reversed cycle islice chain track trange
    progress_bar prefetcher data_prefetcher auto DataPrefetcher ParallelLoader MpDeviceLoader
    per_device_loader setup_dataloaders prepare_data_loader sorted progressbar ProgressBar alive_it
    """
)
"""Last parts of functions that iterate over what they are given, in its order and batches."""

WRAPPERS = {
    "torch.nn.DataParallel": WrapKind.DATA_PARALLEL,
    "torch.nn.parallel.DataParallel": WrapKind.DATA_PARALLEL,
    "torch.nn.parallel.data_parallel.DataParallel": WrapKind.DATA_PARALLEL,
    "torch.compile": WrapKind.COMPILE,
    "torch.jit.script": WrapKind.SCRIPT,
}
"""Functions that return the model they are given, wrapped."""

DISTRIBUTED = ("DistributedDataParallel", "ShardedDataParallel")
"""What the names of the wrappers of torch, apex, OpenMMLab and fairscale end in that share a model
among processes."""

CONVERTERS = ("convert_sync_batchnorm", "convert_syncbn_model")
"""Last parts of the functions of torch, apex and others that convert to SyncBatchNorm."""


def wrapper(function: str) -> WrapKind | None:
    """Return how a function wraps or converts the model that it is given; None: it does not."""
    if function.endswith(CONVERTERS):
        return WrapKind.SYNC_BATCH_NORM
    if function.endswith(DISTRIBUTED):
        return WrapKind.DISTRIBUTED
    return WRAPPERS.get(function)


AVERAGES = re.compile(
    r"(?:^|\.)(?:AveragedModel|ModelEma(?:V[23])?|ModelEMA|ExponentialMovingAverage|EMA|EMAModel)$"
)
"""Classes that keep an average of a model's weights."""
AVERAGES_IN_EVAL = re.compile(r"(?:^|\.)ModelE(?:ma|MA)(?:V[23])?$")
"""Those of timm, and what follows them, which put their copy in eval mode at once."""

EXPORTERS = {
    "torch.onnx.export": ExportKind.ONNX,
    "torch.onnx.dynamo_export": ExportKind.ONNX,
    "torch.onnx.utils.export": ExportKind.ONNX,
    "torch.jit.trace": ExportKind.TRACE,
    "torch.jit.trace_module": ExportKind.TRACE,
    "torch.jit.script": ExportKind.SCRIPT,
    "torch.export.export": ExportKind.PROGRAM,
    "torch.compile": ExportKind.COMPILE,
    "torch.ao.quantization.prepare": ExportKind.QUANTIZATION,
    "torch.quantization.prepare": ExportKind.QUANTIZATION,
    "torch.ao.quantization.quantize_fx.prepare_fx": ExportKind.QUANTIZATION,
    "torch.quantization.quantize_fx.prepare_fx": ExportKind.QUANTIZATION,
    "torch.ao.quantization.fuse_modules": ExportKind.QUANTIZATION,
    "torch.quantization.fuse_modules": ExportKind.QUANTIZATION,
}

KEEPS_OF_SCRIPTS = frozenset(
    {"torch.jit.save", "torch_tensorrt.compile", "torch_tensorrt.ts.compile", "trtorch.compile"}
)
"""Functions that save a scripted model or compile it, in the mode that it has."""

OPTIMIZER_WORDS = re.compile(r"optim|adam|sgd|lars|lamb|lion|rmsprop", re.IGNORECASE)

# fairscale's `checkpoint_wrapper` keeps BatchNorm's statistics from the second update.
CHECKPOINTS = frozenset(
    {
        "torch.utils.checkpoint.checkpoint",
        "torch.utils.checkpoint.checkpoint_sequential",
        "timm.models.checkpoint_seq",
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.checkpoint_wrapper",
    }
)

RUNS = {
    "monai.inferers.sliding_window_inference": (3, "predictor"),
    "monai.inferers.utils.sliding_window_inference": (3, "predictor"),
    "torch.nn.parallel.data_parallel": (0, "module"),
}
"""Functions that run a network that they are given, and where it stands among their arguments."""

CONTEXTS = {
    "torch.no_grad": ContextKind.NO_GRAD,
    "torch.autograd.no_grad": ContextKind.NO_GRAD,
    "torch.autograd.grad_mode.no_grad": ContextKind.NO_GRAD,
    "torch.inference_mode": ContextKind.INFERENCE_MODE,
    "torch.enable_grad": ContextKind.ENABLE_GRAD,
    "torch.autograd.enable_grad": ContextKind.ENABLE_GRAD,
    "torch.set_grad_enabled": ContextKind.MAYBE_GRAD,
    "torch.autograd.set_grad_enabled": ContextKind.MAYBE_GRAD,
    "torch.cuda.amp.autocast": ContextKind.AUTOCAST,
    "torch.autocast": ContextKind.AUTOCAST,
    "torch.amp.autocast": ContextKind.AUTOCAST,
}

HARMLESS_DECORATORS = _words(
    """
    staticmethod classmethod property cached_property lru_cache cache wraps override
    abstractmethod overload main command option argument group timeit timer fixture parametrize
    rank_zero_only master_only record unused ignore export script torch_compile compile
    profile custom_fwd custom_bwd typechecked beartype jaxtyped no_type_check deprecated skip skipIf
    skipUnless torchTest mark pass_context slow require_torch setter getter
    cache_resource cache_data experimental_singleton experimental_memo memo memoize cached
    configurable
    """
)
"""Last parts of decorators that leave alone what a function does to a model."""


@dataclass(frozen=True)
class LoaderClass:
    """Where a loader's constructor takes its arguments, by position."""

    dataset: int = 0
    batch_size: int = 1
    shuffle: int = 2
    graphs: bool = False
    """Whether a batch is of graphs, whose nodes are what BatchNorm counts."""
    flattens: bool = False
    """Whether it takes apart what a transform makes of one sample: several crops."""


LOADERS = {
    "torch.utils.data.DataLoader": LoaderClass(),
    "torch.utils.data.dataloader.DataLoader": LoaderClass(),
    "torch_geometric.loader.DataLoader": LoaderClass(graphs=True),
    "torch_geometric.data.DataLoader": LoaderClass(graphs=True),
    "monai.data.DataLoader": LoaderClass(flattens=True),
    "monai.data.ThreadDataLoader": LoaderClass(flattens=True),
    "torchdata.stateful_dataloader.StatefulDataLoader": LoaderClass(),
}

MODEL_NAME = re.compile(
    r"(?:^|[._])(?:model|net|network|generator|discriminator|encoder|decoder|backbone|classifier|"
    r"teacher|student|detector|net[A-Z]|[a-z]+(?:Net|Model)|unet|resnet\d*)\d?$"
)
"""Names of what is a network, where nothing else is known of it."""

JUDGES = re.compile(
    r"loss|lpips|percept|fid|metric|critic|disc|teach|momentum|target|ema|key|_k\b|shadow|old|"
    r"prev|ref_|inception|vgg|oracle|prior|guid",
    re.IGNORECASE,
)
"""Names of networks that judge or follow others, and what makes or freezes them."""

STAGES = re.compile(r"(?:layer\d|features|encoder|backbone|blocks|stages|body|bn\d*)$")
"""Parts of a known model with BatchNorm that hold some of it."""

DATASET_LENGTHS = {
    "MNIST": (60000, 10000),
    "FashionMNIST": (60000, 10000),
    "KMNIST": (60000, 10000),
    "CIFAR10": (50000, 10000),
    "CIFAR100": (50000, 10000),
}
"""Samples for training and for testing in torchvision's datasets with a `train` argument."""

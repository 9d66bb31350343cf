"""The settings of a fine-tuning: each is listed once, here or in a base class.

Values come in as a user types them; a frozen value goes out that `finetune` and the command
line share. What the values allow is checked here and by `prepare_finetune`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from featx.choices import HeadInit, Pool, Precision, Preprocess, ProbeClassifier, Resize
from featx.dataset.duplicates import DuplicateSettings
from featx.extraction.settings import DeviceSettings, GreySettings, ImageSettings
from featx.finetuning.history import EpochRecord
from featx.finetuning.settings import TrainingSettings
from featx.fitting import Model

__all__ = ["FinetuneProgress", "FinetuneSettings"]


@dataclass(frozen=True)
class FinetuneProgress:
    """Functions that are called while a fine-tuning runs.

    Parameters
    ----------
    stage : callable
        Called with a sentence when a stage begins or has a result.
    images : callable
        Called with (images done, images in total) while images are read.
    epoch : callable
        Called with (record of the epoch, maximum number of epochs) after each epoch.
    """

    stage: Callable[[str], None] = lambda text: None
    images: Callable[[int, int], None] = lambda done, total: None
    epoch: Callable[[EpochRecord, int], None] = lambda record, most: None


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(
    TrainingSettings, DuplicateSettings, DeviceSettings, GreySettings, ImageSettings
):
    """Settings of `finetune`: its images, its network, its training and its output.

    Parameters
    ----------
    layer : str, optional
        The last layer of the network, whose codes are the input of the head; "block5_pool"
        by default.
    pool : {"none", "avg", "max", "avg+max", "grid:N"}, optional
        How each feature map is pooled before the head; "avg" by default.
    size : int, str or (int, int), optional
        Image size at the input of the network, in pixels: one number, "HxW" or (height,
        width); 224 by default.
    init : str, optional
        Initial weights, as for `featx.extract`, or "random", which is "random:0"; "bundled"
        by default.
    rename : mapping of str to str, optional
        Layer names of the weights file, and the VGG19 layer that each one corresponds to.
    preprocess : {"caffe", "unit"}, optional
        See `featx.extract`; "caffe" by default.
    resize : {"squash", "crop", "pad"}, optional
        How an image gets the size; "squash" by default.
    precision : {"float32", "tf32", "bfloat16"}, optional
        Arithmetic of the network, whose weights are always float32; "float32" by default.
    clf : {"logistic", "ridge", "linear-svm"}, optional
        Classifier of the linear probe; "logistic" by default.
    from_model : Path, str or Model, optional
        A model of `featx.fit` with one of these classifiers. Its recipe, classifier and
        settings are used, so `layer` to `precision`, `clf`, `grey` and `white` cannot be given.
    head : str, default="linear"
        "linear", or the widths of hidden layers, such as "mlp:1024,1024".
    head_init : {"probe", "random"}, optional
        Initial weights of the head: those of the linear probe [2]_, which is the default of
        a linear head, or random ones.
    cache : int, optional
        Store the activations of the frozen layers instead of computing them in every
        epoch: 0 for the images without augmentation, K for K augmented copies of each.
    output : Path or str, default="tuned"
        The folder to write. If it holds an unfinished run with the same settings, that run
        is resumed.
    overwrite : bool, default=False
        Start over, instead of resuming.
    progress : FinetuneProgress, optional
        Functions that are called while the fine-tuning runs.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization",
       2019. https://arxiv.org/abs/1711.05101
    .. [2] A. Kumar, A. Raghunathan, R. Jones, T. Ma and P. Liang, "Fine-Tuning can
       Distort Pretrained Features and Underperform Out-of-Distribution", 2022.
       https://arxiv.org/abs/2202.10054
    """

    layer: str | None = None
    pool: Pool | None = None
    size: int | str | tuple[int, int] | None = None
    init: str | None = None
    rename: Mapping[str, str] | None = None
    preprocess: Preprocess | None = None
    resize: Resize | None = None
    precision: Precision | None = None
    clf: ProbeClassifier | None = None
    from_model: Path | str | Model | None = None
    head: str = "linear"
    head_init: HeadInit | None = None
    cache: int | None = None
    output: Path | str = "tuned"
    overwrite: bool = False
    progress: FinetuneProgress | None = None

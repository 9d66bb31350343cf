"""The options of the command line, each listed here once.

Each verb has a class of options. Names and defaults are those of the library's settings
classes (tests/test_flags.py compares them), which are not imported here: they need NumPy,
and `featx --help` must answer at once.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from featx.choices import (
    Augmentation,
    Calibration,
    Classifier,
    ClassWeight,
    Dtype,
    Duplicates,
    Grey,
    HeadInit,
    Jpeg,
    Normalise,
    Optimizer,
    Precision,
    Preprocess,
    PresetName,
    ProbeClassifier,
    Refit,
    Resize,
    ScalesJoin,
    Schedule,
    Select,
    Solver,
    Split,
)
from featx.cli.parsing import Options, option

Quiet = Annotated[bool, option("Print only results and errors.", None, "--quiet", "-q")]
AsJson = Annotated[bool, option("Print the result as one JSON object.", None, "--json")]
Preset = Annotated[
    PresetName | None, option("Named settings; options that you type override them.")
]
ClusterName = Annotated[
    str | None,
    option(
        "Dask cluster to run on; its workers must see the same files.",
        "local:N|tcp://HOST:PORT|tls://HOST:PORT|file:PATH",
        "--cluster",
    ),
]


# Options that differ between verbs only in their default, or in how often they may be given.
_Pool = partial(option, "How each feature map is pooled.")
_MODEL = "Model of featx fit or featx finetune."
_Size = partial(option, "Image size at the input of the network, in pixels.", "224|HxW")
_Scale = option(
    "Shorter side of the image, with its aspect ratio kept, instead of --size; repeatable.",
    "PIXELS",
)
_Resize = partial(option, "How an image is resized: stretched, cropped or padded.")
_Grey = Annotated[
    Grey | None,
    option(
        "Rule for images of more than 8 bits: what the file says (tags), or that of featx 0.1.",
        default="tags; that of the store if it is resumed",
    ),
]
_White = Annotated[
    float | None,
    option(
        "Value of white in images of more than 8 bits, such as 4095; floats and 32-bit integers "
        "need one.",
        "N",
        default="the largest value of their bits",
    ),
]
_Preprocess = partial(
    option, "Input of the network: BGR minus the ImageNet mean (caffe), or RGB / 255 (unit)."
)
_Precision = partial(option, "Number type of the arithmetic of the network.")
_Device = Annotated[str, option("Device that the network runs on.", "auto|cpu|gpu|gpu:N")]
_DeviceOrAll = Annotated[
    str,
    option(
        "Device that the network runs on; gpu:all starts a process for each GPU.",
        "auto|cpu|gpu|gpu:N|gpu:all",
    ),
]
_Rename = Annotated[
    list[str] | None,
    option("Layer OLD of the weights file is the VGG19 layer NEW; repeatable.", "OLD=NEW"),
]
_PathColumn = Annotated[
    str | None, option("Column of image paths in the table.", "NAME", default="path or file_name")
]
_Duplicates = Annotated[
    Duplicates,
    option("Treat near-duplicates as one group (together), or as different images (keep)."),
]
_ClassWeight = Annotated[
    ClassWeight | None, option("Give small classes the same weight as large ones.")
]
_Positive = Annotated[
    str | None,
    option("Class to find, of two: also print its ROC AUC, precision, recall and F1.", "CLASS"),
]
_Seed = Annotated[int, option("Random seed.")]
Overwrite = Annotated[bool, option("Replace the output if it exists.", None, "--overwrite")]
_Folder = Annotated[Path, option("Folder to write.", None, "--output", "-o")]
_Codes = Annotated[
    list[Path] | None,
    option("Store that the model was fitted on, if it was moved; repeatable.", "FILE"),
]
_Trust = Annotated[bool, option("Open a .joblib model, which can run any code.", None, "--trust")]


@dataclass(frozen=True, kw_only=True)
class _ListingOptions(Options):
    images: Annotated[
        str | None,
        typer.Argument(
            help="A folder of images, of class folders, or of train/, val/ and test/; or an "
            "archive or a URL of one.",
            show_default="data",
        ),
    ] = None
    manifest: Annotated[
        Path | None,
        option(
            "Table (CSV or Parquet) with a column path and any of label, split and group, "
            "instead of IMAGES."
        ),
    ] = None
    path_column: _PathColumn = None
    group: Annotated[
        str | None, option("Regular expression that finds the group of an image in its path.")
    ] = None
    prune: Annotated[
        bool,
        option("Remove the codes of images that are not listed from the store.", None, "--prune"),
    ] = False


@dataclass(frozen=True, kw_only=True)
class LayerOptions(Options):
    """Options that decide how large codes are."""

    pool: Annotated[str, _Pool("none|avg|max|avg+max|grid:N|bilinear")] = "none"
    size: Annotated[str, _Size()] = "224"
    dtype: Annotated[Dtype, option("Number type in the store.")] = "float32"


@dataclass(frozen=True, kw_only=True)
class _NetworkOptions(Options):
    resize: Annotated[Resize, _Resize()] = "squash"
    grey: _Grey = None
    white: _White = None
    flip: Annotated[
        bool, option("Average the codes of each image and its mirror image.", None, "--flip")
    ] = False
    crops: Annotated[
        int,
        option(
            "Average the codes of the corners and the centre (5), and of their mirror images (10).",
            "1|5|10",
        ),
    ] = 1
    weights: Annotated[
        str, option("Weights of the network.", "bundled|imagenet|FILE|random:SEED")
    ] = "bundled"
    rename: _Rename = None
    preprocess: Annotated[Preprocess, _Preprocess()] = "caffe"
    precision: Annotated[Precision, _Precision()] = "float32"
    device: _Device = "auto"


@dataclass(frozen=True, kw_only=True)
class _CodeLayerOptions(Options):
    layer: Annotated[list[str] | None, option("Layer to take codes from; repeatable.", "LAYER")] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class ExtractionOptions(_NetworkOptions, LayerOptions, _CodeLayerOptions, _ListingOptions):
    """Options of `featx plan`, the same as for `featx extract`."""

    jpeg: Annotated[Jpeg, option("Decode large JPEGs at reduced resolution, which is faster.")] = (
        "reduced"
    )
    scale: Annotated[list[int] | None, _Scale] = None
    scales_join: Annotated[
        ScalesJoin, option("Average or concatenate the codes of several scales.")
    ] = "mean"
    batch_size: Annotated[str, option("Images per batch.", "auto|N")] = "auto"
    decoders: Annotated[
        str,
        option("Decode images in N processes, or in threads of one.", "auto|threads|N"),
    ] = "auto"
    max_pixels: Annotated[int, option("Treat images with more pixels as unreadable.", "N")] = (
        178_956_970
    )
    output: Annotated[Path, option("Store to write.", None, "--output", "-o")] = Path("codes.h5")
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class GpusExtractionOptions(ExtractionOptions):
    """Options of `featx extract`."""

    device: _DeviceOrAll = "auto"


@dataclass(frozen=True, kw_only=True)
class _SearchOptions(Options):
    clf: Annotated[
        Classifier,
        option(
            "Classifier: logistic, ridge, linear-svm, svm-rbf, knn or centroid; lda, sgd, "
            "logistic-l1 or hist-gradient-boosting for narrow codes; or auto.",
            "CLASSIFIER",
        ),
    ] = "logistic"
    normalise: Annotated[
        Normalise,
        option("Normalisation applied to each feature vector.", None, "--normalise", "--normalize"),
    ] = "l2"
    class_weight: _ClassWeight = None
    duplicates: _Duplicates = "together"
    folds: Annotated[int, option("Number of cross-validation folds.", "N")] = 5
    seed: _Seed = 0


@dataclass(frozen=True, kw_only=True)
class _TableOptions(Options):
    labels: Annotated[
        Path | None, option("Table of labels, splits or groups by image path.", "TABLE")
    ] = None
    path_column: _PathColumn = None
    label_column: Annotated[
        str | None, option("Column of labels in that table.", "NAME", default="label")
    ] = None
    split_column: Annotated[
        str | None, option("Column of splits in that table.", "NAME", default="split")
    ] = None
    group_column: Annotated[
        str | None, option("Column of groups in that table.", "NAME", default="group")
    ] = None


@dataclass(frozen=True, kw_only=True)
class FitOptions(_TableOptions, _SearchOptions):
    """Options of `featx fit`."""

    codes: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A store, or several stores of the same images, whose codes are concatenated.",
            show_default="codes.h5",
        ),
    ] = None
    layer: Annotated[
        list[str] | None,
        option("Layer to use; repeatable.", "LAYER", default="all layers of the store"),
    ] = None
    solver: Annotated[Solver, option("How the classifier is fitted.")] = "auto"
    C: Annotated[
        str | None, option("Values of scikit-learn's penalty C to choose from.", "C,C,…", "--C")
    ] = None
    settings: Annotated[
        list[str] | None,
        option("Parameter of the scikit-learn estimator; repeatable.", "NAME=VALUE", "--set"),
    ] = None
    components: Annotated[
        int | None, option("Reduce the codes to K principal components.", "K")
    ] = None
    whiten: Annotated[
        bool, option("Scale each principal component to unit variance.", None, "--whiten")
    ] = False
    calibration: Annotated[Calibration, option("How decision scores become probabilities.")] = (
        "temperature"
    )
    repeats: Annotated[
        int | None,
        option(
            "Number of times the cross-validation is repeated.",
            "N",
            default="5, 3 or 1, by the number of images",
        ),
    ] = None
    select: Annotated[
        Select | None, option("Choose hyperparameters on val instead of by cross-validation.")
    ] = None
    positive: _Positive = None
    threshold: Annotated[
        str | None,
        option(
            "Probability from which on the class of --positive is predicted: a number, or the "
            "smallest recall or precision on held-out images of the training set.",
            "P|recall:R|precision:P",
            default="the more probable class is predicted",
        ),
    ] = None
    refit: Annotated[
        Refit | None, option("Fit the saved classifier on all images, including the test set.")
    ] = None
    baselines: Annotated[
        bool, option("Also score the majority class and a classifier on raw pixels.")
    ] = True
    output: Annotated[
        Path, option("Model to write: NAME.skops or NAME.joblib.", None, "--output", "-o")
    ] = Path("model.skops")
    overwrite: Overwrite = False
    partial: Annotated[
        bool, option("Use a store whose extraction is not complete.", None, "--partial")
    ] = False


@dataclass(frozen=True, kw_only=True)
class SweepOptions(_SearchOptions, _NetworkOptions, _ListingOptions):
    """Options of `featx sweep`."""

    layer: Annotated[
        list[str] | None,
        option("Layer to try in addition to the five pooling layers; repeatable.", "LAYER"),
    ] = None
    pool: Annotated[
        list[str] | None,
        option(
            "Pooling to try; repeatable.",
            "none|avg|max|avg+max|grid:N|bilinear",
            default="avg, max, avg+max, grid:2, and none if there is enough disk space",
        ),
    ] = None
    size: Annotated[
        list[str] | None,
        option("Image size to try, in pixels; repeatable.", "224|HxW", default="224"),
    ] = None
    scale: Annotated[list[int] | None, _Scale] = None
    device: _DeviceOrAll = "auto"
    budget: Annotated[
        str | None, option("Start no new work after this time: 90s, 10m or 2h.", "TIME")
    ] = None
    output: _Folder = Path("sweep")
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(_ListingOptions):
    """Options of `featx finetune`."""

    layer: Annotated[
        str | None,
        option(
            "Last layer of VGG19 that is used; the head follows it.", "LAYER", default="block5_pool"
        ),
    ] = None
    pool: Annotated[str | None, _Pool("none|avg|max|avg+max|grid:N", default="avg")] = None
    size: Annotated[str | None, _Size(default="224")] = None
    init: Annotated[
        str | None,
        option(
            "Initial weights of the network.", "bundled|imagenet|FILE|random", default="bundled"
        ),
    ] = None
    rename: _Rename = None
    freeze_until: Annotated[
        str | None,
        option(
            "Last layer whose weights are not trained.",
            "LAYER|none",
            default="the end of the last block but one; none with --init random",
        ),
    ] = None
    clf: Annotated[
        ProbeClassifier | None, option("Classifier of the linear probe.", default="logistic")
    ] = None
    from_model: Annotated[
        Path | None, option("Use the recipe and the classifier of this model.", "MODEL")
    ] = None
    head: Annotated[str, option("Layers that follow the network.", "linear|mlp:N,N")] = "linear"
    head_init: Annotated[
        HeadInit | None,
        option("Initial weights of the head.", default="probe; random for an mlp head"),
    ] = None
    dropout: Annotated[float, option("Dropout rate before each layer of the head.", "P")] = 0.0
    augment: Annotated[Augmentation, option("Augmentation of training images.")] = "flip"
    cache: Annotated[
        int | None,
        option(
            "Cache the output of the frozen layers: for the images as they are (0), or for K "
            "augmented versions of each.",
            "K",
        ),
    ] = None
    optimizer: Annotated[Optimizer, option("Optimizer; sgd has momentum 0.9.")] = "adamw"
    lr: Annotated[
        float | None, option("Learning rate of the head.", "RATE", default="1e-4; 1e-3 for sgd")
    ] = None
    block_decay: Annotated[
        float | None,
        option(
            "Learning rate of a block, relative to that of the next block.",
            "F",
            default="0.5; 1 with --init random",
        ),
    ] = None
    weight_decay: Annotated[float, option("Weight decay of the kernels.", "F")] = 1e-4
    schedule: Annotated[Schedule, option("Learning rate schedule.")] = "cosine"
    gradual: Annotated[
        bool, option("Unfreeze one block per epoch, the last block first.", None, "--gradual")
    ] = False
    epochs: Annotated[int, option("Maximum number of epochs.", "N")] = 20
    patience: Annotated[int, option("Stop after N epochs without improvement.", "N")] = 5
    batch_size: Annotated[
        str,
        option(
            "Images per step; auto means 32. Steps are split if memory is short, which "
            "does not change the result.",
            "auto|N",
        ),
    ] = "auto"
    class_weight: _ClassWeight = None
    duplicates: _Duplicates = "together"
    preprocess: Annotated[Preprocess | None, _Preprocess(default="caffe")] = None
    resize: Annotated[Resize | None, _Resize(default="squash")] = None
    grey: _Grey = None
    white: _White = None
    precision: Annotated[Precision | None, _Precision(default="float32")] = None
    device: _Device = "auto"
    output: _Folder = Path("tuned")
    overwrite: Overwrite = False
    seed: _Seed = 0


@dataclass(frozen=True, kw_only=True)
class _ClassifyingOptions(Options):
    codes: _Codes = None
    trust: _Trust = False
    weights: Annotated[
        str | None,
        option("Weights of the network, if they were moved.", "bundled|imagenet|FILE|random:SEED"),
    ] = None
    precision: Annotated[Precision | None, _Precision(default="that of the extraction")] = None
    device: _Device = "auto"


@dataclass(frozen=True, kw_only=True)
class _ModelOptions(_ClassifyingOptions):
    model: Annotated[Path, option(_MODEL)] = Path("model.skops")


@dataclass(frozen=True, kw_only=True)
class _LabelledInputOptions(_TableOptions, _ClassifyingOptions):
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Folders of labelled images; or stores of the same images."),
    ] = None
    split: Annotated[Split | None, option("Use only the images of this split.")] = None
    duplicates: _Duplicates = "together"
    manifest: Annotated[
        Path | None,
        option(
            "Table (CSV or Parquet) with the columns path and label and any of split and "
            "group, instead of INPUTS."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(_LabelledInputOptions, _ModelOptions):
    """Options of `featx evaluate`."""

    positive: _Positive = None


@dataclass(frozen=True, kw_only=True)
class _PairOptions(Options):
    baseline: Annotated[Path, typer.Argument(help="Model to compare with.")]
    model: Annotated[Path, typer.Argument(help=_MODEL)]


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions(_LabelledInputOptions, _PairOptions):
    """Options of `featx compare`."""


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(_ModelOptions):
    """Options of `featx predict`."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Images, or folders, archives or URLs of images; or stores of the same images."
        ),
    ] = None
    manifest: Annotated[
        Path | None,
        option("Table (CSV or Parquet) with the column path, instead of INPUTS."),
    ] = None
    path_column: _PathColumn = None
    device: _DeviceOrAll = "auto"
    output: Annotated[
        Path,
        option("Table to write: NAME.csv, NAME.parquet or NAME.jsonl.", None, "--output", "-o"),
    ] = Path("predictions.csv")
    top: Annotated[
        int | None,
        option("Write the K most probable labels, instead of the probability of every class.", "K"),
    ] = None
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class ExplanationOptions(_ModelOptions):
    """Options of `featx explain`."""

    model: Annotated[Path, typer.Argument(help=_MODEL)] = field()
    images: Annotated[list[str], typer.Argument(help="Images and folders of images.")]
    label: Annotated[
        str | None,
        option(
            "Class whose decision score is explained.",
            "LABEL",
            "--class",
            default="the predicted class",
        ),
    ] = None
    cells: Annotated[int, option("Number of rows and columns of an occlusion heat map.", "N")] = 7


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Options):
    """Options of `featx report`."""

    source: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL|SWEEP|FINETUNED",
            help="Model of featx fit, or folder of featx sweep or featx finetune.",
        ),
    ] = Path("model.skops")
    output: Annotated[Path, option("HTML page to write.", None, "--output", "-o")] = Path(
        "report.html"
    )
    codes: _Codes = None
    labels: Annotated[
        Path | None, option("Table of labels given to featx fit, if it was moved.", "TABLE")
    ] = None
    heat_maps: Annotated[
        int, option("Number of mistakes, and of correct predictions, with a heat map.", "N")
    ] = 6
    fetch: Annotated[
        bool, option("Fetch images that are URLs in the store, and weights, for heat maps.")
    ] = False
    trust: _Trust = False
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """Options of `featx export`."""

    codes: Annotated[Path, typer.Argument(help="Store to export.")] = Path("codes.h5")
    output: Annotated[
        Path, option("File to write: NAME.parquet, NAME.csv or NAME.npz.", None, "--output", "-o")
    ] = Path("codes.parquet")
    split: Annotated[Split | None, option("Export only the images of this split.")] = None
    overwrite: Overwrite = False

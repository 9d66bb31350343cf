"""The options of the command line, each listed once.

What the user typed comes in; a value of one class for each verb goes out, and its
`as_settings` are the keyword arguments of the library's function. Names and defaults are
those of the library's settings classes (tests/test_flags.py compares them), which are not
imported here: they need NumPy, and `featx --help` must answer at once.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.models import ParameterInfo

from featx.choices import (
    Augmentation,
    Calibration,
    Classifier,
    ClassWeight,
    Dtype,
    Duplicates,
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
    check_choices,
    choices_of,
)
from featx.cli.completion import completion_of
from featx.errors import OptionError

__all__ = [
    "AsJson",
    "ClusterName",
    "EvaluationOptions",
    "ExplanationOptions",
    "ExportOptions",
    "ExtractionOptions",
    "FinetuneOptions",
    "FitOptions",
    "GpusExtractionOptions",
    "LayerOptions",
    "Options",
    "Overwrite",
    "PredictionOptions",
    "Preset",
    "Quiet",
    "ReportOptions",
    "SweepOptions",
    "flat",
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Preset = Annotated[
    PresetName | None, typer.Option(help="Named settings; options that you type override them.")
]
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="local:N|tcp://HOST:PORT|file:PATH",
        help="Dask cluster to run on; its workers must see the same files.",
    ),
]


def _shown(option: Any, default: str) -> Any:
    """Return a copy of an option whose default the library decides; the help shows `default`."""
    option = copy(option)
    option.show_default = default
    return option


# Options that differ between verbs only in their default, or in how often they may be given.
_Pool = typer.Option(
    metavar="none|avg|max|avg+max|grid:N|bilinear", help="How each feature map is pooled."
)
_Size = typer.Option(metavar="224|HxW", help="Image size at the input of the network, in pixels.")
_Scale = typer.Option(
    metavar="PIXELS",
    help="Shorter side of the image, with its aspect ratio kept, instead of --size; repeatable.",
)
_Resize = typer.Option(help="How an image is resized: stretched, cropped or padded.")
_Preprocess = typer.Option(
    help="Input of the network: BGR minus the ImageNet mean (caffe), or RGB / 255 (unit)."
)
_Precision = typer.Option(help="Number type of the arithmetic of the network.")
_Device = Annotated[
    str, typer.Option(metavar="auto|cpu|gpu|gpu:N", help="Device that the network runs on.")
]
_DeviceOrAll = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|gpu|gpu:N|gpu:all",
        help="Device that the network runs on; gpu:all starts a process for each GPU.",
    ),
]
_Rename = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OLD=NEW",
        help="Layer OLD of the weights file is the VGG19 layer NEW; repeatable.",
    ),
]
_PathColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Column of image paths in the table.", show_default="path or file_name"
    ),
]
_ClassWeight = Annotated[
    ClassWeight | None, typer.Option(help="Give small classes the same weight as large ones.")
]
_Seed = Annotated[int, typer.Option(help="Random seed.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
_Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
_Codes = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="Store that the model was fitted on, if it was moved; repeatable."
    ),
]
_Trust = Annotated[
    bool, typer.Option("--trust", help="Open a .joblib model, which can run any code.")
]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of a verb as the user typed them."""

    def __post_init__(self) -> None:
        check_choices(self)

    def as_settings(self) -> dict[str, Any]:
        """Return the keyword arguments of the library's function.

        Options that were not given and have no default are left out.

        Raises
        ------
        OptionError
            A value cannot be read.
        """
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: _READERS[name](value) if name in _READERS else value
            for name, value in given.items()
            if value is not None
        }


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
        typer.Option(
            help="Table (CSV or Parquet) with a column path and any of label, split and group, "
            "instead of IMAGES."
        ),
    ] = None
    path_column: _PathColumn = None
    group: Annotated[
        str | None,
        typer.Option(help="Regular expression that finds the group of an image in its path."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class LayerOptions(Options):
    """Options that decide how large codes are."""

    pool: Annotated[str, _Pool] = "none"
    size: Annotated[str, _Size] = "224"
    dtype: Annotated[Dtype, typer.Option(help="Number type in the store.")] = "float32"


@dataclass(frozen=True, kw_only=True)
class _NetworkOptions(Options):
    resize: Annotated[Resize, _Resize] = "squash"
    flip: Annotated[
        bool, typer.Option("--flip", help="Average the codes of each image and its mirror image.")
    ] = False
    crops: Annotated[
        int,
        typer.Option(
            metavar="1|5|10",
            help="Average the codes of the corners and the centre (5), and of their mirror images "
            "(10).",
        ),
    ] = 1
    weights: Annotated[
        str,
        typer.Option(metavar="bundled|imagenet|FILE|random:SEED", help="Weights of the network."),
    ] = "bundled"
    rename: _Rename = None
    preprocess: Annotated[Preprocess, _Preprocess] = "caffe"
    precision: Annotated[Precision, _Precision] = "float32"
    device: _Device = "auto"


@dataclass(frozen=True, kw_only=True)
class _CodeLayerOptions(Options):
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="Layer to take codes from; repeatable."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ExtractionOptions(_NetworkOptions, LayerOptions, _CodeLayerOptions, _ListingOptions):
    """Options of `featx plan`, which are those of `featx extract`."""

    jpeg: Annotated[
        Jpeg, typer.Option(help="Decode large JPEGs at reduced resolution, which is faster.")
    ] = "reduced"
    scale: Annotated[list[int] | None, _Scale] = None
    scales_join: Annotated[
        ScalesJoin, typer.Option(help="Average or concatenate the codes of several scales.")
    ] = "mean"
    batch_size: Annotated[str, typer.Option(metavar="auto|N", help="Images per batch.")] = "auto"
    max_pixels: Annotated[
        int, typer.Option(metavar="N", help="Treat images with more pixels as unreadable.")
    ] = 178_956_970
    output: Annotated[Path, typer.Option("--output", "-o", help="Store to write.")] = Path(
        "codes.h5"
    )
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class GpusExtractionOptions(ExtractionOptions):
    """Options of `featx extract`."""

    device: _DeviceOrAll = "auto"


@dataclass(frozen=True, kw_only=True)
class _SearchOptions(Options):
    clf: Annotated[
        Classifier,
        typer.Option(
            metavar="CLASSIFIER",
            help="Classifier: logistic, ridge, linear-svm, svm-rbf, knn or centroid; lda, sgd, "
            "logistic-l1 or hist-gradient-boosting for short codes; or auto.",
        ),
    ] = "logistic"
    normalise: Annotated[
        Normalise,
        typer.Option(
            "--normalise", "--normalize", help="Normalization applied to each feature vector."
        ),
    ] = "l2"
    class_weight: _ClassWeight = None
    folds: Annotated[int, typer.Option(metavar="N", help="Number of cross-validation folds.")] = 5
    seed: _Seed = 0


@dataclass(frozen=True, kw_only=True)
class _TableOptions(Options):
    labels: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Table of labels, splits or groups by image path."),
    ] = None
    path_column: _PathColumn = None
    label_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of labels in that table.", show_default="label"),
    ] = None
    split_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of splits in that table.", show_default="split"),
    ] = None
    group_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of groups in that table.", show_default="group"),
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
        typer.Option(
            metavar="LAYER",
            help="Layer to use; repeatable.",
            show_default="all layers of the store",
        ),
    ] = None
    solver: Annotated[Solver, typer.Option(help="How the classifier is fitted.")] = "auto"
    C: Annotated[
        str | None,
        typer.Option(
            "--C", metavar="C,C,…", help="Values of scikit-learn's penalty C to choose from."
        ),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Parameter of the scikit-learn estimator; repeatable.",
        ),
    ] = None
    components: Annotated[
        int | None,
        typer.Option(metavar="K", help="Reduce the codes to K principal components."),
    ] = None
    whiten: Annotated[
        bool, typer.Option("--whiten", help="Scale each principal component to unit variance.")
    ] = False
    calibration: Annotated[
        Calibration,
        typer.Option(help="How decision scores become probabilities."),
    ] = "temperature"
    repeats: Annotated[
        int, typer.Option(metavar="N", help="Number of times the cross-validation is repeated.")
    ] = 1
    select: Annotated[
        Select | None,
        typer.Option(help="Choose hyperparameters on val instead of by cross-validation."),
    ] = None
    refit: Annotated[
        Refit | None,
        typer.Option(help="Fit the saved classifier on all images, including the test set."),
    ] = None
    duplicates: Annotated[
        Duplicates,
        typer.Option(help="Keep near-duplicates in the same fold (together), or ignore them."),
    ] = "together"
    baselines: Annotated[
        bool, typer.Option(help="Also score the majority class and a classifier on raw pixels.")
    ] = True
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Model to write: NAME.skops or NAME.joblib.")
    ] = Path("model.skops")
    overwrite: Overwrite = False
    partial: Annotated[
        bool, typer.Option("--partial", help="Use a store whose extraction is not complete.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class SweepOptions(_SearchOptions, _NetworkOptions, _ListingOptions):
    """Options of `featx sweep`."""

    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER", help="Layer to try beside the five pooling layers; repeatable."
        ),
    ] = None
    pool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="none|avg|max|avg+max|grid:N|bilinear",
            help="Pooling to try; repeatable.",
            show_default="avg, max, avg+max, grid:2, and none if there is enough disk space",
        ),
    ] = None
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="224|HxW", help="Image size to try, in pixels; repeatable.", show_default="224"
        ),
    ] = None
    scale: Annotated[list[int] | None, _Scale] = None
    device: _DeviceOrAll = "auto"
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Start no new work after this time: 90s, 10m or 2h."),
    ] = None
    output: _Folder = Path("sweep")
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(_ListingOptions):
    """Options of `featx finetune`."""

    layer: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER",
            help="Last layer of VGG19 that is used; the head follows it.",
            show_default="block5_pool",
        ),
    ] = None
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="none|avg|max|avg+max|grid:N",
            help="How each feature map is pooled.",
            show_default="avg",
        ),
    ] = None
    size: Annotated[str | None, _shown(_Size, "224")] = None
    init: Annotated[
        str | None,
        typer.Option(
            metavar="bundled|imagenet|FILE|random",
            help="Initial weights of the network.",
            show_default="bundled",
        ),
    ] = None
    rename: _Rename = None
    freeze_until: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER|none",
            help="Last layer whose weights are not trained.",
            show_default="the end of the last block but one; none with --init random",
        ),
    ] = None
    clf: Annotated[
        ProbeClassifier | None,
        typer.Option(help="Classifier of the linear probe.", show_default="logistic"),
    ] = None
    from_model: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Use the recipe and the classifier of this model."),
    ] = None
    head: Annotated[
        str, typer.Option(metavar="linear|mlp:N,N", help="Layers that follow the network.")
    ] = "linear"
    head_init: Annotated[
        HeadInit | None,
        typer.Option(
            help="Initial weights of the head.", show_default="probe; random for an mlp head"
        ),
    ] = None
    dropout: Annotated[
        float, typer.Option(metavar="P", help="Dropout rate before each layer of the head.")
    ] = 0.0
    augment: Annotated[Augmentation, typer.Option(help="Augmentation of training images.")] = "flip"
    cache: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Cache the output of the frozen layers: for the images as they are (0), or for K "
            "augmented versions of each.",
        ),
    ] = None
    optimizer: Annotated[Optimizer, typer.Option(help="Optimizer; sgd has momentum 0.9.")] = "adamw"
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE", help="Learning rate of the head.", show_default="1e-4; 1e-3 for sgd"
        ),
    ] = None
    block_decay: Annotated[
        float | None,
        typer.Option(
            metavar="F",
            help="Learning rate of a block, relative to that of the next block.",
            show_default="0.5; 1 with --init random",
        ),
    ] = None
    weight_decay: Annotated[
        float, typer.Option(metavar="F", help="Weight decay of the kernels.")
    ] = 1e-4
    schedule: Annotated[Schedule, typer.Option(help="Learning rate schedule.")] = "cosine"
    gradual: Annotated[
        bool, typer.Option("--gradual", help="Unfreeze one block per epoch, the last block first.")
    ] = False
    epochs: Annotated[int, typer.Option(metavar="N", help="Maximum number of epochs.")] = 20
    patience: Annotated[
        int, typer.Option(metavar="N", help="Stop after N epochs without improvement.")
    ] = 5
    batch_size: Annotated[
        str,
        typer.Option(
            metavar="auto|N",
            help="Images per step; auto means 32. Steps are split where memory is short, which "
            "does not change the result.",
        ),
    ] = "auto"
    class_weight: _ClassWeight = None
    preprocess: Annotated[Preprocess | None, _shown(_Preprocess, "caffe")] = None
    resize: Annotated[Resize | None, _shown(_Resize, "squash")] = None
    precision: Annotated[Precision | None, _shown(_Precision, "float32")] = None
    device: _Device = "auto"
    output: _Folder = Path("tuned")
    overwrite: Overwrite = False
    seed: _Seed = 0


@dataclass(frozen=True, kw_only=True)
class _ModelOptions(Options):
    model: Annotated[Path, typer.Option(help="Model of featx fit or featx finetune.")] = Path(
        "model.skops"
    )
    codes: _Codes = None
    trust: _Trust = False
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="bundled|imagenet|FILE|random:SEED",
            help="Weights of the network, if they were moved.",
        ),
    ] = None
    precision: Annotated[Precision | None, _shown(_Precision, "that of the extraction")] = None
    device: _Device = "auto"


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(_TableOptions, _ModelOptions):
    """Options of `featx evaluate`."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Folders of labelled images; or stores of the same images."),
    ] = None
    split: Annotated[Split | None, typer.Option(help="Use only the images of this split.")] = None
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Table (CSV or Parquet) with the columns path and label and any of split and "
            "group, instead of INPUTS."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class PredictionOptions(_ModelOptions):
    """Options of `featx predict`."""

    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, or folders, archives or URLs of images; or stores of the same images."
        ),
    ]
    device: _DeviceOrAll = "auto"
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Table to write: NAME.csv, NAME.parquet or NAME.jsonl."
        ),
    ] = Path("predictions.csv")
    top: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Write the K most probable labels, instead of the probability of every class.",
        ),
    ] = None
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class ExplanationOptions(_ModelOptions):
    """Options of `featx explain`."""

    model: Annotated[Path, typer.Argument(help="Model of featx fit or featx finetune.")] = field()
    images: Annotated[list[str], typer.Argument(help="Images and folders of images.")]
    label: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="LABEL",
            help="Class whose decision score is explained.",
            show_default="the predicted class",
        ),
    ] = None
    cells: Annotated[
        int,
        typer.Option(metavar="N", help="Number of rows and columns of an occlusion heat map."),
    ] = 7


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
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML page to write.")] = Path(
        "report.html"
    )
    codes: _Codes = None
    labels: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Table of labels given to featx fit, if it was moved."),
    ] = None
    heat_maps: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of mistakes, and of correct predictions, with a heat map."
        ),
    ] = 6
    trust: _Trust = False
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """Options of `featx export`."""

    codes: Annotated[Path, typer.Argument(help="Store to export.")] = Path("codes.h5")
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write: NAME.parquet, NAME.csv or NAME.npz."),
    ] = Path("codes.parquet")
    split: Annotated[Split | None, typer.Option(help="Export only the images of this split.")] = (
        None
    )
    overwrite: Overwrite = False


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the signature that typer reads: every option of its classes by itself.

    Options that have words to choose from show them in their help and complete to them.

    Parameters
    ----------
    command : callable
        A verb; a parameter whose type is a class of options gets a value of that class.

    Returns
    -------
    callable
        The verb, with one parameter for each option.
    """
    parameters = inspect.signature(command).parameters
    classes = {p.name: p.annotation for p in parameters.values() if _is_options(p.annotation)}
    expanded: dict[str, inspect.Parameter] = {}
    for parameter in parameters.values():
        if parameter.name in classes:
            fields = inspect.signature(classes[parameter.name]).parameters
            expanded |= fields
        else:
            expanded[parameter.name] = parameter
    shown = {
        name: each.replace(kind=each.KEYWORD_ONLY, annotation=_as_text(each.annotation))
        for name, each in expanded.items()
    }

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        for name, options in classes.items():
            values = {each: given.pop(each) for each in inspect.signature(options).parameters}
            given[name] = options(**values)
        command(**given)

    wrapper.__signature__ = inspect.Signature([*shown.values()])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {name: each.annotation for name, each in shown.items()}
    return wrapper


def _is_options(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Options)


def _as_text(annotation: Any) -> Any:
    """Return what typer reads; a fixed choice is text for it, since `Options` checks it."""
    if not hasattr(annotation, "__metadata__"):
        return annotation
    kind, *facts = get_args(annotation)
    choices = choices_of(kind)
    for fact in facts:
        if isinstance(fact, ParameterInfo):
            fact.metavar = fact.metavar or "|".join(choices) or None
            fact.autocompletion = completion_of(fact.metavar or "", choices)
    if choices:
        kind = str | None if type(None) in get_args(kind) else str
    return Annotated[kind, *facts]


# What the library takes as something else than the text that was typed.


def read_batch_size(text: str) -> Any:
    """Read a batch size.

    Raises
    ------
    OptionError
        It is neither "auto" nor a number.
    """
    if text == "auto":
        return "auto"
    if text.isdecimal():
        return int(text)
    message = f"--batch-size must be auto or a number of images, but it is {text}."
    raise OptionError(message)


def read_renames(texts: list[str]) -> dict[str, str]:
    """Read renames, divided at the last "=": no layer of VGG19 has one in its name.

    Raises
    ------
    OptionError
        One is not OLD=NEW, or two give one OLD different names.

    Examples
    --------
    >>> read_renames(["conv2d_1=block1_conv1", "a=b=block1_conv2"])
    {'conv2d_1': 'block1_conv1', 'a=b': 'block1_conv2'}
    """
    found: dict[str, str] = {}
    for text in texts:
        old, _, new = text.rpartition("=")
        if not old or not new:
            message = (
                f"Cannot read --rename {text}. Use --rename OLD=NEW with a layer of the weights "
                "file and the VGG19 layer that it is, such as conv2d_1=block1_conv2."
            )
            raise OptionError(message)
        if found.setdefault(old, new) != new:
            message = (
                f"--rename {old}={found[old]} and --rename {text} give one layer two names. Leave "
                "out one of them."
            )
            raise OptionError(message)
    return found


def read_numbers(text: str) -> list[float]:
    """Read numbers that are separated by commas.

    Raises
    ------
    OptionError
        One is not a number.

    Examples
    --------
    >>> read_numbers("1,10")
    [1.0, 10.0]
    """
    try:
        return [float(each) for each in text.split(",")]
    except ValueError as error:
        message = f"Cannot read --C {text}. Use numbers separated by commas, such as --C 1,10,100."
        raise OptionError(message) from error


def read_seconds(text: str) -> float:
    """Read a time.

    Raises
    ------
    OptionError
        It is not a number with a unit.

    Examples
    --------
    >>> read_seconds("90s"), read_seconds("1.5h")
    (90.0, 5400.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found:
        message = f"Cannot read --budget {text}. Use a time such as 90s, 10m or 2h."
        raise OptionError(message)
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _read_parameters(texts: list[str]) -> dict[str, Any]:
    from featx.fitting.classifiers import read_settings

    return read_settings(texts)


_READERS: dict[str, Callable[[Any], Any]] = {
    "rename": read_renames,
    "batch_size": read_batch_size,
    "C": read_numbers,
    "budget": read_seconds,
    "settings": _read_parameters,
}

"""The settings of the verbs that classify images with a model: each is listed here, once.

Values come in as a user types them; frozen values go out that `predict`, `evaluate`,
`explain` and the command line share. `prepare_prediction`, `prepare_evaluation` and
`prepare_explanation` check what the values allow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featx.choices import Precision, Split, check_choices
from featx.dataset.duplicates import DuplicateSettings
from featx.dataset.labels import LabelSettings
from featx.extraction.settings import DeviceSettings, Progress
from featx.fitting import Model
from featx.tables import TableSource

__all__ = [
    "ComparisonSettings",
    "EvaluationSettings",
    "ExplanationSettings",
    "InputSettings",
    "Inputs",
    "ModelSettings",
    "PredictionSettings",
    "PredictorSettings",
    "Progress",
    "RunSettings",
]

Inputs = Path | str | Sequence[Path | str]


@dataclass(frozen=True, kw_only=True)
class ModelSettings(DeviceSettings):
    """The model, and how it classifies images.

    Parameters
    ----------
    model : Path, str or Model, default="model.skops"
        The file that `featx fit` wrote, the tuned.keras of `featx finetune`, or a model in
        memory.
    codes : Path, str or sequence of them, optional
        The stores that the classifier was fitted on, if it compares images with their codes
        and the files have moved.
    trust : bool, default=False
        Allow a .joblib model, which can run any code when it is opened.
    weights : str, optional
        Where the weights file is now, if it has moved since the extraction.
    precision : {"float32", "tf32", "bfloat16"}, optional
        Arithmetic of the network, if not that of the extraction; probabilities then differ
        slightly.
    """

    model: Path | str | Model = "model.skops"
    codes: Inputs | None = None
    trust: bool = False
    weights: str | None = None
    precision: Precision | None = None

    def __post_init__(self) -> None:
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class PredictorSettings(ModelSettings):
    """Settings of `load_predictor`.

    Parameters
    ----------
    model : Path, str or Model, default="model.skops"
        The file that `featx fit` wrote, the tuned.keras of `featx finetune`, or a model in
        memory.
    """

    model: Path | str | Model = field(default="model.skops", kw_only=False)


@dataclass(frozen=True, kw_only=True)
class RunSettings(ModelSettings):
    """The model, and how its run over images is reported.

    Parameters
    ----------
    progress : callable, optional
        Called with (images done, images in total) after each batch.
    """

    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class InputSettings(RunSettings):
    """The images or stores that a model classifies.

    Parameters
    ----------
    inputs : Path, str or sequence of them
        Images and folders of images, which may be archives or URLs; or a store, or several
        stores of the same images, which are joined.
    manifest : Path, str, DataFrame or mapping of str to sequence, optional
        A table that lists images, instead of `inputs`; see `featx.images.list_images`.
    """

    inputs: Inputs = field(default=(), kw_only=False)
    manifest: TableSource | None = None


@dataclass(frozen=True, kw_only=True)
class PredictionSettings(InputSettings):
    """Settings of `predict`: its input, of which every image is classified, and its output.

    Parameters
    ----------
    path_column : str, optional
        Column of paths in the `manifest`.
    top : int, optional
        Number of labels for each image, the most probable first, instead of the
        probabilities of all classes.
    output : Path or str, optional
        Table to write: NAME.csv, NAME.parquet or NAME.jsonl (one JSON object per line).
        Nothing is written by default.
    overwrite : bool, default=False
        Replace the table if it exists.
    """

    path_column: str | None = None
    top: int | None = None
    output: Path | str | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class LabelledInputSettings(DuplicateSettings, LabelSettings, InputSettings):
    """Images with labels, from class folders, a table or a store.

    Parameters
    ----------
    path_column : str, optional
        Column of paths in the table of `labels` or in the `manifest`.
    split : {"train", "val", "test"}, optional
        Use only the images of this split.
    """

    split: Split | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(LabelledInputSettings):
    """Settings of `evaluate`.

    Parameters
    ----------
    positive : str, optional
        The class to find, if there are two: also score it by the area under the ROC curve, the
        average precision, its recall, its precision and its F1. By default, the class that the
        model was fitted with.
    """

    positive: str | None = None


@dataclass(frozen=True, kw_only=True)
class BaselineSettings:
    """The first of two models; a separate base class makes it the first argument.

    Parameters
    ----------
    baseline : Path, str or Model
        The model to compare with.
    """

    baseline: Path | str | Model = field(kw_only=False)


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings(LabelledInputSettings, BaselineSettings):
    """Settings of `compare`: two models, and the images that both classify.

    Parameters
    ----------
    model : Path, str or Model
        The model whose accuracy is compared with that of the baseline.
    inputs : Path, str or sequence of them
        Images and folders of images, which may be archives or URLs; or stores of the same
        images, which hold the codes of both models. Each model uses the stores of its recipe.
    codes : Path, str or sequence of them, optional
        The stores that the classifiers were fitted on, if they compare images with their codes
        and the files have moved. Each model uses the stores of its recipe.
    """

    model: Path | str | Model = field(kw_only=False)


@dataclass(frozen=True, kw_only=True)
class ExplanationSettings(RunSettings):
    """Settings of `explain`: the images, the class and the grid.

    Parameters
    ----------
    images : Path, str or sequence of them
        Images and folders of images. Images that cannot be read are skipped, with a
        warning.
    label : str or sequence of str, optional
        The class whose decision score is explained, or one class for each image; by
        default the predicted class.
    cells : int, default=7
        Number of cells on each side of the grid over which the grey square is moved.
    """

    images: Inputs = field(kw_only=False)
    label: str | Sequence[str] | None = None
    cells: int = 7

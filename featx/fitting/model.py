"""The model: a fitted classifier with the recipe of the codes that it classifies.

A pipeline and a recipe come in; one file goes out, and is read again. It is written with skops,
which runs no code of a file when it opens it: the types that a model may contain are listed
here, and a file with other types is refused. A file NAME.joblib is pickled instead, which can
run code when it is opened. This module does not know images.

Some classifiers compare codes with those of their training images. The model contains these
codes if they are small; otherwise it contains the path of their store, and finds the rows by
the SHA-256 of the images.
"""

import copy
import json
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from featx.codes.gram import GramCoordinates
from featx.codes.joining import join_stores
from featx.dataset.fingerprints import Fingerprints
from featx.documents import conform
from featx.errors import FeatxError, ModelError, OptionError, RecipeMismatchError
from featx.fitting.model_versions import one_version_note, saved_versions, version_remedy
from featx.fitting.old_models import OLD_FORMAT, renamed_content, with_present_names
from featx.fitting.pipeline import CodePipeline
from featx.metrics.decisions import PositiveClass, predicted_columns
from featx.metrics.two_classes import check_positive
from featx.outputs import whole_file
from featx.recipe import Recipe
from featx.text import composed, counted, printable, quoted_list, system_error
from featx.unpacking import member_chunks

__all__ = ["Model", "load_model"]

FORMAT = "featx-model"
FORMAT_VERSION = 3
#: Types that a model may contain, apart from those of NumPy and scikit-learn that skops trusts.
TRUSTED_TYPES = (
    "featx.fitting.calibration.PrecomputedScores",
    "featx.fitting.calibration.DecisionScores",
    "featx.fitting.calibration.TemperatureScaling",
    "featx.fitting.pipeline.CodePipeline",
    "featx.codes.matrix.CodeMatrix",
    "featx.codes.components.PrincipalComponents",
    "featx.fitting.estimators.Centroids",
    "featx.fitting.estimators.StableNeighbours",
    "featx.codes.scaling.CentredRows",
    "featx.codes.gram.GramCoordinates",
    "featx.codes.scaling.UnitRows",
    # Types of --calibration sigmoid and isotonic.
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    # Types of sgd and of gradient boosting; skops trusts most of them since 0.14.
    "sklearn._loss._loss.CyHalfBinomialLoss",
    "sklearn._loss._loss.CyHalfMultinomialLoss",
    "sklearn._loss._loss.CyHalfSquaredError",
    "sklearn._loss._loss.CyHuberLoss",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
# Libraries whose versions may name their types differently.
_VERSIONED = ("sklearn.", "numpy.", "scipy.")
_BLOCK_BYTES = 128_000_000
# Training codes of at most this size are stored in the model.
_KEPT_BYTES = 200_000_000
# skops does not compress, so a file that unpacks to more than both limits is an attack.
_MOST_UNPACKED_BYTES = 100_000_000
_MOST_UNPACKED_RATIO = 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A fitted classifier with the recipe of its codes.

    Parameters
    ----------
    classifier : CodePipeline
        Predicts labels from codes of shape (n, d), all layers side by side. It is an estimator
        of scikit-learn: `clone(model.classifier)` can be fitted on other codes, with the same
        settings and without groups of images, unless the model is a tuned network, was fitted by
        the streamed solver, or is of an earlier version.
    recipe : Recipe
        How the codes it was fitted on were made.
    provenance : dict
        The stores, their extraction, the settings of the fit, versions and the date.
    summary : dict
        How the classifier was chosen and scored; `featx fit --json` prints it.
    fitted_on : tuple of str
        SHA-256 of the files of the training images.
    fingerprints : Fingerprints, optional
        What tells near-duplicates of the training images, and their groups; models of
        featx 0.1 have none.
    positive : PositiveClass, optional
        The class to find, of two, and the threshold that decides whether it is predicted.
    """

    classifier: CodePipeline
    recipe: Recipe
    provenance: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    fitted_on: tuple[str, ...] = ()
    fingerprints: Fingerprints | None = None
    positive: PositiveClass | None = None

    def __repr__(self) -> str:
        classes = f"{counted(len(self.classes), 'class', 'classes')}: {quoted_list(self.classes)}"
        steps = ", ".join(type(step).__name__ for _, step in self.classifier.steps)
        return (
            f"<Model: {printable(self.summary.get('classifier', 'classifier'))} ({steps})\n"
            f"  {classes}\n"
            f"  fitted on {counted(len(self.fitted_on), 'image')}, "
            f"{self.recipe.n_features} features of {', '.join(self.recipe.layers)}>"
        )

    @property
    def gram(self) -> GramCoordinates | None:
        """The step that requires the training codes; None if no step does."""
        step: GramCoordinates | None = self.classifier.named_steps.get("gram")
        return step

    @property
    def lacks_codes(self) -> bool:
        """Whether the classifier needs training codes that the model does not contain."""
        return self.gram is not None and not hasattr(self.gram, "codes_")

    def open_codes(self, codes: Path | str | Sequence[Path | str] | None = None) -> None:
        """Open the training codes, if the classifier needs them and does not contain them.

        Parameters
        ----------
        codes : Path, str or sequence of them, optional
            The stores that the classifier was fitted on; by default, where they were then.

        Raises
        ------
        ModelError
            A store does not exist, or lacks training images.
        RecipeMismatchError
            The stores have codes of another recipe.
        """
        gram = self.gram
        if gram is None or not self.lacks_codes:
            return
        paths = self.provenance.get("codes", ()) if codes is None else codes
        paths = [paths] if isinstance(paths, str | Path) else list(paths)
        named = ", ".join(map(str, paths))
        missing = [str(path) for path in paths if not Path(path).is_file()]
        if missing:
            message = (
                "This classifier needs the codes of its training images, which are too large to "
                f"be stored in the model, and {', '.join(missing)} does not exist. Give the path "
                "of the store: --codes FILE"
            )
            raise ModelError(message)
        joined = join_stores(paths, self.recipe.layers)
        self.check_recipe(joined.recipe, named)
        row_of = {joined.images.sha256[row]: row for row in np.flatnonzero(joined.images.done)}
        n_lost = sum(digest not in row_of for digest in self.fitted_on)
        if n_lost:
            message = (
                f"{named} lacks {n_lost} of the {counted(len(self.fitted_on), 'image')} that the "
                "classifier was fitted on. Give the path of the store that has them: --codes FILE"
            )
            raise ModelError(message)
        gram.codes_ = joined.matrix(np.array([row_of[digest] for digest in self.fitted_on]))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        names = [str(label) for label in self.classifier.classes_]
        in_form = [composed(name) for name in names]
        # featx 0.1 could fit one class in two Unicode forms.
        return tuple(in_form if len(set(in_form)) == len(names) else names)

    def predicted_columns(self, probabilities: NDArray[np.floating]) -> NDArray[np.intp]:
        """Return the column of the predicted class for each row of probabilities.

        It is the most probable class, unless the model has a threshold: then it is the positive
        class if its probability is at least the threshold.

        Parameters
        ----------
        probabilities : ndarray of shape (n, n_classes)
            The result of `predict_proba`.

        Returns
        -------
        ndarray of int, shape (n,)
            Positions in `classes`.
        """
        if self.positive is None:
            return predicted_columns(probabilities)
        label, threshold = self.positive.label, self.positive.threshold
        return predicted_columns(probabilities, self.classes, label, threshold)

    def predict_proba(self, codes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probability of each class.

        Parameters
        ----------
        codes : ndarray of shape (n, d)
            Codes of the recipe. A memory-mapped array is read in blocks of rows.

        Returns
        -------
        ndarray of shape (n, n_classes)
            Columns are in the order of `classes`; each row sums to 1.

        Raises
        ------
        ModelError
            The classifier is damaged, or its training codes cannot be found.
        OptionError
            `codes` is not such an array, or holds NaN or infinite numbers.
        """
        codes = self._checked_codes(codes)
        self.open_codes()
        step = max(1, _BLOCK_BYTES // (8 * codes.shape[1]))
        blocks = [codes[start : start + step] for start in range(0, len(codes), step)]
        try:
            found = [self.classifier.predict_proba(block) for block in blocks]
            return np.concatenate([np.empty((0, len(self.classes))), *found])
        except FeatxError:
            raise
        # scikit-learn raises any of these for steps that do not fit together.
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if n_wrong := sum(int(np.sum(~np.isfinite(b).all(axis=1))) for b in blocks):
                message = (
                    f"{counted(n_wrong, 'row')} of the codes, of {len(codes):,}, "
                    f"{'has' if n_wrong == 1 else 'have'} NaN or infinite numbers. Leave out the "
                    "rows of images that are not done."
                )
                raise OptionError(message) from error
            remedy = version_remedy(self._saved_versions) or (
                "The model is damaged or was changed. Fit it again: featx fit --overwrite"
            )
            message = f"The classifier of the model cannot predict these codes: {error}. {remedy}"
            raise ModelError(message) from error

    @property
    def _saved_versions(self) -> dict[str, str]:
        found = self.provenance.get("scikit-learn")
        return {"scikit-learn": found} if isinstance(found, str) else {}

    def _checked_codes(self, codes: Any) -> NDArray[np.floating]:
        """Return codes as an array of shape (n, d)."""
        width = self.recipe.n_features
        try:
            found = codes if isinstance(codes, np.ndarray) else np.asarray(codes, dtype=np.float64)
        except (TypeError, ValueError) as error:
            message = f"codes must be an array of numbers of shape (n, {width}): {error}."
            raise OptionError(message) from error
        if found.ndim != 2 or found.shape[1] != width or found.dtype.kind not in "fiub":
            one = " Use codes[None] for one image." if found.shape == (width,) else ""
            message = (
                f"codes must be an array of numbers of shape (n, {width}), but the shape is "
                f"{found.shape} and the dtype {found.dtype}.{one}"
            )
            raise OptionError(message)
        return found

    def check_recipe(self, recipe: Recipe, name: str) -> None:
        """Check that the model can classify codes of a recipe.

        Another precision is only logged.

        Parameters
        ----------
        recipe : Recipe
            Recipe of the codes, which may have other layers too.
        name : str
            Name of the codes, for the message.

        Raises
        ------
        RecipeMismatchError
            The codes were made with other settings.
        """
        if set(self.recipe.layers) <= set(recipe.layers):
            recipe = recipe.with_layers(self.recipe.layers)
        found = recipe.differences(self.recipe)
        for difference in [d for d in found if d.field == "precision"]:
            logger.warning("%s: %s; codes differ slightly.", name, difference)
        wrong = [d for d in found if d.field != "precision"]
        if wrong:
            message = (
                f"{name} has codes of another recipe than the model's: "
                f"{'; '.join(map(str, wrong))}. "
                f"Extract again with {' '.join(d.flag for d in wrong)}."
            )
            raise RecipeMismatchError(message)

    def save(self, path: Path | str) -> None:
        """Write the model; an existing file is only replaced once the new one is complete.

        Parameters
        ----------
        path : Path or str
            NAME.skops, or NAME.joblib, which can run code when it is opened.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        path = Path(path)
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "classifier": self._saved_classifier(),
            "recipe": self.recipe.to_json(),
            "provenance": json.dumps(self.provenance),
            "summary": json.dumps(self.summary),
            "fitted_on": json.dumps(self.fitted_on),
        }
        if self.fingerprints is not None:
            content["fingerprints"] = json.dumps(asdict(self.fingerprints))
        if self.positive is not None:
            content["positive"] = json.dumps(asdict(self.positive))
        with whole_file(path) as temporary:
            if path.suffix == ".joblib":
                import joblib

                joblib.dump(content, temporary)
            else:
                import skops.io

                skops.io.dump(content, temporary)

    def _saved_classifier(self) -> CodePipeline:
        """Return the classifier with its training codes, or without them if they are large."""
        if self.gram is None:
            return self.classifier
        gram = copy.copy(self.gram)
        if hasattr(gram, "codes_"):
            if gram.codes_.nbytes <= _KEPT_BYTES:
                gram.codes_ = gram.codes_.in_memory()
            else:
                del gram.codes_
        classifier = copy.copy(self.classifier)
        classifier.steps = [("gram", gram), *self.classifier.steps[1:]]
        return classifier


def load_model(path: Path | str = "model.skops", *, trust: bool = False) -> Model:
    """Read a model. No code of the file runs, unless you trust it.

    Parameters
    ----------
    path : Path or str, default="model.skops"
        A file that `featx fit` wrote.
    trust : bool, default=False
        Open a .joblib file, which can run any code.

    Returns
    -------
    Model
        The model, ready to classify codes of its recipe.

    Raises
    ------
    ModelError
        The file does not exist, or is not a model that this version of featx can read.
    """
    path = Path(path)
    if not path.is_file():
        message = f"The model {path} does not exist. Fit one first: featx fit CODES -o {path}"
        raise ModelError(message)
    try:
        with one_version_note(path):
            content = _read_joblib(path, trust=trust) if path.suffix == ".joblib" else _read(path)
        return _model_of(_checked(path, content))
    except OptionError as error:  # of the recipe
        message = f"{path} cannot be read: {error}"
        raise ModelError(message) from error
    except FeatxError:
        raise
    # A damaged or foreign file can make the reader raise anything.
    except Exception as error:
        if (reason := system_error(error)) is not None:
            message = (
                f"{path} cannot be read: {reason}. The operating system reports this; the file may "
                "be intact. Fix the cause and run the same command again."
            )
            raise ModelError(message) from error
        first = str(error).strip().split("\n", maxsplit=1)[0]
        remedy = version_remedy(saved_versions(path)) or (
            "The file is damaged, truncated, or was not written by featx fit. Fit it again: featx "
            "fit --overwrite"
        )
        message = f"{path} cannot be read as a model: {first or type(error).__name__}. {remedy}"
        raise ModelError(message) from error


def _read(path: Path) -> Any:
    import skops.io

    _check_size(path)
    source = with_present_names(path)
    foreign = set(skops.io.get_untrusted_types(file=source)) - set(TRUSTED_TYPES)
    if foreign:
        listed = ", ".join(sorted(foreign))
        remedy = version_remedy(saved_versions(path))
        if remedy and all(name.startswith(_VERSIONED) for name in foreign):
            message = f"{path} contains types that are not known here: {listed}. {remedy}"
        else:
            message = (
                f"{path} contains types that a model of featx does not contain: {listed}. It was "
                "not opened, because it could run code."
            )
        raise ModelError(message)
    return skops.io.load(source, trusted=list(TRUSTED_TYPES))


def _check_size(path: Path) -> None:
    """Refuse an archive that would unpack to far more bytes than it has."""
    with zipfile.ZipFile(path) as archive:
        n_bytes = sum(info.file_size for info in archive.infolist())
    if n_bytes > max(_MOST_UNPACKED_BYTES, _MOST_UNPACKED_RATIO * path.stat().st_size):
        message = (
            f"{path} would unpack {path.stat().st_size:,} bytes to {n_bytes:,}, which no model of "
            "featx does. It was not opened."
        )
        raise ModelError(message)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:  # its stated size may be wrong
                for _ in member_chunks(archive, member):
                    pass


def _read_joblib(path: Path, *, trust: bool) -> Any:
    if not trust:
        message = (
            f"{path} is a joblib file, which can run code when it is opened. If you made it, or "
            "trust whoever did, add --trust. To make a model that runs no code: featx fit -o "
            "NAME.skops"
        )
        raise ModelError(message)
    import joblib

    try:
        return joblib.load(path)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("featx."):
            message = (
                f"{path} was written by another version of featx, whose joblib files this version "
                f"cannot open. Fit it again: featx fit CODES -o {path} --overwrite"
            )
        else:
            message = (
                f"{path} was saved with other versions of its libraries ({error}). Where they are "
                "installed, save it as a .skops file, which other versions can open: python -c "
                f'"import featx; featx.load_model({str(path)!r}, '
                f'trust=True).save({str(path.with_suffix(".skops"))!r})"'
            )
        raise ModelError(message) from error


def _checked(path: Path, content: Any) -> dict[str, Any]:
    """Return the content of a model in the present format."""
    if not isinstance(content, dict) or content.get("format") not in {FORMAT, OLD_FORMAT[0]}:
        message = (
            f"{path} is a {path.suffix[1:]} file, but not a model of featx. Fit one: featx fit "
            "CODES"
        )
        raise ModelError(message)
    version = content["format_version"]
    if (content["format"], version) == OLD_FORMAT:
        return renamed_content(content)
    if version != FORMAT_VERSION:
        remedy = (
            "Use a newer featx: pip install --upgrade featx"
            if version > FORMAT_VERSION
            else "Fit it again: featx fit --overwrite"
        )
        message = (
            f"{path} has format {version}, but this version of featx reads format "
            f"{FORMAT_VERSION}. {remedy}"
        )
        raise ModelError(message)
    return content


def _model_of(content: dict[str, Any]) -> Model:
    positive, known = content.get("positive"), content.get("fingerprints")
    classifier = content["classifier"]
    if type(classifier) is Pipeline:  # of an earlier version: `fit` raises, and changes nothing
        classifier = CodePipeline(classifier.steps)
    model = Model(
        classifier=classifier,
        recipe=Recipe.from_json(content["recipe"]),
        provenance=json.loads(content["provenance"]),
        summary=json.loads(content["summary"]),
        fitted_on=tuple(json.loads(content["fitted_on"])),
        fingerprints=None if known is None else conform(Fingerprints, json.loads(known)),
        positive=None if positive is None else conform(PositiveClass, json.loads(positive)),
    )
    types = {"classifier": CodePipeline, "provenance": dict, "summary": dict}
    for name, expected in types.items():
        if not isinstance(getattr(model, name), expected):
            message = f"its {name} is not a {expected.__name__}"
            raise TypeError(message)
    codes = model.provenance.get("codes", [])
    if not isinstance(codes, list) or not all(isinstance(each, str) for each in codes):
        message = "its provenance does not list the stores"
        raise TypeError(message)
    if not model.classes:
        message = "its classifier has no classes"
        raise ValueError(message)
    if model.positive is not None:
        check_positive(model.positive.label, model.classes)
    return model

"""The bundle: a fitted classifier together with the recipe of its codes.

A pipeline and a recipe come in; one file goes out, and comes back. It is
written with skops, which opens without running code: the types it may hold are
listed here, and a file that asks for others is refused. A name that ends in
.joblib is pickled instead, which runs code when it is opened. A bundle knows
codes, never images.

Some classifiers compare a code with those they were fitted on. The bundle
holds these where they are few; else it names the store, and finds them there by
the content of the images.
"""

import copy
import json
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from featx.codes.gram import GramCoordinates
from featx.codes.joining import join_stores
from featx.errors import FeatxError, ModelError, OptionError, RecipeMismatchError
from featx.outputs import whole_file
from featx.recipe import Recipe
from featx.text import counted

__all__ = ["Model", "load_model"]

FORMAT = "featx-bundle"
FORMAT_VERSION = 2
#: Types beyond plain NumPy and scikit-learn estimators that a bundle may hold.
TRUSTED_TYPES = (
    "featx.fitting.calibration.PrecomputedScores",
    "featx.fitting.calibration.DecisionScores",
    "featx.fitting.calibration.TemperatureScaling",
    "featx.codes.matrix.CodeMatrix",
    "featx.codes.components.PrincipalComponents",
    "featx.fitting.estimators.Centroids",
    "featx.fitting.estimators.StableNeighbours",
    "featx.codes.gram.CentredRows",
    "featx.codes.gram.GramCoordinates",
    "featx.codes.gram.UnitRows",
    # Of --calibration sigmoid and isotonic, and of gradient boosting.
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
#: Types in files of 0.1, and their present names.
RENAMED_TYPES = {
    "featx.classification.calibration.Decided": "featx.fitting.calibration.PrecomputedScores",
    "featx.classification.calibration.Decisions": "featx.fitting.calibration.DecisionScores",
    "featx.classification.calibration.Temperature": "featx.fitting.calibration.TemperatureScaling",
    "featx.classification.codes.CodeMatrix": "featx.codes.matrix.CodeMatrix",
    "featx.classification.components.PrincipalComponents": (
        "featx.codes.components.PrincipalComponents"
    ),
    "featx.classification.estimators.Centroids": "featx.fitting.estimators.Centroids",
    "featx.classification.estimators.StableNeighbours": (
        "featx.fitting.estimators.StableNeighbours"
    ),
    "featx.classification.span.CentredRows": "featx.codes.gram.CentredRows",
    "featx.classification.span.ExactSpan": "featx.codes.gram.GramCoordinates",
    "featx.classification.span.UnitRows": "featx.codes.gram.UnitRows",
}
_BLOCK_BYTES = 128_000_000
# Codes that a classifier compares with are kept up to here; above, the store is named.
_KEPT_BYTES = 200_000_000
# An archive that unpacks to more than both was made to fill the memory.
_MOST_FREE = 100_000_000
_MOST_PACKED = 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A fitted classifier with the recipe of its codes.

    Parameters
    ----------
    classifier : sklearn.pipeline.Pipeline
        From codes, (n, d), all layers side by side, to labels.
    recipe : Recipe
        Of the codes it was fitted on.
    provenance : dict
        Where the weights came from, who fitted it, when and with what.
    summary : dict
        What was fitted on what, and how it scored.
    fitted_on : tuple of str
        Of the images that it was fitted on, the sha256 of their files.
    """

    classifier: Pipeline
    recipe: Recipe
    provenance: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    fitted_on: tuple[str, ...] = ()

    @property
    def span(self) -> GramCoordinates | None:
        """What needs the codes that the classifier was fitted on; None where nothing does."""
        step: GramCoordinates | None = self.classifier.named_steps.get("span")
        return step

    def open_codes(self, codes: Path | str | Sequence[Path | str] | None = None) -> None:
        """Find the codes that the classifier compares with, where the bundle does not hold them.

        Parameters
        ----------
        codes : Path, str or sequence of them, optional
            The stores that it was fitted on; by default, where they were then.

        Raises
        ------
        ModelError
            They are not there, or hold other images.
        RecipeMismatchError
            They hold codes of another recipe.
        """
        span = self.span
        if span is None or hasattr(span, "codes_"):
            return
        paths = self.provenance.get("codes", ()) if codes is None else codes
        paths = [paths] if isinstance(paths, str | Path) else list(paths)
        missing = [str(path) for path in paths if not Path(path).is_file()]
        if missing:
            message = (
                f"This classifier compares with the codes it was fitted on, which are not in the "
                f"bundle, since they are large, and {', '.join(missing)} is not there. Say where "
                "the store is now: --codes FILE"
            )
            raise ModelError(message)
        joined = join_stores(paths, self.recipe.layers)
        self.check_recipe(joined.recipe, ", ".join(map(str, paths)))
        places = {joined.images.sha256[row]: row for row in np.flatnonzero(joined.images.done)}
        lost = sum(digest not in places for digest in self.fitted_on)
        if lost:
            message = (
                f"{', '.join(map(str, paths))} lacks {lost} of the "
                f"{counted(len(self.fitted_on), 'image')} that the classifier was fitted on. Say "
                "where the store is now: --codes FILE"
            )
            raise ModelError(message)
        span.codes_ = joined.matrix(np.array([places[digest] for digest in self.fitted_on]))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return tuple(str(label) for label in self.classifier.classes_)

    def predict_proba(self, codes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probability of each class.

        Parameters
        ----------
        codes : ndarray of shape (n, d)
            May be memory-mapped; a block of rows is in memory at a time.

        Returns
        -------
        ndarray of shape (n, n_classes)
            Columns in the order of `classes`; rows add up to 1.
        """
        self.open_codes()
        step = max(1, _BLOCK_BYTES // (8 * codes.shape[1]))
        blocks = [codes[start : start + step] for start in range(0, len(codes), step)]
        try:
            parts = [self.classifier.predict_proba(block) for block in blocks]
            return np.concatenate([np.empty((0, len(self.classes))), *parts])
        except FeatxError:
            raise
        # Whatever parts that do not belong together lead scikit-learn to.
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            message = (
                f"The bundle's classifier cannot classify these codes: {error}. It was damaged or "
                "changed. Make it again: featx fit --overwrite"
            )
            raise ModelError(message) from error

    def check_recipe(self, recipe: Recipe, what: str) -> None:
        """Make sure that codes of another source may be classified.

        Parameters
        ----------
        recipe : Recipe
            Of the codes; it may have further layers.
        what : str
            Their name, for the message.

        Raises
        ------
        RecipeMismatchError
            They were made otherwise. Another precision is only logged.
        """
        if set(self.recipe.layers) <= set(recipe.layers):
            recipe = recipe.with_layers(self.recipe.layers)
        found = recipe.differences(self.recipe)
        for difference in [d for d in found if d.field == "precision"]:
            logger.warning("%s: %s; codes differ a little.", what, difference)
        wrong = [d for d in found if d.field != "precision"]
        if wrong:
            message = (
                f"{what} holds codes of another recipe than the classifier's: "
                f"{'; '.join(map(str, wrong))}. "
                f"Extract again with {' '.join(d.flag for d in wrong)}."
            )
            raise RecipeMismatchError(message)

    def save(self, path: Path | str) -> None:
        """Write the bundle; a file of that name is replaced at the end, at once.

        Parameters
        ----------
        path : Path or str
            NAME.skops, or NAME.joblib, which runs code when it is opened.

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
        with whole_file(path) as temporary:
            if path.suffix == ".joblib":
                import joblib

                joblib.dump(content, temporary)
            else:
                import skops.io

                skops.io.dump(content, temporary)

    def _saved_classifier(self) -> Pipeline:
        """Return the classifier with the codes that it compares with, or without them."""
        if self.span is None:
            return self.classifier
        span = copy.copy(self.span)
        if hasattr(span, "codes_"):
            if span.codes_.nbytes <= _KEPT_BYTES:
                span.codes_ = span.codes_.in_memory()
            else:
                del span.codes_
        return Pipeline([("span", span), *self.classifier.steps[1:]])


def load_model(path: Path | str = "model.skops", *, trust: bool = False) -> Model:
    """Read a bundle. No code of the file is run, unless you trust it.

    Parameters
    ----------
    path : Path or str, default="model.skops"
        A file that `featx fit` wrote.
    trust : bool, default=False
        Whether to open a .joblib file, which can run any code of its maker.

    Returns
    -------
    Model
        Ready to classify codes of its recipe.

    Raises
    ------
    ModelError
        There is no such file, or it is no bundle that this featx can read.
    """
    path = Path(path)
    named = path.suffix in {".skops", ".joblib"}
    if path.is_file() and not named and not zipfile.is_zipfile(path):
        message = f"{path} is no bundle. Expected a file that featx fit wrote, such as model.skops."
        raise ModelError(message)
    if not path.is_file():
        message = f"No bundle {path}. Make one first: featx fit CODES -o {path}"
        raise ModelError(message)
    try:
        return _unpack(_load_joblib(path, trust=trust) if path.suffix == ".joblib" else _load(path))
    except OptionError as error:  # of the recipe
        message = f"{path} cannot be read: {error}"
        raise ModelError(message) from error
    except FeatxError:
        raise
    # Whatever a damaged or foreign file makes the reader stumble over, the answer is the same.
    except Exception as error:
        first = str(error).strip().split("\n", maxsplit=1)[0]
        message = (
            f"{path} cannot be read as a bundle: {first or type(error).__name__}. It is damaged, "
            "truncated, or was not written by featx fit. Make it again: featx fit --overwrite"
        )
        raise ModelError(message) from error


def _load(path: Path) -> dict[str, Any]:
    import skops.io

    _check_size(path)
    foreign = set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED_TYPES)
    if foreign:
        message = (
            f"{path} holds types that no bundle of featx holds: {', '.join(sorted(foreign))}. "
            "It was not loaded, since that could run code of its maker."
        )
        raise ModelError(message)
    return _checked(path, skops.io.load(path, trusted=list(TRUSTED_TYPES)))


def _check_size(path: Path) -> None:
    """Refuse an archive that would unpack to far more than it is; skops packs nothing."""
    with zipfile.ZipFile(path) as archive:
        n_bytes = sum(info.file_size for info in archive.infolist())
    if n_bytes > max(_MOST_FREE, _MOST_PACKED * path.stat().st_size):
        message = (
            f"{path} would unpack {path.stat().st_size:,} bytes to {n_bytes:,}, as no bundle of "
            "featx does. It was not loaded."
        )
        raise ModelError(message)


def _load_joblib(path: Path, *, trust: bool) -> dict[str, Any]:
    if not trust:
        message = (
            f"{path} is a joblib file, which runs code of its maker when it is opened. If you "
            "made it, or trust who did, say --trust. Bundles that run no code: featx fit -o "
            "NAME.skops"
        )
        raise ModelError(message)
    import joblib

    return _checked(path, joblib.load(path))


def _checked(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        message = (
            f"{path} is a {path.suffix[1:]} file, but no bundle of featx. Make one: featx fit CODES"
        )
        raise ModelError(message)
    if content["format_version"] != FORMAT_VERSION:
        remedy = (
            "Use a newer one: pip install --upgrade featx"
            if content["format_version"] > FORMAT_VERSION
            else "Make it again: featx fit --overwrite"
        )
        message = (
            f"{path} has format {content['format_version']}; this featx reads format "
            f"{FORMAT_VERSION}. {remedy}"
        )
        raise ModelError(message)
    return content


def _unpack(content: dict[str, Any]) -> Model:
    bundle = Model(
        classifier=content["classifier"],
        recipe=Recipe.from_json(content["recipe"]),
        provenance=json.loads(content["provenance"]),
        summary=json.loads(content["summary"]),
        fitted_on=tuple(json.loads(content["fitted_on"])),
    )
    kinds = {"classifier": Pipeline, "provenance": dict, "summary": dict}
    for name, kind in kinds.items():
        if not isinstance(getattr(bundle, name), kind):
            message = f"its {name} is no {kind.__name__}"
            raise TypeError(message)
    codes = bundle.provenance.get("codes", [])
    if not isinstance(codes, list) or not all(isinstance(each, str) for each in codes):
        message = "its provenance names no stores"
        raise TypeError(message)
    if not bundle.classes:
        message = "its classifier knows no class"
        raise ValueError(message)
    return bundle

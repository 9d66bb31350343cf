"""The bundle: a fitted classifier together with the recipe of its codes.

A pipeline and a recipe come in; one file goes out, and comes back. It is
written with skops, which opens without running code: the types it may hold are
listed here, and a file that asks for others is refused. A bundle knows codes,
never images.
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from featx.errors import BundleError, FeatxError, OptionError, RecipeMismatchError
from featx.outputs import whole_file
from featx.recipe import Recipe

__all__ = ["Bundle", "load_bundle"]

FORMAT = "featx-bundle"
FORMAT_VERSION = 1
#: Types beyond plain NumPy and scikit-learn estimators that a bundle may hold.
TRUSTED_TYPES = (
    "featx.classification.span.UnitRows",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._TemperatureScaling",
)
_BLOCK_BYTES = 128_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
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
    """

    classifier: Pipeline
    recipe: Recipe
    provenance: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

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
        """
        step = max(1, _BLOCK_BYTES // (8 * codes.shape[1]))
        blocks = [codes[start : start + step] for start in range(0, len(codes), step)]
        parts = [self.classifier.predict_proba(block) for block in blocks]
        return np.concatenate([np.empty((0, len(self.classes))), *parts])

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
            recipe = recipe.narrowed(self.recipe.layers)
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

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        import skops.io

        path = Path(path)
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "classifier": self.classifier,
            "recipe": self.recipe.to_json(),
            "provenance": json.dumps(self.provenance),
            "summary": json.dumps(self.summary),
        }
        with whole_file(path) as temporary:
            skops.io.dump(content, temporary)


def load_bundle(path: Path | str = "model.skops") -> Bundle:
    """Read a bundle. No code of the file is run.

    Parameters
    ----------
    path : Path or str, default="model.skops"
        A file that `featx fit` wrote.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        There is no such file, or it is no bundle that this featx can read.
    """
    path = Path(path)
    if not path.is_file():
        message = f"No bundle {path}. Make one first: featx fit CODES -o {path}"
        raise BundleError(message)
    try:
        return _unpack(_load(path))
    except OptionError as error:  # of the recipe
        message = f"{path} cannot be read: {error}"
        raise BundleError(message) from error
    except FeatxError:
        raise
    # Whatever a damaged or foreign file makes the reader stumble over, the answer is the same.
    except Exception as error:
        first = str(error).strip().split("\n", maxsplit=1)[0]
        message = (
            f"{path} cannot be read as a bundle: {first or type(error).__name__}. It is damaged, "
            "truncated, or was not written by featx fit. Make it again: featx fit --overwrite"
        )
        raise BundleError(message) from error


def _load(path: Path) -> dict[str, Any]:
    import skops.io

    foreign = set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED_TYPES)
    if foreign:
        message = (
            f"{path} holds types that no bundle of featx holds: {', '.join(sorted(foreign))}. "
            "It was not loaded, since that could run code of its maker."
        )
        raise BundleError(message)
    content = skops.io.load(path, trusted=list(TRUSTED_TYPES))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        message = f"{path} is a skops file, but no bundle of featx. Make one: featx fit CODES"
        raise BundleError(message)
    if content["format_version"] > FORMAT_VERSION:
        message = (
            f"{path} has format {content['format_version']}; this featx reads format "
            f"{FORMAT_VERSION}. Use a newer one: pip install --upgrade featx"
        )
        raise BundleError(message)
    return content


def _unpack(content: dict[str, Any]) -> Bundle:
    return Bundle(
        classifier=content["classifier"],
        recipe=Recipe.from_json(content["recipe"]),
        provenance=json.loads(content["provenance"]),
        summary=json.loads(content["summary"]),
    )

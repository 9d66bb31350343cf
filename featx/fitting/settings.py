"""The settings of a fit, each listed and documented once.

Values come in as a user passes them to `featx.fit`; a frozen dataclass goes out, whose values
were checked as far as they can be without a store. This module does not read any file.
"""

import dataclasses
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featx.choices import (
    Calibration,
    Classifier,
    ClassWeight,
    Normalise,
    Refit,
    Select,
    Solver,
    check_choices,
)
from featx.dataset.duplicates import DuplicateSettings
from featx.dataset.folds import DEFAULT_FOLDS
from featx.dataset.labels import LabelSettings
from featx.documents import conform
from featx.errors import OptionError
from featx.fitting.classifiers import CLASSIFIERS, ClassifierKind, find_classifiers
from featx.fitting.grid_search import SearchSpace
from featx.metrics.two_classes import ThresholdRule, read_threshold
from featx.tables import table_name

__all__ = ["ClassifierSettings", "FitSettings"]

# Choices of --normalise auto; "none" was never the best.
_NORMALISE_AUTO = ("l2", "centre", "sqrt-l2")
# These neither change the classifier nor its score, so a model does not store them.
_NOT_STORED = ("codes", "baselines", "output", "overwrite", "partial")


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(DuplicateSettings):
    """Which classifiers are tried and how they are validated, for a fit and for a sweep.

    Parameters
    ----------
    clf : str, default="logistic"
        "logistic" (multinomial, L2 penalty: use it if probabilities matter), "ridge" (the
        fastest), "linear-svm" (one-vs-rest), "svm-rbf", "knn" or "centroid", which are exact
        for any number of features; "lda", "sgd", "logistic-l1" or "hist-gradient-boosting"
        for narrow codes; or "auto", which tries the first seven (lda if there are at most
        1,024 features) and prefers a linear one within one standard error of the best.
    normalise : {"l2", "centre", "sqrt-l2", "none", "auto"}, default="l2"
        Normalisation applied to each feature vector. "l2" scales it to unit length.
        "centre" also subtracts the mean of the training set and scales again. "sqrt-l2"
        takes the signed square root of each feature first. "none" leaves codes as they are.
        "auto" tries the first three with each classifier.
    class_weight : {"balanced"}, optional
        Weigh images so that small classes count as much as large ones.
    folds : int, default=5
        Number of folds of the cross-validation.
    seed : int, default=0
        Random seed.
    """

    clf: Classifier = "logistic"
    normalise: Normalise = "l2"
    class_weight: ClassWeight | None = None
    folds: int = DEFAULT_FOLDS
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        if self.folds < 2:
            message = f"--folds must be 2 or more, but it is {self.folds}."
            raise OptionError(message)
        if not 0 <= operator.index(self.seed) < 2**32:  # what NumPy accepts
            message = f"--seed must be from 0 to 4294967295, but it is {self.seed}."
            raise OptionError(message)
        _ = self.kinds

    @property
    def kinds(self) -> tuple[ClassifierKind, ...]:
        """Classifiers to choose from."""
        kinds = tuple(find_classifiers(self.clf))
        if self.class_weight is None:
            return kinds
        weighted = tuple(kind for kind in kinds if kind.has_class_weight)
        if not weighted:
            message = (
                f"{self.clf} does not support class weights. Leave out --class-weight, or use "
                "--clf logistic."
            )
            raise OptionError(message)
        return weighted


@dataclass(frozen=True, kw_only=True)
class FitSettings(LabelSettings, ClassifierSettings):
    """Settings of a fit: its stores, classifiers, cross-validation, scores and output.

    Parameters
    ----------
    codes : Path, str or sequence of them, default="codes.h5"
        A store, or several stores of the same images, whose codes are concatenated.
    layer : str or sequence of str, optional
        Layers to use; all layers of the stores by default, each with the same weight.
    solver : {"auto", "primal", "gram", "streamed"}, default="auto"
        How the classifier is fitted; see `featx.fitting.solvers`.
    C : float or sequence of float, optional
        Penalties to try, as scikit-learn's C on the normalised codes (1 / C is ridge's
        alpha), instead of 28 values from 1e-3 to 1e6.
    settings : mapping of str to object, optional
        Parameters of the scikit-learn estimator. A parameter given here is not searched.
    components : int, optional
        Fit on this number of principal components [2]_ of the normalised codes. The
        components are computed from the training set of each fold, so no held-out image
        influences them. The model stores them in float32, and then no classifier needs the
        codes it was fitted on. With components every classifier is exact.
    whiten : bool, default=False
        Divide each component by its standard deviation in the training set [3]_. Requires
        `components`.
    calibration : {"temperature", "sigmoid", "isotonic", "none"}, default="temperature"
        How decision scores become probabilities; fitted on held-out rows. Temperature
        scaling [1]_ never changes a predicted class.
    repeats : int, optional
        Number of times that the cross-validation is repeated with other folds; by default 5 for
        fewer than 100 images, 3 for fewer than 300, and otherwise 1. The score is the mean of
        the repeats. With given splits, or the streamed solver, nothing is repeated.
    select : {"val"}, optional
        Choose the settings on the val split rather than on folds of train; requires train,
        val and test.
    positive : str, optional
        The class to find, if there are two: also score it by the area under the ROC curve, the
        average precision, its recall, its precision and its F1.
    threshold : float or str, optional
        Probability from which on an image is predicted as the class `positive`, instead of the
        more probable class. "recall:0.95" and "precision:0.9" choose it on held-out images of
        the training set, in each fold of a cross-validation again; the model keeps it.
    refit : {"all"}, optional
        Fit the saved classifier on all images, including those that the score is from.
    baselines : bool, default=True
        Also score the majority class, and a classifier on raw pixels.
    output : Path or str, optional
        Where to save the model, NAME.skops or NAME.joblib; it is not saved by default.
    overwrite : bool, default=False
        Replace the output file if it exists.
    partial : bool, default=False
        Use a store even if its extraction is not complete.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of
       Modern Neural Networks", 2017. https://arxiv.org/abs/1706.04599
    .. [2] K. Pearson, "On Lines and Planes of Closest Fit to Systems of Points in
       Space", Philosophical Magazine 2(11), 1901.
    .. [3] H. Jegou and O. Chum, "Negative evidences and co-occurrences in image
       retrieval: the benefit of PCA and whitening", ECCV 2012.
    """

    codes: Path | str | Sequence[Path | str] = field(default="codes.h5", kw_only=False)
    layer: str | Sequence[str] | None = None
    solver: Solver = "auto"
    C: float | Sequence[float] | None = None
    settings: Mapping[str, Any] | None = None
    components: int | None = None
    whiten: bool = False
    calibration: Calibration = "temperature"
    repeats: int | None = None
    select: Select | None = None
    positive: str | None = None
    threshold: float | str | None = None
    refit: Refit | None = None
    baselines: bool = True
    output: Path | str | None = None
    overwrite: bool = False
    partial: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repeats is not None and self.repeats < 1:
            message = f"--repeats must be 1 or more, but it is {self.repeats}."
            raise OptionError(message)
        if self.components is not None and operator.index(self.components) < 1:
            message = f"--components must be 1 or more, but it is {self.components}."
            raise OptionError(message)
        if self.whiten and self.components is None:
            message = (
                "--whiten divides principal components by their standard deviation, so it "
                "requires --components. Use, for example, --components 64 --whiten."
            )
            raise OptionError(message)
        if self.settings and len(self.kinds) > 1:
            message = (
                f"--set changes one classifier, but --clf {self.clf} tries several. Use --clf "
                f"with one of {', '.join(kind.name for kind in self.kinds)}."
            )
            raise OptionError(message)
        self._check_penalties()
        if self.threshold is not None and self.positive is None:
            message = (
                f"--threshold {self.threshold} is the probability of one of two classes, so it "
                "requires --positive CLASS."
            )
            raise OptionError(message)
        _ = self.threshold_rule

    @property
    def threshold_rule(self) -> ThresholdRule | None:
        """How the threshold is chosen; None if the more probable class is predicted."""
        return None if self.threshold is None else read_threshold(self.threshold)

    def search_space(self) -> SearchSpace:
        """Return the classifiers and settings that a search chooses from."""
        settings = dict(self.settings or {})
        if self.class_weight is not None:
            settings["class_weight"] = self.class_weight
        return SearchSpace(
            kinds=self.kinds,
            normalise=_NORMALISE_AUTO if self.normalise == "auto" else (self.normalise,),
            penalties=self._penalties(),
            settings=settings,
            seed=operator.index(self.seed),
            components=None if self.components is None else operator.index(self.components),
            whiten=self.whiten,
        )

    def stored(self) -> dict[str, Any]:
        """Return the settings that make the same fit again, as JSON represents them."""
        fields = (each.name for each in dataclasses.fields(self))
        values = {name: getattr(self, name) for name in fields if name not in _NOT_STORED}
        values["C"] = self._penalties()
        if isinstance(self.labels, str | Path):
            values["labels"] = str(Path(self.labels).absolute())
        elif self.labels is not None:
            values["labels"] = table_name(self.labels)
        stored: dict[str, Any] = json.loads(json.dumps(values, default=_as_json))
        return stored

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "FitSettings":
        """Return the settings that `stored` described.

        Raises
        ------
        FieldError
            A value does not fit.
        """
        values = conform(dict[str, Any], stored)
        return conform(cls, {k: value for k, value in values.items() if k not in _NOT_STORED})

    def _penalties(self) -> tuple[float, ...] | None:
        return None if self.C is None else tuple(float(each) for each in np.atleast_1d(self.C))

    def _check_penalties(self) -> None:
        penalties = self._penalties()
        if penalties is None:
            return
        if not penalties or not all(0 < each < np.inf for each in penalties):
            listed = ", ".join(f"{each:g}" for each in penalties) or "empty"
            message = f"--C must be greater than 0, but it is {listed}."
            raise OptionError(message)
        with_penalty = [kind for kind in self.kinds if kind.has_penalty]
        if not with_penalty:
            message = (
                f"{self.clf} has no penalty. Leave out --C, or use --clf with one of "
                f"{', '.join(kind.name for kind in CLASSIFIERS.values() if kind.has_penalty)}."
            )
            raise OptionError(message)
        twice = [kind.parameter for kind in with_penalty if kind.parameter in (self.settings or {})]
        if twice:
            message = f"--C and --set {twice[0]} both give the penalty. Use only one of them."
            raise OptionError(message)


def _as_json(value: Any) -> Any:
    """Return a NumPy number as a number; an estimator's parameter may be any other object."""
    return value.item() if isinstance(value, np.generic) else str(value)

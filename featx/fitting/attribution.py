"""What each place of a layer's map adds to a decision, exactly, where that is a sum over places.

A bundle, the code of one image and the activations that it was pooled from come
in; a number for each place goes out. With the intercept of the classifier they
add up to its decision value before calibration. This file does not know where
activations come from.

A linear classifier gives each number of a code a product, weight times number.
What remains is to give that product to places:

* a flattened code has its places;
* a mean is divided among the places as their activations share in it;
* a maximum goes to its place, of several equal ones to the first, row by row;
* the mean of a grid's cell is divided among the cell's places. Where cells share
  a row, it gets something of both;
* of several views, mirror images, crops or scales, each gets the share that it has in
  the number, and its places lie where they do in the image.

The length that `l2` divides by is this image's: how it would change, if a place did, is
left out. The mean that `centre` subtracts is subtracted where it belongs: at its place
(flattened), from all places alike (average, grid), or with the maximum. So what is
shown is how an image differs from the fitted ones, and no constant but the intercept
remains. Principal components are sums of a code's numbers: their weights come back to these,
and the mean that they subtract is subtracted in the same way. A channel that is 0 everywhere
has no place; what its mean adds is spread evenly.

A square root of a sum is no sum of square roots, so `sqrt-l2` is exact on flattened
codes alone; and a fully connected layer has no places.
"""

import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.svm import SVC

from featx.codes.matrix import Matrix
from featx.fitting.classifiers import CLASSIFIERS
from featx.fitting.estimators import Perceptron
from featx.fitting.model import Model
from featx.layers import find_layer
from featx.recipe import Recipe

__all__ = [
    "Attribution",
    "ImageView",
    "explain_code",
    "model_decision_scores",
    "sum_on_finest_map",
    "why_not_exact",
]


@dataclass(frozen=True)
class ImageView:
    """A layer's map of an image, or of a part of it.

    Parameters
    ----------
    activation : ndarray of float, shape (height, width, channels)
        Upright: that of a mirror image was turned back. Never negative, as ReLU leaves it.
    box : tuple of float, default=(0, 0, 1, 1)
        Top, left, bottom and right of the part, as shares of the image's sides.
    """

    activation: NDArray[np.floating]
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Attribution:
    """A decision value as a sum over places; `explain_code` makes it.

    Parameters
    ----------
    maps : dict of str to ndarray, shape (height, width)
        What the places of each layer add.
    intercept : float
        The rest.
    """

    maps: dict[str, Matrix]
    intercept: float

    @property
    def total(self) -> float:
        """The decision value."""
        return float(sum(each.sum() for each in self.maps.values())) + self.intercept


def why_not_exact(bundle: Model) -> str | None:
    """Return why a bundle's decisions are no sum over places; None where they are."""
    steps = bundle.classifier.named_steps
    estimator = steps["decisions"].estimator
    if not _is_linear(estimator):
        layers = "a network with a hidden layer" if isinstance(estimator, Perceptron) else None
        return f"{layers or type(estimator).__name__} is no weighted sum of the codes"
    if bundle.recipe.pool == "bilinear":
        return "bilinear multiplies activations with each other"
    if bundle.recipe.pool != "none" and "unit" in steps and steps["unit"].root:
        return f"square roots are taken after the pooling {bundle.recipe.pool}"
    flat = [name for name in bundle.recipe.layers if find_layer(name).kind == "dense"]
    return f"{' and '.join(flat)} has no places" if flat else None


def model_decision_scores(bundle: Model, codes: Matrix) -> Matrix:
    """Return the decisions of a bundle before calibration, one column a class.

    Of two classes scikit-learn has one number, in favour of the second: the
    first column is that number with the other sign. An SVM of several classes
    decides between each two: a column is the mean of the class's decisions against
    each other class, since scikit-learn's own number counts the votes that these
    win, and stays as it is until one changes sides. Classifiers that only vote have
    logarithms of probabilities.

    Parameters
    ----------
    bundle : Model
        Its codes are at hand, see `Model.open_codes`.
    codes : ndarray of shape (n, d)

    Returns
    -------
    ndarray of shape (n, n_classes)
    """
    estimator = bundle.classifier.named_steps["decisions"].estimator
    if isinstance(estimator, SVC) and len(bundle.classes) > 2:
        rows = codes
        for _, step in bundle.classifier.steps[:-2]:  # all before the decisions
            rows = step.transform(rows)
        return _mean_margins(estimator, rows)
    found = np.asarray(bundle.classifier[:-1].transform(codes))
    # Between them, `DecisionScores` divides the one number of two classes.
    return 2 * found if len(bundle.classes) == 2 and _has_decisions(estimator) else found


def explain_code(
    bundle: Model, code: Matrix, views: Mapping[str, Sequence[ImageView]], k: int
) -> Attribution:
    """Divide the decision value of a class among the places of the layers' maps.

    Parameters
    ----------
    bundle : Model
        One for which `why_not_exact` is None.
    code : ndarray of shape (d,)
        Of one image, all layers side by side.
    views : mapping of str to sequence of ImageView
        What was pooled, by layer: scale by scale, and of each the recipe's `n_views`. Of
        a flattened code one, the code itself.
    k : int
        The class, as a position in the bundle's classes.

    Returns
    -------
    Attribution
    """
    steps = bundle.classifier.named_steps
    weights, intercept = _weights_of(steps["decisions"].estimator, k)
    own, mean = _parts(steps, code)
    if "components" in steps:
        weights = steps["components"].to_columns(weights)
    of_code, of_mean = weights * own, weights * mean
    maps = {}
    start = 0
    for layer in bundle.recipe.layers:
        part = slice(start, start + bundle.recipe.code_size(layer))
        shape = bundle.recipe.code_shape(layer)
        maps[layer] = _given_to_views(
            bundle.recipe, shape, views[layer], of_code[part], of_mean[part]
        )
        start = part.stop
    return Attribution(maps, intercept)


def sum_on_finest_map(maps: Mapping[str, Matrix]) -> Matrix:
    """Sum the maps of several layers on the places of the finest.

    Each place of a coarser map stands for some places of the finest, which get
    equal parts, so that the sum stays. At sizes that a layer's stride does not divide,
    its map ends before the image does; what lies beyond gets nothing from it.

    Parameters
    ----------
    maps : mapping of str to ndarray, shape (height, width)
        By layer.

    Returns
    -------
    ndarray of shape (height, width)

    Examples
    --------
    >>> maps = {"block1_pool": np.eye(3), "block2_pool": np.array([[4.0]])}
    >>> sum_on_finest_map(maps)
    array([[2., 1., 0.],
           [1., 2., 0.],
           [0., 0., 1.]])
    """
    finest = min(maps, key=lambda layer: find_layer(layer).stride)
    total = np.zeros(maps[finest].shape)
    for layer, each in maps.items():
        # Strides are powers of two.
        n = find_layer(layer).stride // find_layer(finest).stride
        spread = np.kron(each, np.full((n, n), 1 / n**2))
        total[: spread.shape[0], : spread.shape[1]] += spread
    return total


def _is_linear(estimator: BaseEstimator) -> bool:
    if isinstance(estimator, Perceptron):
        return len(estimator.coefs) == 1
    linear = tuple(type(kind.make(0)) for kind in CLASSIFIERS.values() if kind.is_linear)
    return isinstance(estimator, linear)


def _mean_margins(estimator: SVC, rows: Matrix) -> Matrix:
    """Return the mean of each class's decisions against the others, (n, n_classes)."""
    each = copy.copy(estimator).set_params(decision_function_shape="ovo")
    n_classes = len(each.classes_)
    found = np.zeros((len(rows), n_classes))
    pairs = itertools.combinations(range(n_classes), 2)
    for (i, j), margin in zip(pairs, each.decision_function(rows).T, strict=True):
        found[:, i] += margin
        found[:, j] -= margin
    return found / (n_classes - 1)


def _has_decisions(estimator: BaseEstimator) -> bool:
    return hasattr(estimator, "decision_function")


def _weights_of(estimator: BaseEstimator, k: int) -> tuple[Matrix, float]:
    """Return the weights, (d,), and the intercept of a class; of two, the signs differ."""
    if isinstance(estimator, Perceptron):
        coef, intercept = np.asarray(estimator.coefs[0]).T, np.ravel(estimator.intercepts[0])
        if len(coef) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
    else:
        # Ridge has one row, without its axis, for two classes; without fit_intercept, one 0.
        coef = np.atleast_2d(estimator.coef_)
        intercept = np.broadcast_to(np.ravel(estimator.intercept_), len(coef))
    if len(coef) == 1:
        sign = 1 if k == 1 else -1
        return sign * coef[0], sign * float(intercept[0])
    return coef[k], float(intercept[k])


def _parts(steps: Mapping[str, Any], code: Matrix) -> tuple[Matrix, Matrix]:
    """Return a code as its weights have it, as a sum: what the image gives, and the mean."""
    row = np.asarray(code, dtype=np.float64)[None]
    if "unit" in steps:
        row = steps["unit"].transform(row)
    own, mean = row[0], np.zeros(row.shape[1])
    if "centre" in steps:
        centre = steps["centre"].mean_
        length = float(np.linalg.norm(own - centre)) or 1.0
        own, mean = own / length, -centre / length
    if "components" in steps:
        mean = mean - steps["components"].mean_
    return own, mean


def _given_to_views(
    recipe: Recipe,
    shape: tuple[int, ...],
    views: Sequence[ImageView],
    of_code: Matrix,
    of_mean: Matrix,
) -> Matrix:
    """Return what places of the image add, (height, width), from what numbers of a code add."""
    if len(views) == 1:
        return _given_to_places(recipe, views[0].activation, of_code, of_mean)
    apart = len(recipe.scales) if recipe.scales_join == "stack" else 1
    # Scales stand side by side along the last axis.
    by_scale = (*shape[:-1], apart, shape[-1] // apart)
    of_codes, of_means = of_code.reshape(by_scale), of_mean.reshape(by_scale)
    sides = [
        (each.activation.shape[0] / (bottom - top), each.activation.shape[1] / (right - left))
        for each in views
        for top, left, bottom, right in [each.box]
    ]
    total = np.zeros((round(max(s[0] for s in sides)), round(max(s[1] for s in sides))))
    of_group = len(views) // apart
    for i in range(apart):
        group = views[i * of_group : (i + 1) * of_group]
        codes = np.stack([_pooled(recipe, each.activation) for each in group])
        sums = codes.sum(axis=0)
        shares = np.divide(codes, sums, out=np.full_like(codes, 1 / len(group)), where=sums > 0)
        for view, share in zip(group, shares, strict=True):
            own = _given_to_places(
                recipe,
                view.activation,
                of_codes[..., i, :].ravel() * share,
                of_means[..., i, :].ravel() / len(group),
            )
            top, left, bottom, right = view.box
            down = _overlaps(top, bottom, len(own), len(total))
            across = _overlaps(left, right, own.shape[1], total.shape[1])
            total += down @ own @ across.T
    return total


def _pooled(recipe: Recipe, activation: NDArray[np.floating]) -> Matrix:
    """Return the code of one view, flat."""
    exact = np.asarray(activation, np.float64)
    if recipe.grid is not None:
        cells = [
            exact[rows, columns].mean(axis=(0, 1))
            for rows in _cells(len(exact), recipe.grid)
            for columns in _cells(exact.shape[1], recipe.grid)
        ]
        return np.concatenate(cells)
    ways: dict[str, tuple[Callable[..., Matrix], ...]] = {
        "avg": (np.mean,),
        "max": (np.max,),
        "avg+max": (np.mean, np.max),
    }
    return np.concatenate([way(exact, axis=(0, 1)) for way in ways[recipe.pool]])


def _overlaps(low: float, high: float, n_own: int, n_whole: int) -> Matrix:
    """Return which share of each of a view's cells lies in each cell of the whole, along a side.

    Examples
    --------
    >>> _overlaps(0.25, 1.0, 1, 2)
    array([[0.33333333],
           [0.66666667]])
    """
    own = low + (high - low) * np.arange(n_own + 1) / n_own
    whole = np.arange(n_whole + 1) / n_whole
    shared = np.minimum(own[1:], whole[1:, None]) - np.maximum(own[:-1], whole[:-1, None])
    return np.asarray(np.maximum(shared, 0) / np.diff(own))


def _given_to_places(
    recipe: Recipe, activation: NDArray[np.floating], of_code: Matrix, of_mean: Matrix
) -> Matrix:
    """Return what places add, (height, width), from what each number of a code adds."""
    height, width, channels = activation.shape
    if recipe.pool == "none":
        return np.asarray((of_code + of_mean).reshape(activation.shape).sum(axis=2))
    if recipe.grid is not None:
        return _to_cells(activation, of_code, of_mean, recipe.grid)
    places = activation.reshape(-1, channels)
    ways: dict[str, tuple[Callable[[Matrix, Matrix, Matrix], Matrix], ...]] = {
        "avg": (_by_share,),
        "max": (_to_largest,),
        "avg+max": (_by_share, _to_largest),
    }
    total = np.zeros(len(places))
    for i, way in enumerate(ways[recipe.pool]):
        part = slice(i * channels, (i + 1) * channels)
        total += way(places, of_code[part], of_mean[part])
    return total.reshape(height, width)


def _by_share(places: Matrix, of_code: Matrix, of_mean: Matrix) -> Matrix:
    """Divide what means of channels add among (n, channels) as these share in them."""
    # Not w·a/n: the code was rounded, to the store's numbers too, and its sum is to stay.
    sums = places.sum(axis=0, dtype=np.float64)
    each = np.divide(of_code, sums, out=np.zeros_like(of_code), where=sums > 0)
    return np.asarray(places @ each + of_mean.sum() / len(places))


def _to_largest(places: Matrix, of_code: Matrix, of_mean: Matrix) -> Matrix:
    """Give what maxima of channels add to their places, of equal ones the first."""
    of_both = of_code + of_mean
    somewhere = places.max(axis=0) > 0
    first = places.argmax(axis=0)
    total = np.bincount(first[somewhere], of_both[somewhere], minlength=len(places))
    return np.asarray(total + of_both[~somewhere].sum() / len(places))


def _to_cells(
    activation: NDArray[np.floating], of_code: Matrix, of_mean: Matrix, n_cells: int
) -> Matrix:
    """Divide what the means of a grid's cells add among the places of each."""
    height, width, channels = activation.shape
    codes, means = (each.reshape(n_cells, n_cells, channels) for each in (of_code, of_mean))
    total = np.zeros((height, width))
    for i, rows in enumerate(_cells(height, n_cells)):
        for j, columns in enumerate(_cells(width, n_cells)):
            cell = activation[rows, columns]
            shares = _by_share(cell.reshape(-1, channels), codes[i, j], means[i, j])
            total[rows, columns] += shares.reshape(cell.shape[:2])
    return total


def _cells(length: int, n_cells: int) -> list[slice]:
    """Return the places of each cell along a side, as `featx.network.pooling.pooled` has them."""
    return [
        slice(i * length // n_cells, math.ceil((i + 1) * length / n_cells)) for i in range(n_cells)
    ]

"""An explanation: what each position of an image adds to a decision score."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featx.text import storable

__all__ = ["Explanation", "Method"]

Method = Literal["exact", "occlusion"]


@dataclass(frozen=True)
class Explanation:
    """The contribution of each position of an image to the decision score of a class.

    Parameters
    ----------
    path : str
        The image.
    method : {"exact", "occlusion"}
        "exact": contributions and constant add up to the decision score. "occlusion": each
        contribution is how much the score falls when a grey square covers that cell, which
        is an approximation.
    predicted : str
        The most probable class.
    label : str
        The class that is explained.
    decision_score : float
        Decision score of that class, before calibration. For two classes scikit-learn has
        one score; it is positive here for the class that is explained. An ``svm-rbf`` of
        several classes decides between each pair, and this is the mean of the class's
        scores against the others. For a classifier that only votes (``knn``) it is the
        logarithm of the fraction of votes, which changes in steps, and so do the
        contributions of an occlusion.
    constant : float or None
        The classifier's intercept, which belongs to no position; None for an occlusion.
    probability : float
        Calibrated probability of the class that is explained.
    contributions : ndarray of shape (rows, columns)
        What each position adds; for several layers, the sum on the positions of the finest.
    maps : dict of str to ndarray
        What the positions of each layer add, before that sum; empty for an occlusion.
    extent : tuple of int
        (height, width) in pixels of the part of the image that `contributions` divides into
        equal cells, from its upper left corner. It is smaller than the image if the layer's
        stride does not divide the image's size.
    pixels : ndarray of uint8, shape (height, width, 3)
        The image as the network saw it.

    Examples
    --------
    >>> import featx
    >>> for found in featx.explain("data/val/flags", model="model.skops"):  # doctest: +SKIP
    ...     featx.plot_heatmap(found.pixels, found.contributions)
    """

    path: str
    method: Method
    predicted: str
    label: str
    decision_score: float
    constant: float | None
    probability: float
    contributions: NDArray[np.float64] = field(repr=False)
    maps: Mapping[str, NDArray[np.float64]] = field(repr=False)
    extent: tuple[int, int]
    pixels: NDArray[np.uint8] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain values that JSON can hold, without the pixels.

        Returns
        -------
        dict
            The entry of the image in ``explain.json``.
        """
        found = {
            "path": storable(self.path),
            "method": self.method,
            "label": self.predicted,
            "class": self.label,
            "decision_score": self.decision_score,
            "constant": self.constant,
            "probability": self.probability,
            "shape": list(self.contributions.shape),
            "extent": list(self.extent),
            "contributions": self.contributions.tolist(),
        }
        if len(self.maps) > 1:
            found["layers"] = {layer: each.tolist() for layer, each in self.maps.items()}
        return found

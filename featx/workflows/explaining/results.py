"""An explanation: what the places of an image add to a decision, and how that was found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featx.text import printable

__all__ = ["Explanation", "Method"]

Method = Literal["exact", "occlusion"]


@dataclass(frozen=True)
class Explanation:
    """What the places of an image add to the decision for a class.

    Parameters
    ----------
    path : str
        The image.
    method : {"exact", "occlusion"}
        Whether the contributions and the constant add up to the decision, or
        are how much it falls where a grey square lies: an approximation.
    predicted : str
        The most probable class.
    label : str
        The class that is explained.
    decision : float
        Its decision value before calibration. Of two classes scikit-learn has
        one number; it is positive for the class that is explained. An ``svm-rbf``
        of several classes decides between each two, and this is the mean of its
        decisions for the class against each other one. Where a classifier only
        votes (``knn``) it is the logarithm of the share of votes, which changes in
        steps: so does the map of an occlusion.
    constant : float or None
        The classifier's intercept, which belongs to no place; None for occlusion.
    probability : float
        Of the class that is explained, calibrated.
    contributions : ndarray of shape (rows, columns)
        What each place adds; of several layers, summed on the places of the finest.
    maps : dict of str to ndarray
        What the places of each layer add, before they were summed; empty for
        occlusion.
    extent : tuple of int
        (height, width) in pixels of the part of the image that `contributions`
        divide into equal cells, from its upper left corner. Less than the image
        where the layer's stride does not divide it.
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
    decision: float
    constant: float | None
    probability: float
    contributions: NDArray[np.float64] = field(repr=False)
    maps: Mapping[str, NDArray[np.float64]] = field(repr=False)
    extent: tuple[int, int]
    pixels: NDArray[np.uint8] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON has them; the pixels are left out.

        Returns
        -------
        dict
            As ``explain.json`` has it for each image.
        """
        found = {
            "path": printable(self.path),
            "method": self.method,
            "label": self.predicted,
            "class": self.label,
            "decision": self.decision,
            "constant": self.constant,
            "probability": self.probability,
            "shape": list(self.contributions.shape),
            "extent": list(self.extent),
            "contributions": self.contributions.tolist(),
        }
        if len(self.maps) > 1:
            found["layers"] = {layer: each.tolist() for layer, each in self.maps.items()}
        return found

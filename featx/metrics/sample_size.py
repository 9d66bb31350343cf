"""How many images a comparison of two classifiers needs.

The fractions of images on which only one of two classifiers is correct go in; a number of images,
or the smallest difference that a number of images can show, comes out. Both are for a two-sided
test at 5 % that finds the difference in 80 % of cases.

References
----------
.. [1] O. S. Miettinen, "The Matched Pairs Design in the Case of All-or-None Responses", Biometrics
   24(2), 1968. https://doi.org/10.2307/2528039
.. [2] R. J. Connor, "Sample Size for Testing Differences in Proportions for the Paired-Sample
   Design", Biometrics 43(1), 1987. https://doi.org/10.2307/2531961
.. [3] L. Kish, "Survey Sampling", 1965, section 8.2: the design effect.
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["design_effect", "detectable_difference", "images_needed"]

_Z = 1.959963984540054  # of a two-sided test at 5 %
_Z_POWER = 0.8416212335729143  # of a power of 80 %


def design_effect(gains: NDArray[np.floating], groups: NDArray[np.integer]) -> float:
    """Return how many grouped images say as much about a difference as one independent image.

    Parameters
    ----------
    gains : ndarray of shape (n,)
        1 where only one classifier is correct, -1 where only the other is, and 0 elsewhere.
    groups : ndarray of int, shape (n,)
        Equal numbers for images of one group.

    Returns
    -------
    float
        At least 1 [3]_; 1 for images without groups.

    Examples
    --------
    >>> gains = np.array([1, 1, 0, 0, -1, -1, 1, 1])
    >>> round(design_effect(gains, np.repeat(np.arange(4), 2)), 2)
    2.33
    """
    n, (_, of_image) = len(gains), np.unique(groups, return_inverse=True)
    rest = gains - gains.mean()
    n_groups, squares = int(of_image.max()) + 1, float(rest @ rest)
    if n_groups < 2 or n_groups == n or squares == 0:
        return 1.0
    sums = np.bincount(of_image, rest)
    found = n_groups / (n_groups - 1) * float(sums @ sums)
    return max(1.0, found / (n / (n - 1) * squares))


def images_needed(difference: float, discordant: float, effect: float = 1.0) -> int:
    """Return how many images show a difference of two accuracies [1]_ [2]_.

    Parameters
    ----------
    difference : float
        The difference, not 0.
    discordant : float
        Fraction of the images on which only one of both is correct, at least the difference.
    effect : float, default=1.0
        See `design_effect`.

    Examples
    --------
    >>> images_needed(0.1, 0.3), images_needed(0.1, 0.3, 2.0)
    (234, 467)
    """
    spread = max(0.0, discordant - difference**2)
    root = _Z * math.sqrt(discordant) + _Z_POWER * math.sqrt(spread)
    return math.ceil(effect * (root / difference) ** 2)


def detectable_difference(n_images: int, discordant: float, effect: float = 1.0) -> float:
    """Return the smallest difference that a number of images shows; at most 1.

    It is the difference for which `images_needed` is `n_images`.

    Examples
    --------
    >>> round(detectable_difference(234, 0.3), 3)
    0.1
    """
    n = n_images / effect
    rest = n + _Z_POWER**2 - _Z**2
    if rest <= 0:
        return 1.0
    root = _Z * math.sqrt(n * discordant) + _Z_POWER * math.sqrt(discordant * rest)
    return min(1.0, root / (n + _Z_POWER**2))

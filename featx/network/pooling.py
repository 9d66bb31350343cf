"""From a layer's activations to codes: pooled over places, averaged over views.

Activations come in and codes go out, both tensors of Keras's backend, inside the
graph. This file does not know which layer they are of.

References
----------
.. [1] K. He, X. Zhang, S. Ren and J. Sun, "Spatial Pyramid Pooling in Deep
   Convolutional Networks for Visual Recognition", 2014.
   https://arxiv.org/abs/1406.4729
.. [2] S. Lazebnik, C. Schmid and J. Ponce, "Beyond Bags of Features: Spatial
   Pyramid Matching for Recognizing Natural Scene Categories", CVPR 2006.
.. [3] T.-Y. Lin, A. RoyChowdhury and S. Maji, "Bilinear CNN Models for
   Fine-grained Visual Recognition", ICCV 2015. https://arxiv.org/abs/1504.07889
"""

import math
from typing import Any

import numpy as np

from featx.recipe import Recipe

__all__ = ["averaged", "pooled", "views"]


def pooled(activation: Any, recipe: Recipe) -> Any:
    """Return an activation as a code of the recipe's pooling; means are in float32.

    With x(p) the c channels at place p, of h w places:

    * avg is the mean of x over the places, max the largest of each channel, and
      avg+max the one and then the other;
    * grid:N is the means of N x N cells, in place: it keeps what a mean over all
      places mixes, one level of a spatial pyramid [1]_ [2]_. Cell i of N covers the
      rows from floor(i h / N) up to, and without, ceil((i + 1) h / N), and columns
      likewise: where N does not divide h, neighbouring cells share a row at most;
    * bilinear is the mean over the places of the products x_i(p) x_j(p), i <= j, those
      of i < j times sqrt(2), and then sign(b) sqrt(|b|) of each number b [3]_. The
      products are symmetric: with sqrt(2) half of them have the inner products of
      all. Before the square root the inner product of two images' codes is
      the mean over p and q of (x(p) . y(q))**2.

    Parameters
    ----------
    activation : tensor of shape (n, h, w, c) or (n, d)
    recipe : Recipe

    Returns
    -------
    tensor of shape (n, ...)
        With the `code_shape` of the recipe's pooling; of (n, d), fully connected, as it
        was.
    """
    from keras import ops

    if recipe.pool == "none" or activation.ndim == 2:  # fully connected: one place
        return activation
    if recipe.pool == "max":
        return ops.max(activation, axis=(1, 2))
    exact = ops.cast(activation, "float32")
    if recipe.grid is not None:
        # One side after the other: TensorFlow transposes a map to reduce two split sides at once,
        # which takes seven times as long.
        return _cell_means(_cell_means(exact, recipe.grid, axis=1), recipe.grid, axis=2)
    if recipe.pool == "bilinear":
        return _second_order(exact)
    mean = ops.mean(exact, axis=(1, 2))
    if recipe.pool == "avg+max":
        return ops.concatenate([mean, ops.max(exact, axis=(1, 2))], axis=-1)
    return mean


def views(images: Any, recipe: Recipe) -> Any:
    """Return the crops of images, and their mirror images, one kind after the other.

    Parameters
    ----------
    images : tensor of shape (n, h, w, 3)
        At the recipe's `view_size`, or of a scale.
    recipe : Recipe

    Returns
    -------
    tensor of shape (n_views * n, ...)
        Of crops at the recipe's `size`: the upper left, upper right, lower left and lower
        right corner, then the middle; all of them once more, mirrored, with `flip`.
    """
    from keras import ops

    found = [images]
    if recipe.crops > 1:
        height, width = recipe.size
        found = [images[:, top : top + height, left : left + width] for top, left in recipe.corners]
    if recipe.flip:
        found += [ops.flip(each, axis=2) for each in found]
    return found[0] if len(found) == 1 else ops.concatenate(found, axis=0)


def averaged(codes: Any, recipe: Recipe) -> Any:
    """Return the means of the codes of `views`; those of mirror images are turned back before.

    Parameters
    ----------
    codes : tensor of shape (n_views * n, ...)
    recipe : Recipe

    Returns
    -------
    tensor of shape (n, ...)
    """
    from keras import ops

    if recipe.n_views == 1:
        return codes
    apart = ops.reshape(ops.cast(codes, "float32"), (recipe.n_views, -1, *codes.shape[1:]))
    if codes.ndim == 4:  # with places: no crops
        upright, mirrored = apart[0], ops.flip(apart[1], axis=2)
        return (upright + mirrored) / 2
    return ops.mean(apart, axis=0)


def _cell_means(x: Any, n_cells: int, *, axis: int) -> Any:
    """Return the means of cells along one axis, in its place."""
    from keras import ops

    length = x.shape[axis]
    if length % n_cells == 0:
        split = (-1, *x.shape[1:axis], n_cells, length // n_cells, *x.shape[axis + 1 :])
        return ops.mean(ops.reshape(x, split), axis=axis + 1)
    before = (slice(None),) * axis
    cells = [
        x[(*before, slice(i * length // n_cells, math.ceil((i + 1) * length / n_cells)))]
        for i in range(n_cells)
    ]
    return ops.stack([ops.mean(cell, axis=axis) for cell in cells], axis=axis)


def _second_order(x: Any) -> Any:
    """Return the mean products of each two channels, (n, c (c + 1) / 2), square-rooted."""
    from keras import ops

    height, width, channels = x.shape[1:]
    places = ops.reshape(x, (-1, height * width, channels))
    products = ops.matmul(ops.transpose(places, (0, 2, 1)), places) / (height * width)
    rows, columns = np.triu_indices(channels)
    flat = ops.reshape(products, (-1, channels * channels))
    upper = ops.take(flat, rows * channels + columns, axis=1)
    weighted = upper * np.where(rows == columns, 1, math.sqrt(2)).astype(np.float32)
    return ops.sign(weighted) * ops.sqrt(ops.abs(weighted))

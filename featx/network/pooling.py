"""From activations of a layer to codes: pooling over positions, averaging over views.

Activations come in and codes go out, both tensors of Keras's backend inside a graph. This
file does not know which layer they belong to.

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
    """Pool an activation over its positions; means are computed in float32.

    Let x(p) be the c channels at position p of h w positions.

    * avg is the mean of x over the positions, max is the maximum of each channel, and
      avg+max is the means followed by the maxima.
    * grid:N is the means of N x N cells, which keeps the layout of the image: one level
      of a spatial pyramid [1]_ [2]_. Cell i of N contains the rows from floor(i h / N) to
      ceil((i + 1) h / N), the last one excluded; the same holds for columns. If N does
      not divide h, neighbouring cells share at most one row.
    * bilinear is the mean over the positions of the products x_i(p) x_j(p) with i <= j,
      multiplied by sqrt(2) if i < j. Each value b then becomes sign(b) sqrt(|b|) [3]_.
      The products are symmetric, so with the factor sqrt(2) half of them have the same
      inner products as all of them. Before the square root, the inner product of the
      codes of two images is the mean over p and q of (x(p) . y(q))**2.

    Parameters
    ----------
    activation : tensor of shape (n, h, w, c) or (n, d)
        Activation of a convolution or pooling layer, or of a fully connected layer.
    recipe : Recipe
        The recipe with the pooling.

    Returns
    -------
    tensor of shape (n, ...)
        Codes with the `code_shape` of the recipe. (n, d) is returned unchanged.
    """
    from keras import ops

    if recipe.pool == "none" or activation.ndim == 2:  # fully connected layers
        return activation
    if recipe.pool == "max":
        return ops.max(activation, axis=(1, 2))
    exact = ops.cast(activation, "float32")
    if recipe.grid is not None:
        # Reducing both axes at once takes seven times as long, since TensorFlow transposes then.
        return _cell_means(_cell_means(exact, recipe.grid, axis=1), recipe.grid, axis=2)
    if recipe.pool == "bilinear":
        return _second_order(exact)
    mean = ops.mean(exact, axis=(1, 2))
    if recipe.pool == "avg+max":
        return ops.concatenate([mean, ops.max(exact, axis=(1, 2))], axis=-1)
    return mean


def views(images: Any, recipe: Recipe) -> Any:
    """Return the crops of images, and their mirror images.

    Parameters
    ----------
    images : tensor of shape (n, h, w, 3)
        Images of the recipe's `view_size`, or of a scale.
    recipe : Recipe
        The recipe with the crops and `flip`.

    Returns
    -------
    tensor of shape (n_views * n, ...)
        Crops of the recipe's `size`: all upper left, then all upper right, lower left and
        lower right corners, then all centres. With `flip`, the mirror images follow.
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
    """Average the codes of the views of each image; mirror images are mirrored back first.

    Parameters
    ----------
    codes : tensor of shape (n_views * n, ...)
        Codes in the order of `views`.
    recipe : Recipe
        The recipe with the crops and `flip`.

    Returns
    -------
    tensor of shape (n, ...)
        One code for each image.
    """
    from keras import ops

    if recipe.n_views == 1:
        return codes
    by_view = ops.reshape(ops.cast(codes, "float32"), (recipe.n_views, -1, *codes.shape[1:]))
    if codes.ndim == 4:  # codes with positions are never of crops
        upright, mirrored = by_view[0], ops.flip(by_view[1], axis=2)
        return (upright + mirrored) / 2
    return ops.mean(by_view, axis=0)


def _cell_means(x: Any, n_cells: int, *, axis: int) -> Any:
    """Replace one axis by the means of its cells."""
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
    """Return square roots of the mean products of pairs of channels, (n, c (c + 1) / 2)."""
    from keras import ops

    height, width, channels = x.shape[1:]
    positions = ops.reshape(x, (-1, height * width, channels))
    products = ops.matmul(ops.transpose(positions, (0, 2, 1)), positions) / (height * width)
    rows, columns = np.triu_indices(channels)
    flat = ops.reshape(products, (-1, channels * channels))
    upper = ops.take(flat, rows * channels + columns, axis=1)
    weighted = upper * np.where(rows == columns, 1, math.sqrt(2)).astype(np.float32)
    return ops.sign(weighted) * ops.sqrt(ops.abs(weighted))

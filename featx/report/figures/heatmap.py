"""A heat map of contributions to a decision score, over the image."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featx.errors import OptionError
from featx.report.axes import BLUE, VERMILLION, axes_for
from featx.report.figures.drawing import add_bar, colour_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

__all__ = ["draw_heat", "plot_heatmap"]

_MAX_OPACITY = 0.85  # of the largest contribution, so that the image stays visible


def plot_heatmap(
    image: NDArray[np.uint8],
    contributions: NDArray[np.floating],
    *,
    smooth: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the contribution of each position of an image to a decision score.

    Orange contributions increase the score of the class, and blue ones decrease it. The
    image is drawn in grey, so that all colours are contributions.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w, 3)
        The image, as the network saw it.
    contributions : ndarray of float, shape (rows, cols)
        The contributions of the positions, which divide the image into equal cells.
    smooth : bool, default=False
        Interpolate between neighbouring cells. This looks better, but hides that there is
        only one number per cell.
    ax : Axes, optional
        Axes to draw on; by default the axes of a new figure.

    Returns
    -------
    Axes
        The axes, in pixels of the image.

    Raises
    ------
    OptionError
        The image or the contributions have another shape or type.

    Examples
    --------
    >>> ax = plot_heatmap(np.zeros((64, 96, 3), np.uint8), np.array([[1.0, -2.0]]))
    >>> pixels, cells = ax.get_images()
    >>> cells.get_clim()
    (-2.0, 2.0)
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        message = (
            f"The image has the shape {image.shape} of {image.dtype}. Pass an array of shape "
            "(height, width, 3) of uint8, such as "
            "np.asarray(PIL.Image.open(path).convert('RGB'))."
        )
        raise OptionError(message)
    if contributions.ndim != 2 or not np.isfinite(contributions).all():
        message = (
            f"The contributions have the shape {contributions.shape}. Pass finite numbers of shape "
            "(rows, columns), summed over the channels."
        )
        raise OptionError(message)
    height, width = image.shape[:2]
    tall = float(np.clip(4.2 * height / width, 2.0, 7.0))
    with axes_for(ax, (5.6, tall + 0.7)) as axes:
        cells = draw_heat(axes, image, contributions, (height, width), smooth=smooth)
        add_bar(axes, cells, "contribution to the decision score")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_title(f"Contributions, with a sum of {contributions.sum():+.3g}", loc="left")
        return axes


def draw_heat(
    axes: "Axes",
    image: NDArray[np.uint8],
    contributions: NDArray[np.floating],
    extent: tuple[int, int],
    *,
    smooth: bool = False,
) -> "AxesImage":
    """Draw an image in grey, and contributions over it.

    Parameters
    ----------
    axes : Axes
        Axes to draw on; they get the limits of the image, in pixels.
    image : ndarray of uint8, shape (h, w, 3)
        The image.
    contributions : ndarray of float, shape (rows, cols)
        Finite numbers.
    extent : (int, int)
        Height and width of the part of the image that the contributions divide, from the
        upper left corner.
    smooth : bool, default=False
        Interpolate between neighbouring cells.

    Returns
    -------
    AxesImage
        The contributions.
    """
    # The range is symmetric about 0, and must not be empty.
    most = float(np.abs(contributions).max()) or 1.0
    # Luma as in ITU-R BT.601.
    grey = image @ np.array([0.299, 0.587, 0.114])
    height, width = grey.shape
    # Black is drawn as grey, because colours would be invisible on black.
    axes.imshow(grey, "gray", vmin=-160, vmax=255, extent=(0, width, height, 0))
    against = [(0, (BLUE, _MAX_OPACITY)), (0.5, (BLUE, 0))]
    in_favour = [(0.5, (VERMILLION, 0)), (1, (VERMILLION, _MAX_OPACITY))]
    cells = axes.imshow(
        contributions,
        colour_map([*against, *in_favour]),
        vmin=-most,
        vmax=most,
        extent=(0, extent[1], extent[0], 0),
        interpolation="bilinear" if smooth else "nearest",
        interpolation_stage="data",
    )
    axes.set(xlim=(0, width), ylim=(height, 0))
    return cells

"""What each place of an image adds to a decision, over the image.

Pixels and contributions come in; Matplotlib's axes go out.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featx.errors import OptionError
from featx.report.axes import BLUE, VERMILLION, axes_for
from featx.report.figures.drawing import add_bar, colour_map, rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

__all__ = ["draw_heat", "plot_heatmap"]

_OPAQUE = 0.85  # of the strongest contribution: the image is seen through it


def plot_heatmap(
    image: NDArray[np.uint8],
    contributions: NDArray[np.floating],
    *,
    smooth: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw what each place of an image adds to a decision value.

    Orange speaks for the class and blue against it; where nothing is said the
    image is seen. It is drawn grey, so that colours are contributions alone.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w, 3)
        The image, as the network saw it.
    contributions : ndarray of float, shape (rows, cols)
        Of the layer's places, which divide the whole image into equal cells.
    smooth : bool, default=False
        Whether to blend neighbouring cells. It looks better, and hides that no
        more is known than a number a cell.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        In pixels of the image.

    Raises
    ------
    OptionError
        The image or the contributions are of another shape or kind.

    Examples
    --------
    >>> ax = plot_heatmap(np.zeros((64, 96, 3), np.uint8), np.array([[1.0, -2.0]]))
    >>> picture, cells = ax.get_images()
    >>> cells.get_clim()
    (-2.0, 2.0)
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        message = (
            f"The image has the shape {image.shape} of {image.dtype}. Expected (height, width, 3) "
            "of uint8. Read it with np.asarray(PIL.Image.open(path).convert('RGB'))."
        )
        raise OptionError(message)
    if contributions.ndim != 2 or not np.isfinite(contributions).all():
        message = (
            f"The contributions have the shape {contributions.shape}. Expected (rows, columns) of "
            "the layer's places, each a finite number. Sum over channels first."
        )
        raise OptionError(message)
    height, width = image.shape[:2]
    tall = float(np.clip(4.2 * height / width, 2.0, 7.0))
    with axes_for(ax, (5.6, tall + 0.7)) as axes:
        cells = draw_heat(axes, image, contributions, (height, width), smooth=smooth)
        add_bar(axes, cells, "contribution to the decision value")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_title(f"What each place adds: {contributions.sum():+.3g} in all", loc="left")
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
        They become those of the image, in pixels.
    image : ndarray of uint8, shape (h, w, 3)
        The image.
    contributions : ndarray of float, shape (rows, cols)
        Finite.
    extent : tuple of int
        (height, width) of the part of the image that they divide, from its upper left
        corner.
    smooth : bool, default=False
        Whether to blend neighbouring cells.

    Returns
    -------
    AxesImage
        Of the contributions.
    """
    # Symmetric about 0; all of it 0 would be no range at all.
    most = float(np.abs(contributions).max()) or 1.0
    # As eyes weigh red, green and blue (ITU-R BT.601).
    grey = image @ np.array([0.299, 0.587, 0.114])
    height, width = grey.shape
    # Black is drawn as a middle grey: colours would not be seen on it.
    axes.imshow(grey, "gray", vmin=-160, vmax=255, extent=(0, width, height, 0))
    against, in_favour = rgb(BLUE), rgb(VERMILLION)
    ends = [(0, (*against, _OPAQUE)), (1, (*in_favour, _OPAQUE))]
    middle = [(0.5, (*against, 0)), (0.5, (*in_favour, 0))]
    cells = axes.imshow(
        contributions,
        colour_map([ends[0], *middle, ends[1]]),
        vmin=-most,
        vmax=most,
        extent=(0, extent[1], extent[0], 0),
        interpolation="bilinear" if smooth else "nearest",
        interpolation_stage="data",
    )
    axes.set(xlim=(0, width), ylim=(height, 0))
    return cells

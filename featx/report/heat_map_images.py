"""Heat maps as small pictures in a page: the image, and the contributions over it.

Explanations come in; JPEGs go out, as data URIs, so that a page stays one file.
"""

import base64
import io

from PIL import Image

from featx.report.figures.heatmap import draw_heat
from featx.workflows import Explanation

__all__ = ["heat_pictures"]

_SIDE = 288  # pixels of the longer side: two pictures are some 30 kB
_QUALITY = 82


def heat_pictures(explanation: Explanation) -> tuple[str, str]:
    """Return the image as the network saw it, and the heat map over it.

    Parameters
    ----------
    explanation : Explanation
        One of those that `featx.explain` returns.

    Returns
    -------
    tuple of str
        Data URIs of two pictures of one size.
    """
    from matplotlib.figure import Figure

    pixels = explanation.pixels
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    draw_heat(axes, pixels, explanation.contributions, explanation.extent)
    axes.set_aspect("auto")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    seen = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    return _uri(seen), _uri(Image.open(drawn).convert("RGB"))


def _uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"

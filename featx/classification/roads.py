"""Three roads to a fit, and their price before it is paid.

The size of a matrix of codes comes in; the road to take, with its time and its
memory, goes out. On the *span* codes are seen through their inner products; on
*primal* they are in memory as they are, which pays where they are narrow;
*streamed* goes over them again and again in blocks, for any number of images,
and is not exact. Nothing here reads a code.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import psutil

from featx.errors import FitError, OptionError

__all__ = ["Road", "RoadName", "check_road", "choose_road", "price"]

RoadName = Literal["primal", "span", "streamed"]

# Measured by benchmarks/roads.py on two cores; they need to be right to a factor of two.
_PRODUCT_FLOPS = 60e9  # float64, of a large matrix product, additions counted
_ROW_BYTES = 10e9  # of memory, where a matrix is run through for each of a few columns
_STREAM_BYTES = 0.7e9  # of codes, read, converted and stepped through by every model
_MATRICES = 4  # of n x n or n x d doubles, at the height of a fit
_SEARCHED_FITS = 250  # of a nested search: 6 parts, 5 folds, some penalties that count
_STEPS = 60  # of a solver, in such a fit
_EPOCHS = 10  # of the streamed road
_MEMORY_SHARE = 0.6  # of what is free
# An exact answer is worth waiting for: so many times as long.
_WORTH = 4.0
_FIXED_BYTES = 300e6  # of Python and its libraries, and blocks of codes


@dataclass(frozen=True)
class Road:
    """One way to a fit, and what it costs.

    Parameters
    ----------
    name : {"primal", "span", "streamed"}
        See the top of this file.
    seconds : float
        About how long a fit takes, its search included.
    n_bytes : int
        Of memory, at its height.
    """

    name: RoadName
    seconds: float
    n_bytes: int

    @property
    def is_exact(self) -> bool:
        """Whether the answer is that of scikit-learn on the codes."""
        return self.name != "streamed"


def check_road(name: str) -> None:
    """Make sure that there is such a road.

    Raises
    ------
    OptionError
        There is none.
    """
    if name != "auto" and name not in get_args(RoadName):
        message = f"No road '{name}'. Use --road with one of {', '.join(get_args(RoadName))}, auto."
        raise OptionError(message)


def price(name: RoadName, n_images: int, code_size: int, n_classes: int) -> Road:
    """Return what a road costs.

    Parameters
    ----------
    name : {"primal", "span", "streamed"}
        The road.
    n_images, code_size, n_classes : int
        Labelled images, numbers of each, and classes.
    """
    n, d = n_images, code_size
    if name == "streamed":
        return Road(
            name, _EPOCHS * 4.0 * n * d / _STREAM_BYTES, int(_FIXED_BYTES + 30 * 8 * d * n_classes)
        )
    width = min(n, d) if name == "span" else d
    once = n**2 * d / _PRODUCT_FLOPS + n**3 / 3 / _PRODUCT_FLOPS if name == "span" else 0.0
    fit = 2 * _STEPS * 8 * n * width / _ROW_BYTES
    return Road(name, once + _SEARCHED_FITS * fit, int(_FIXED_BYTES + _MATRICES * 8 * n * width))


def choose_road(
    n_images: int, code_size: int, n_classes: int, wanted: str = "auto", free: int | None = None
) -> Road:
    """Choose the road that is exact where memory and patience allow, and then the fastest.

    Parameters
    ----------
    n_images, code_size, n_classes : int
        Labelled images, numbers of each, and classes.
    wanted : {"auto", "primal", "span", "streamed"}, default="auto"
        The road, where it is not to be chosen.
    free : int, optional
        Bytes of memory that may be used; by default, most of what is free.

    Raises
    ------
    OptionError
        No such road.
    FitError
        The road that is wanted needs more memory than there is.
    """
    check_road(wanted)
    free = int(psutil.virtual_memory().available * _MEMORY_SHARE) if free is None else free
    primal, span, streamed = (
        price(name, n_images, code_size, n_classes) for name in get_args(RoadName)
    )
    roads = {road.name: road for road in (primal, span, streamed)}
    if wanted != "auto":
        road = roads[wanted]
        if road.n_bytes > free:
            message = (
                f"The road {wanted} needs {road.n_bytes / 1e9:.1f} GB of memory for {n_images} "
                f"images of {code_size:,} numbers, {free / 1e9:.1f} GB may be used. Use --road "
                "auto, or fewer or narrower codes (--pool avg)."
            )
            raise FitError(message)
        return road
    exact = sorted((r for r in (primal, span) if r.n_bytes <= free), key=lambda r: r.seconds)
    if exact and exact[0].seconds <= max(_WORTH * streamed.seconds, 600):
        return exact[0]
    return streamed

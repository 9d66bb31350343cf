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

from featx.choices import Solver, check_choice, choices_of
from featx.errors import FitError
from featx.text import counted

__all__ = ["SolverName", "SolverPlan", "choose_solver", "price"]

#: A solver that `choose_solver` decided on.
SolverName = Literal["primal", "gram", "streamed"]

# Measured by benchmarks/fit.py on two cores; they need to be right to a factor of two.
_PRODUCT_FLOPS = 90e9  # float64, of a large matrix product, one triangle counted
_SOLVED_BYTES = 2.2e9  # of rows, a second, that solvers of several classes go through
_STREAMED_BYTES = 2.5e9  # the same, of one penalty and one class, of the streamed road
_PASSES = 2  # over the codes beside the products: reading them, and the way back
_READ_BYTES = 0.5e9  # of codes, a second
_MATRICES = 6  # of n x r doubles, at the height of a fit
_SEARCHED_FITS = 60  # of a search on five folds
_FIT_SECONDS = 0.02  # of such a fit, however small it is
_STEPS = 20  # of a solver, in such a fit
_FIXED_SECONDS = 3  # of the scores and the bundle
_EPOCHS = 10  # of the streamed road
_PENALTIES = 5  # that it tries at once
_MEMORY_SHARE = 0.6  # of what is free
_FIXED_BYTES = 400e6  # of Python and its libraries, and blocks of codes
_AXES_SECONDS = 1.3e-10  # of the principal components of a row, for each pair of columns
_AXES_FITS = 6  # of a search on five folds, whatever it tries
_AXES_MATRICES = 3  # of n x r doubles, beside those of a fit


@dataclass(frozen=True)
class SolverPlan:
    """One way to a fit, and what it costs.

    Parameters
    ----------
    name : {"primal", "gram", "streamed"}
        See the top of this file.
    seconds : float
        About how long the fit takes, its searches and baselines included.
    n_bytes : int
        Of memory, at its height.
    """

    name: SolverName
    seconds: float
    n_bytes: int

    @property
    def is_exact(self) -> bool:
        """Whether the answer is that of scikit-learn on the codes."""
        return self.name != "streamed"


def price(
    name: SolverName,
    n_images: int,
    code_size: int,
    n_classes: int,
    n_searches: float = 1,
    *,
    components: int = 0,
) -> SolverPlan:
    """Return what a road costs.

    Parameters
    ----------
    name : {"primal", "gram", "streamed"}
        The road.
    n_images, code_size, n_classes : int
        Labelled images, numbers of each, and classes.
    n_searches : float, default=1
        Searches of one classifier: one a scored fold, and one for all images.
    components : int, default=0
        Principal components that the classifier sees instead of codes; not on
        the road streamed, which has none.
    """
    n, d = n_images, code_size
    if name == "streamed":
        seconds = _EPOCHS * 8.0 * n * d * n_classes * _PENALTIES / _STREAMED_BYTES
        n_bytes = _FIXED_BYTES + min(1e9, 4.0 * _PENALTIES * 8 * n_classes * d)
        return SolverPlan(name, seconds, int(n_bytes))
    width = min(n, d) if name == "gram" else d
    one = _SEARCHED_FITS * (_FIT_SECONDS + _STEPS * 8.0 * n * width / _SOLVED_BYTES)
    seconds = _FIXED_SECONDS + n_searches * one
    if name == "gram":
        seconds += n**2 * (d + n / 3) / _PRODUCT_FLOPS + _PASSES * 4.0 * n * d / _READ_BYTES
    n_bytes = _FIXED_BYTES + _MATRICES * 8 * n * width
    if components:
        seconds += n_searches * _AXES_FITS * _AXES_SECONDS * n * width * min(n, width)
        n_bytes += _AXES_MATRICES * 8 * n * width + 4 * components * d
    return SolverPlan(name, seconds, int(n_bytes))


def choose_solver(
    n_images: int,
    code_size: int,
    n_classes: int,
    wanted: str = "auto",
    *,
    n_searches: float = 1,
    components: int = 0,
    free: int | None = None,
) -> SolverPlan:
    """Choose the fastest exact road that memory allows; where none fits, the streamed one.

    It does not pay before. On codes of 25,088 numbers of 16 classes the span took a
    fifth of the streamed road's time at 625 and 2,500 images, and a third at 5,000;
    it grows nearly with n², so that they would meet at about 20,000 images, whose
    search fills 19 GB (benchmarks/README.md). On wider codes they meet later.

    Parameters
    ----------
    n_images, code_size, n_classes : int
        Labelled images, numbers of each, and classes.
    wanted : {"auto", "primal", "gram", "streamed"}, default="auto"
        The road, where it is not to be chosen.
    n_searches : float, default=1
        See `price`.
    components : int, default=0
        See `price`.
    free : int, optional
        Bytes of memory that may be used; by default, most of what is free.

    Raises
    ------
    OptionError
        No such road.
    FitError
        The road that is wanted needs more memory than there is.
    """
    check_choice("solver", wanted, choices_of(Solver))
    free = int(psutil.virtual_memory().available * _MEMORY_SHARE) if free is None else free
    primal, span, streamed = (
        price(name, n_images, code_size, n_classes, n_searches, components=components)
        for name in get_args(SolverName)
    )
    roads: dict[str, SolverPlan] = {road.name: road for road in (primal, span, streamed)}
    if wanted != "auto":
        road = roads[wanted]
        if road.n_bytes > free:
            message = (
                f"The road {wanted} needs {road.n_bytes / 1e9:.1f} GB of memory for "
                f"{counted(n_images, 'image')} of {counted(code_size, 'number')}, {free / 1e9:.1f} "
                "GB may be used. Use --road auto, or fewer or narrower codes (--pool avg)."
            )
            raise FitError(message)
        return road
    exact = [road for road in (primal, span) if road.n_bytes <= free]
    return min(exact, key=lambda road: road.seconds) if exact else streamed

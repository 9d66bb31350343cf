"""Solvers of a fit, and an estimate of their cost.

The size of the codes comes in; the solver to use goes out, with its time and memory. "gram" is
exact, computes the inner products of all codes once, and is the fastest for many features.
"primal" is exact, keeps all codes in memory, and is the fastest for few features. "streamed"
reads the codes again and again in blocks, for any number of images, and is not exact. No code
is read here.
"""

import contextlib
import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import psutil
from numpy.typing import NDArray

from featx.choices import Solver, check_choice, choices_of
from featx.dataset.folds import usual_repeats
from featx.errors import FitError, OptionError
from featx.fitting.classifiers import CLASSIFIERS, ClassifierKind, check_settings
from featx.fitting.grid_search import SearchSpace
from featx.fitting.settings import FitSettings
from featx.text import counted

__all__ = ["SolverName", "SolverPlan", "choose_solver", "estimate_cost", "plan_solver"]

# With more features, a classifier that uses single features is useless or takes days.
_MOST_FEATURES = 4096
# Up to this number of features lda takes seconds, so --clf auto tries it too.
_FEW_FEATURES = 1024

#: A solver that `choose_solver` can choose.
SolverName = Literal["primal", "gram", "streamed"]

# Measured by benchmarks/fit.py on two cores. They need to be right within a factor of two.
_PRODUCT_FLOPS = 90e9  # float64 operations per second in the inner products of one triangle
_SOLVER_BYTES = 2.2e9  # bytes of rows per second in the iterations of an exact fit
_STREAMED_BYTES = 2.5e9  # the same for the streamed solver, per penalty and class
_PASSES = 2  # over the codes, besides the products: to check them, and for the weights of codes
_READ_BYTES = 0.5e9  # bytes of codes per second
_MATRICES = 6  # n x r doubles at the same time in a fit
_SEARCHED_FITS = 60  # fits of a search with five folds
_FIT_SECONDS = 0.02  # least time of a fit
_ITERATIONS = 20  # of a fit
_FIXED_SECONDS = 3  # for scores and the model
_EPOCHS = 10  # of the streamed solver
_PENALTIES = 5  # that the streamed solver tries
_MEMORY_FRACTION = 0.6  # of the available memory
_FIXED_BYTES = 400e6  # of Python, its libraries, and blocks of codes
_AXES_SECONDS = 1.3e-10  # principal components, for each row and each pair of columns
_AXES_FITS = 6  # of a search with five folds, for any number of settings
_AXES_MATRICES = 3  # n x r doubles, in addition to those of a fit


@dataclass(frozen=True)
class SolverPlan:
    """A solver with its estimated cost.

    Parameters
    ----------
    name : {"primal", "gram", "streamed"}
        The solver.
    seconds : float
        Estimated time of the fit, with all searches and baselines.
    n_bytes : int
        Largest amount of memory.
    """

    name: SolverName
    seconds: float
    n_bytes: int

    @property
    def is_exact(self) -> bool:
        """Whether the result is the same as with scikit-learn on the codes."""
        return self.name != "streamed"


def estimate_cost(
    name: SolverName,
    n_images: int,
    n_features: int,
    n_classes: int,
    n_searches: float = 1,
    *,
    components: int = 0,
) -> SolverPlan:
    """Estimate the cost of a solver.

    Parameters
    ----------
    name : {"primal", "gram", "streamed"}
        The solver.
    n_images, n_features, n_classes : int
        Labelled images, features per image, and classes.
    n_searches : float, default=1
        Searches of one classifier: one per scored fold, and one on all images.
    components : int, default=0
        Principal components that the classifier is fitted on instead of the codes. The
        streamed solver has none.
    """
    n, d = n_images, n_features
    if name == "streamed":
        seconds = _EPOCHS * 8.0 * n * d * n_classes * _PENALTIES / _STREAMED_BYTES
        n_bytes = _FIXED_BYTES + min(1e9, 4.0 * _PENALTIES * 8 * n_classes * d)
        return SolverPlan(name, seconds, int(n_bytes))
    width = min(n, d) if name == "gram" else d
    search = _SEARCHED_FITS * (_FIT_SECONDS + _ITERATIONS * 8.0 * n * width / _SOLVER_BYTES)
    seconds = _FIXED_SECONDS + n_searches * search
    if name == "gram":
        seconds += n**2 * (d + n / 3) / _PRODUCT_FLOPS + _PASSES * 4.0 * n * d / _READ_BYTES
    n_bytes = _FIXED_BYTES + _MATRICES * 8 * n * width
    if components:
        seconds += n_searches * _AXES_FITS * _AXES_SECONDS * n * width * min(n, width)
        n_bytes += _AXES_MATRICES * 8 * n * width + 4 * components * d
    return SolverPlan(name, seconds, int(n_bytes))


def choose_solver(
    n_images: int,
    n_features: int,
    n_classes: int,
    solver: Solver = "auto",
    *,
    n_searches: float = 1,
    components: int = 0,
    free: int | None = None,
) -> SolverPlan:
    """Choose the fastest exact solver that fits in memory, or else the streamed one.

    The streamed solver is not chosen for its speed. On codes with 25,088 features of 16
    classes, "gram" took a fifth of its time for 625 and 2,500 images, and a third for 5,000.
    The time of "gram" grows nearly with n², so both would be equal at about 20,000 images,
    whose search fills 19 GB of memory (benchmarks/README.md).

    Parameters
    ----------
    n_images, n_features, n_classes : int
        Labelled images, features per image, and classes.
    solver : {"auto", "primal", "gram", "streamed"}, default="auto"
        "auto" chooses; others are used if they fit in memory.
    n_searches : float, default=1
        See `estimate_cost`.
    components : int, default=0
        See `estimate_cost`.
    free : int, optional
        Bytes of memory that may be used; by default 60 % of the available memory.

    Raises
    ------
    OptionError
        The solver is unknown.
    FitError
        The given solver needs more memory than there is.
    """
    check_choice("solver", solver, choices_of(Solver))
    free = int(psutil.virtual_memory().available * _MEMORY_FRACTION) if free is None else free
    sizes = (n_images, n_features, n_classes, n_searches)
    names = get_args(SolverName)
    plans = {name: estimate_cost(name, *sizes, components=components) for name in names}
    if solver != "auto":
        plan = plans[solver]
        if plan.n_bytes > free:
            message = (
                f"--solver {solver} needs {plan.n_bytes / 1e9:.1f} GB of memory for "
                f"{counted(n_images, 'image')} with {n_features:,} features each, but only "
                f"{free / 1e9:.1f} GB may be used. Use --solver auto, or fewer features (--pool "
                "avg)."
            )
            raise FitError(message)
        return plan
    exact = [plan for plan in plans.values() if plan.is_exact and plan.n_bytes <= free]
    return min(exact, key=lambda plan: plan.seconds) if exact else plans["streamed"]


def plan_solver(
    settings: FitSettings, width: int, y: NDArray[np.str_], *, scores_folds: bool
) -> tuple[SolverPlan, SearchSpace]:
    """Choose the solver of a fit, and keep the classifiers that it supports.

    Parameters
    ----------
    settings : FitSettings
        The settings of the fit.
    width : int
        Number of features of the codes.
    y : ndarray of str
        Labels of the images.
    scores_folds : bool
        Whether folds are scored, each with its own search.

    Returns
    -------
    SolverPlan
        The solver with its cost.
    SearchSpace
        What the search chooses from.

    Raises
    ------
    OptionError
        The classifiers, or other settings, do not fit the solver or the codes.
    FitError
        The solver needs more memory than there is.
    """
    space = settings.search_space()
    components = space.components
    # Components are the same for each solver, so every classifier may use single ones.
    n_features, any_solver = (width, False) if components is None else (components, True)
    only = space.kinds[0] if len(space.kinds) == 1 else None
    wanted: Solver = settings.solver
    if only is not None and not only.is_rotation_invariant and wanted != "streamed":
        if n_features > _MOST_FEATURES:
            raise OptionError(_too_many_features(only, n_features, components))
        if wanted == "gram" and not any_solver:
            message = (
                f"{only.name} uses single features, which --solver gram does not keep. Use "
                "--solver primal."
            )
            raise OptionError(message)
        wanted = wanted if any_solver else "primal"
    n_repeats = settings.repeats or usual_repeats(len(y))
    n_searches = 1 + (settings.folds * n_repeats if scores_folds else 0)
    # Of several candidates, half of the settings are given up early.
    n_candidates = max(1.0, len(space.kinds) * len(space.normalise) / 2)
    choose = partial(
        choose_solver,
        len(y),
        width,
        len(np.unique(y)),
        n_searches=n_searches * n_candidates,
        components=components or 0,
    )
    solver = choose(wanted)
    if only is None and (wanted, solver.name) == ("auto", "gram") and width <= _FEW_FEATURES:
        with contextlib.suppress(FitError):  # too little memory
            solver = choose("primal")
    if not solver.is_exact:
        if only is None or not only.supports_sgd:
            names = ", ".join(kind.name for kind in CLASSIFIERS.values() if kind.supports_sgd)
            message = (
                f"{counted(len(y), 'image')} with {width:,} features each are fitted with "
                f"--solver streamed, which does not support --clf {settings.clf}. Use --clf with "
                f"one of {names}."
            )
            raise OptionError(message)
        _check_streamed(settings)
        return solver, space
    single = (any_solver or solver.name == "primal") and n_features <= _MOST_FEATURES
    kinds = tuple(kind for kind in space.kinds if kind.is_rotation_invariant or single)
    for kind in kinds:
        check_settings(kind, space.settings, on_gram=solver.name == "gram" and not any_solver)
    return solver, dataclasses.replace(space, kinds=kinds)


def _too_many_features(kind: ClassifierKind, n_features: int, components: int | None) -> str:
    if components is not None:
        return (
            f"{kind.name} supports at most {_MOST_FEATURES:,} features, but --components is "
            f"{components:,}. Use --components {_MOST_FEATURES} or less, or --clf logistic."
        )
    streamed = f", or --solver streamed --clf {kind.name}" if kind.supports_sgd else ""
    return (
        f"{kind.name} supports at most {_MOST_FEATURES:,} features, but these codes have "
        f"{n_features:,}. Extract with --pool avg, or use --clf logistic{streamed}."
    )


def _check_streamed(settings: FitSettings) -> None:
    if settings.components is not None:
        message = (
            "--solver streamed cannot compute principal components, which need all rows at once. "
            "Leave out --components, or use --solver gram."
        )
        raise OptionError(message)
    if settings.refit or (settings.repeats or 1) > 1 or settings.select:
        message = (
            "--solver streamed fits once, on the training set. Leave out --refit, --repeats and "
            "--select, or use --solver gram."
        )
        raise OptionError(message)

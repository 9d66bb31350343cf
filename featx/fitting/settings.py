"""The settings of a fit: what cannot be is refused before there are codes.

Words and numbers come in, as one gives them to `featx.fit`; what is chosen from goes
out. This file knows no store and no image.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featx.choices import ClassWeight, Duplicates, Normalise, Refit, check_choice, choices_of
from featx.errors import OptionError
from featx.fitting.classifiers import CLASSIFIERS, ClassifierKind, find_classifiers
from featx.fitting.single_fit import Options
from featx.text import counted

__all__ = [
    "check_counts",
    "check_fit_settings",
    "check_words",
    "component_count",
    "options_of",
]

# What --normalise auto chooses from: what it leaves out has never won.
_NORMALISE_AUTO = ("l2", "centre", "sqrt-l2")


def check_fit_settings(
    clf: str, normalise: str, class_weight: str | None, folds: int, seed: int
) -> None:
    """Refuse settings of `prepare_fit` that cannot be, before there are codes.

    Raises
    ------
    OptionError
        One cannot.
    """
    options_of(clf, normalise, None, None, class_weight, seed)
    check_counts(folds, 1)


def options_of(  # noqa: PLR0917
    clf: str,
    normalise: str,
    C: float | Sequence[float] | None,
    settings: Mapping[str, Any] | None,
    class_weight: str | None,
    seed: int,
) -> Options:
    """Return what a fit chooses from, by words.

    Raises
    ------
    OptionError
        A setting that cannot be, or two that do not go together.
    """
    kinds = find_classifiers(clf)
    settings, seed = dict(settings or {}), operator.index(seed)
    if not 0 <= seed < 2**32:  # what NumPy takes
        message = f"No such seed: {seed}. Expected --seed from 0 to 4294967295."
        raise OptionError(message)
    check_choice("normalise", normalise, choices_of(Normalise))
    penalties = None if C is None else tuple(float(each) for each in np.atleast_1d(C))
    if penalties is not None:
        _check_penalties(penalties, kinds, settings)
    if len(kinds) > 1 and settings:
        message = (
            f"--set belongs to one classifier, and --clf {clf} tries several. Choose one of "
            f"{', '.join(kind.name for kind in kinds)}."
        )
        raise OptionError(message)
    if class_weight is not None:
        check_words(class_weight=class_weight)
        without = [kind.name for kind in kinds if not kind.has_class_weight]
        if without and len(kinds) == 1:
            message = (
                f"{without[0]} cannot weigh classes. Leave out --class-weight, or use --clf "
                "logistic."
            )
            raise OptionError(message)
        kinds = [kind for kind in kinds if kind.has_class_weight]
        settings["class_weight"] = class_weight
    return Options(
        tuple(kinds),
        _NORMALISE_AUTO if normalise == "auto" else (normalise,),
        penalties,
        settings,
        seed,
    )


def component_count(components: int | None, *, whiten: bool) -> int | None:
    """Return a number of components that can be, if one was given.

    Raises
    ------
    OptionError
        It cannot be, or there is none to whiten.
    """
    if components is None:
        if whiten:
            message = (
                "--whiten divides principal components by their deviations, and there are none. "
                "Expected --components K beside it, as in --components 64 --whiten."
            )
            raise OptionError(message)
        return None
    count = operator.index(components)
    if count < 1:
        message = f"No such number of components: {count}. Expected --components 1 or more."
        raise OptionError(message)
    return count


def check_words(**given: str | None) -> None:
    """Refuse words that a setting does not know.

    Raises
    ------
    OptionError
        There is one.
    """
    allowed = {"refit": Refit, "duplicates": Duplicates, "class_weight": ClassWeight}
    for name, value in given.items():
        if value is not None:
            check_choice(name, value, choices_of(allowed[name]))


def check_counts(folds: int, repeats: int) -> None:
    """Refuse folds that cannot be.

    Raises
    ------
    OptionError
        They cannot.
    """
    if folds < 2 or repeats < 1:
        message = (
            f"Cannot make {counted(folds, 'fold')} {counted(repeats, 'time')}. Expected "
            "--folds 2 or more, and --repeats 1 or more."
        )
        raise OptionError(message)


def _check_penalties(
    penalties: Sequence[float], kinds: Sequence[ClassifierKind], settings: Mapping[str, Any]
) -> None:
    if not penalties or not all(0 < each < np.inf for each in penalties):
        listed = ", ".join(f"{each:g}" for each in penalties)
        message = f"No such C: {listed}. Expected --C with numbers above 0."
        raise OptionError(message)
    with_penalty = [kind for kind in kinds if kind.has_penalty]
    if not with_penalty:
        message = (
            f"{kinds[0].name} has no penalty. Leave out --C, or use --clf with one of "
            f"{', '.join(kind.name for kind in CLASSIFIERS.values() if kind.has_penalty)}."
        )
        raise OptionError(message)
    twice = [kind.parameter for kind in with_penalty if kind.parameter in settings]
    if twice:
        message = f"--C and --set {twice[0]} both name the penalty. Leave out one of them."
        raise OptionError(message)

"""Spelling: the name that a mistyped one was probably meant to be; a number with its noun.

Names and numbers come in, and words go out. This file knows no option and no layer.
"""

import difflib
from collections.abc import Iterable

__all__ = ["counted", "did_you_mean", "nearest"]


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun, and with what else depends on whether it is one.

    Parameters
    ----------
    number : int
        How many.
    one, many : str
        What follows 1, and what follows any other number; that is `one` with an s by default.

    Examples
    --------
    >>> counted(1, "image"), counted(12000, "image")
    ('1 image', '12,000 images')
    >>> counted(1, "class is new", "classes are new")
    '1 class is new'
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, or None if none is like it.

    Examples
    --------
    >>> nearest("block2_pol", ["block1_pool", "block2_pool"])
    'block2_pool'
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return near[0] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the part of a message that proposes the nearest name, or nothing.

    It begins with a blank and stands behind the sentence that refuses `name`.

    Examples
    --------
    >>> did_you_mean("logistik", ["logistic", "ridge"])
    " Did you mean 'logistic'?"
    >>> did_you_mean("forest", ["logistic", "ridge"])
    ''
    """
    guess = nearest(name, known)
    return "" if guess is None else f" Did you mean '{guess}'?"

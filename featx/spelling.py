"""Spelling: the name that a mistyped one was probably meant to be.

A name and those that exist come in; the nearest, or words that propose it, go
out. This file knows no option and no layer.
"""

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest", "no_such"]


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


def no_such(kind: str, name: str, flag: str, known: Iterable[str]) -> str:
    """Return the message that refuses a word for a flag, and lists those that there are.

    Examples
    --------
    >>> print(no_such("road", "spam", "--road", ["auto", "span"]))
    No road 'spam'. Did you mean 'span'? Use --road with one of auto, span.
    """
    words = list(known)
    return (
        f"No {kind} '{name}'.{did_you_mean(name, words)} Use {flag} with one of {', '.join(words)}."
    )

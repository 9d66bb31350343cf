"""Spelling: the name that a mistyped one was probably meant to be; one image, two images.

A name and those that exist come in; the nearest, or words that propose it, go
out. A number comes in, and goes out with its noun. This file knows no option and
no layer.
"""

import difflib
from collections.abc import Iterable

__all__ = ["counted", "did_you_mean", "nearest", "no_such"]


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


def counted(number: int, noun: str, nouns: str = "") -> str:
    """Return a number with what is counted, in the singular or the plural.

    Parameters
    ----------
    number : int
        How many.
    noun : str
        What one of them is called, with whatever follows in the singular.
    nouns : str, default=""
        What several are called; `noun` with an s if it is empty.

    Returns
    -------
    str

    Examples
    --------
    >>> counted(1, "image"), counted(12000, "image")
    ('1 image', '12,000 images')
    >>> counted(1, "copy is", "copies are"), counted(2, "copy is", "copies are")
    ('1 copy is', '2 copies are')
    """
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"

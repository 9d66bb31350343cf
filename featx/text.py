"""Words for messages: names in quotes, numbers with their nouns, corrections of typing errors.

A name or a number comes in; a piece of a sentence goes out. This file knows no option and
no layer.
"""

import difflib
from collections.abc import Iterable

__all__ = ["counted", "did_you_mean", "nearest", "printable", "quoted", "quoted_list"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to `name`, or None if none is similar.

    Examples
    --------
    >>> nearest("block2_pol", ["block1_pool", "block2_pool"])
    'block2_pool'
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return near[0] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'NAME'?" for the nearest known name, or an empty string.

    The result follows the sentence that rejects `name`, so it starts with a space.

    Examples
    --------
    >>> did_you_mean("logistik", ["logistic", "ridge"])
    " Did you mean 'logistic'?"
    >>> did_you_mean("forest", ["logistic", "ridge"])
    ''
    """
    guess = nearest(name, known)
    return "" if guess is None else f" Did you mean '{guess}'?"


def counted(number: int, noun: str, nouns: str = "") -> str:
    """Return a number with its noun, in the singular or the plural.

    Parameters
    ----------
    number : int
        How many there are.
    noun : str
        The singular, with any words that follow it.
    nouns : str, default=""
        The plural; `noun` with an s if it is empty.

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


def printable(name: object) -> str:
    r"""Return a name in characters that every terminal and every table can hold.

    Bytes of a file name that are not UTF-8 are spelled as \xNN.

    Examples
    --------
    >>> printable("caf\udce9.png") == r"caf\xe9.png"
    True
    """
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def quoted(name: object) -> str:
    """Return a printable name in single quotes.

    Examples
    --------
    >>> quoted("cat.jpg")
    "'cat.jpg'"
    """
    return f"'{printable(name)}'"


def quoted_list(names: Iterable[object], limit: int = 5) -> str:
    """Return the first names in quotes, and the number of names that are left out.

    Examples
    --------
    >>> quoted_list("abcdefg")
    "'a', 'b', 'c', 'd', 'e' and 2 more"
    """
    every = list(names)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(map(quoted, every[:limit])) + more

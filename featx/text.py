"""Text for messages: quoted names, numbers with nouns, suggestions for names, reasons of errors.

Names, numbers and errors come in; parts of sentences go out. This module does not know options
or layers.
"""

import difflib
import errno
import os
import re
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import PurePosixPath

__all__ = [
    "composed",
    "counted",
    "did_you_mean",
    "ending",
    "escaped",
    "nearest",
    "printable",
    "quoted",
    "quoted_list",
    "storable",
    "system_error",
]

#: Errors of the system that wrong bytes cause: an address beyond the end of any file.
_CAUSED_BY_BYTES = {errno.EINVAL, errno.EOVERFLOW}
# Surrogates, except for those that represent the bytes of a file name.
_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")

# Characters that control a terminal, or the direction or the lines of a text.
_CONTROLS = r"\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
_NOT_IN_A_NAME, _NOT_IN_A_TEXT = re.compile(rf"[{_CONTROLS}\t\n]"), re.compile(rf"[{_CONTROLS}]")


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
    """Return a number and its noun, in the singular or the plural.

    Parameters
    ----------
    number : int
        The number.
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
    >>> counted(1, "class is", "classes are"), counted(2, "class is", "classes are")
    ('1 class is', '2 classes are')
    """
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


def composed(name: str) -> str:
    """Return a name in Unicode's form NFC: names that look the same are then equal.

    Linux keeps the form in which a name was written, and macOS decomposes letters with accents.

    Examples
    --------
    >>> composed("cafe\u0301") == "caf\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def escaped(text: str) -> str:
    r"""Return a text for a terminal: control characters become escapes, except line breaks.

    Examples
    --------
    >>> escaped("red\x1b[31m.jpg\n") == "red\\x1b[31m.jpg\n"
    True
    """
    return _NOT_IN_A_TEXT.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def printable(name: object) -> str:
    r"""Return a name for a message: as `storable` does, and with control characters escaped.

    Examples
    --------
    >>> printable("new\nline\u202e.png") == r"new\nline\u202e.png"
    True
    """
    return _NOT_IN_A_NAME.sub(_escape, storable(name))


def storable(name: object) -> str:
    r"""Return a name in characters that every file can represent.

    Bytes of a file name that are not UTF-8 become \xNN, and halves of a character of UTF-16,
    which JSON may hold, \uNNNN.

    Examples
    --------
    >>> storable("caf\udce9.png") == r"caf\xe9.png"
    True
    >>> storable("\ud83d") == r"\ud83d"
    True
    """
    text = _HALVES.sub(lambda half: f"\\u{ord(half[0]):04x}", str(name))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def quoted(name: object) -> str:
    """Return a printable name in single quotes.

    Examples
    --------
    >>> quoted("cat.jpg")
    "'cat.jpg'"
    """
    return f"'{printable(name)}'"


def quoted_list(names: Iterable[object], limit: int = 5) -> str:
    """Return the first names in quotes, and the number of the other names.

    Examples
    --------
    >>> quoted_list("abcdefg")
    "'a', 'b', 'c', 'd', 'e' and 2 more"
    """
    every = list(names)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(map(quoted, every[:limit])) + more


def ending(path: str) -> str:
    """Return the last dot of a file name and the text after it, in lower case.

    Examples
    --------
    >>> ending("a.b/IMG.JPG"), ending("a.b/IMG"), ending("x.jpg.1")
    ('.jpg', '', '.1')
    """
    return PurePosixPath(path).suffix.lower()


def system_error(error: BaseException) -> str | None:
    """Return the reason if the operating system could not read; None if the bytes are wrong.

    HDF5 reports an error of the system in its text, and h5py raises some as a KeyError.

    Examples
    --------
    >>> system_error(PermissionError(13, "Permission denied"))
    'Permission denied'
    >>> system_error(KeyError("file read failed: errno = 5, error message = ..."))
    'Input/output error'
    >>> system_error(OSError("truncated file: eof = 500"))
    """
    if isinstance(error, zipfile.BadZipFile):
        error = error.__context__ or error  # zipfile raises it for errors of the system, too
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    if number is None and (found := re.search(r"\berrno = (\d+)", str(error))):
        number = int(found[1])
    return os.strerror(number) if number and number not in _CAUSED_BY_BYTES else None

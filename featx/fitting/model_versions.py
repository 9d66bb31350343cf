"""Versions of the libraries that saved a model, compared with the installed ones.

A .skops file comes in; a note, or the remedy for an error, goes out. No code of the file runs.
"""

import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from sklearn.exceptions import InconsistentVersionWarning

from featx.unpacking import read_member

__all__ = ["one_version_note", "saved_versions", "version_remedy"]

# Letters and digits only: the text becomes part of a command that users are told to type.
_VERSION = re.compile(r"[0-9][0-9A-Za-z]*(\.[0-9A-Za-z]+)*")

logger = logging.getLogger(__name__)


@contextmanager
def one_version_note(path: Path) -> Iterator[None]:
    """Replace the warnings of scikit-learn about other versions, one per estimator, by one note."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InconsistentVersionWarning)
        yield
    found = None
    for each in caught:
        if isinstance(each.message, InconsistentVersionWarning):
            found = str(each.message.original_sklearn_version)
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if found is not None and _VERSION.fullmatch(found):
        logger.warning(
            "%s was saved with scikit-learn %s, but %s is installed. Compare some predictions with "
            "earlier ones, or install that version: pip install scikit-learn==%s",
            *(path, found, version("scikit-learn"), found),
        )


def saved_versions(path: Path) -> dict[str, str]:
    """Return the versions of scikit-learn and skops that saved a .skops file, as far as known."""
    try:
        with zipfile.ZipFile(path) as archive:
            schema = json.loads(read_member(archive, archive.getinfo("schema.json")))
        classifier = schema["content"]["classifier"]["content"]["content"]
        found = {
            "scikit-learn": json.loads(classifier["_sklearn_version"]["content"]),
            "skops": schema["_skops_version"],
        }
    # The file may be damaged, or of another program.
    except (
        *(AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError),
        zipfile.BadZipFile,
    ):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def version_remedy(saved: Mapping[str, str]) -> str:
    """Return which versions saved a model, and how to install them; "" if they are installed."""
    other = {
        name: value
        for name, value in saved.items()
        if value != version(name) and _VERSION.fullmatch(value)
    }
    if not other:
        return ""
    made = " and ".join(f"{name} {value}" for name, value in other.items())
    here = " and ".join(f"{name} {version(name)}" for name in other)
    wanted = " ".join(f"{name}=={value}" for name, value in other.items())
    return (
        f"It was saved with {made}, but {here} {'are' if len(other) > 1 else 'is'} installed. "
        f"Install the versions that saved it: pip install {wanted}"
    )

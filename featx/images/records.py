"""The list of images as values: a record for each image, and the listing of all.

Nothing comes in; what `featx.images.listing` returns goes out, and the words
its notes and errors are made of. This file opens nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featx.images.urls import File

__all__ = ["ImageRecord", "Listing"]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image in the list.

    Parameters
    ----------
    path : str
        Path as it is stored: relative, with forward slashes; or a URL. Bytes that are no
        UTF-8 are kept as surrogates (`os.fsencode` gives them back).
    file : Path or Url
        Where the image lies now.
    label : str or None
        Its class, if it has one.
    split : {"train", "val", "test"} or None
        The part of the data it belongs to, if the data are parted.
    group : str or None
        Images of one group stay on the same side of any split.
    """

    path: str
    file: "File"
    label: str | None
    split: str | None
    group: str | None


@dataclass(frozen=True)
class Listing:
    """All images of a folder or table, in a fixed order.

    Parameters
    ----------
    root : Path or Url
        The folder that the records' paths are relative to.
    records : tuple of ImageRecord
        The images: sorted by path, or in the order of the manifest.
    notes : tuple of str
        Sentences for the user: what was left out or merged.
    """

    root: "File"
    records: tuple[ImageRecord, ...]
    notes: tuple[str, ...]

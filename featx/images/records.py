"""The list of images: a record for each image, and the listing of all of them."""

from dataclasses import dataclass

from featx.images.urls import File

__all__ = ["ImageRecord", "Listing"]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a listing.

    Parameters
    ----------
    path : str
        Path as it is stored: relative, with forward slashes; or a URL. Bytes that are not
        UTF-8 are kept as surrogates (`os.fsencode` restores them).
    file : Path or Url
        The file to read.
    label : str or None
        Class of the image, if it has one.
    split : {"train", "val", "test"} or None
        Split that the image belongs to, if there are splits.
    group : str or None
        Images of one group stay on the same side of any split.
    """

    path: str
    file: File
    label: str | None = None
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Listing:
    """All images of a folder or a table, in a fixed order.

    Parameters
    ----------
    root : Path or Url
        The folder that the paths of the records are relative to.
    records : tuple of ImageRecord
        The images: sorted by path, or in the order of the manifest.
    notes : tuple of str
        Notes for the user: what was left out or merged.
    """

    root: File
    records: tuple[ImageRecord, ...]
    notes: tuple[str, ...] = ()

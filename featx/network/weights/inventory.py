"""What a weights file holds, said without reading a single array.

A path comes in; an inventory goes out, for a person who wonders what a file is,
and a check that it serves the layers asked for. This file does not print.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from featx.network.weights.layouts import open_layout
from featx.network.weights.matching import (
    WEIGHTED,
    How,
    match_entries,
    propose_renames,
    require,
)
from featx.network.weights.renaming import RenameProposal, Renames, entry_labels, find_renamed

__all__ = ["WeightsGroup", "WeightsInventory", "check_weights", "inspect_weights"]


@dataclass(frozen=True)
class WeightsGroup:
    """One layer of a weights file.

    Parameters
    ----------
    name : str
        Name of the layer, or of its group where the file holds no name; with its
        place before it if the file has others of that name.
    shapes : tuple of tuple of int
        Shapes of its arrays, kernel first.
    dtype : str
        Their numbers, in words.
    vgg19_layer : str or None
        The layer of VGG19 that it is, or claims to be by its name.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    vgg19_layer: str | None


@dataclass(frozen=True)
class WeightsInventory:
    """What a weights file holds.

    Parameters
    ----------
    path : Path
        The file.
    layout : str
        Its layout, in words.
    groups : tuple of WeightsGroup
        Its layers that have arrays, in the file's order.
    covers : tuple of str
        Layers of VGG19 that are there once, with the right shapes.
    how : {"by name", "by order and shapes"}
        How they were told apart.
    missing : tuple of str
        Layers of VGG19 that are not there.
    mismatched : tuple of str
        Layers of VGG19 that are there with other shapes.
    twice : tuple of str
        Layers of VGG19 that are there several times; none of them is taken.
    proposals : tuple of RenameProposal
        Renames that would make further layers fit, by order and shapes.
    """

    path: Path
    layout: str
    groups: tuple[WeightsGroup, ...]
    covers: tuple[str, ...]
    how: How
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    twice: tuple[str, ...]
    proposals: tuple[RenameProposal, ...]


def inspect_weights(path: str | Path) -> WeightsInventory:
    """Say what a weights file holds, and which layers of VGG19 it covers.

    Raises
    ------
    WeightsError
        The file cannot be opened, is damaged, or is something else.
    """
    path = Path(path)
    with open_layout(path) as contents:
        entries = contents.entries
    match = match_entries(entries)
    singles = {**match.fits, **match.misfits}.items()
    layers = {entry: name for name, entry in singles}
    layers |= {entry: name for name, entries in match.twice.items() for entry in entries}
    return WeightsInventory(
        path=path,
        layout=contents.layout,
        groups=tuple(
            WeightsGroup(label, entry.shapes, entry.dtype, layers.get(entry))
            for label, entry in zip(entry_labels(entries), entries, strict=True)
        ),
        covers=tuple(match.fits),
        how=match.how,
        missing=tuple(n for n in WEIGHTED if n not in {*match.fits, *match.misfits, *match.twice}),
        mismatched=tuple(match.misfits),
        twice=tuple(match.twice),
        proposals=propose_renames(match, entries, WEIGHTED),
    )


def check_weights(path: Path, layers: Iterable[str], rename: Renames = ()) -> None:
    """Raise an error unless a file holds the weights that `layers` need.

    Parameters
    ----------
    path : Path
        The file.
    layers : iterable of str
        Layers that codes are taken from.
    rename : tuple of (str, str), default=()
        Name in the file, layer of VGG19.

    Raises
    ------
    WeightsError
        The file cannot be read, or does not fit.
    """
    with open_layout(path) as contents:
        entries = contents.entries
    require(match_entries(entries, find_renamed(entries, rename, path)), entries, layers, path)

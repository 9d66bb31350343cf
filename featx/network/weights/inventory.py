"""What a weights file holds, said without reading a single array.

A path comes in; an inventory goes out, for a person who wonders what a file is,
and a check that it serves the layers asked for. This file does not print.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from featx.network.weights.layouts import open_layout
from featx.network.weights.matching import WEIGHTED, How, match_entries, require

__all__ = ["WeightsGroup", "WeightsInventory", "check_weights", "inspect_weights"]


@dataclass(frozen=True)
class WeightsGroup:
    """One layer of a weights file.

    Parameters
    ----------
    name : str
        Name of the layer, or of its group where the file holds no name.
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
    """

    path: Path
    layout: str
    groups: tuple[WeightsGroup, ...]
    covers: tuple[str, ...]
    how: How
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    twice: tuple[str, ...]


def inspect_weights(path: str | Path) -> WeightsInventory:
    """Say what a weights file holds, and which layers of VGG19 it covers.

    Raises
    ------
    WeightsError
        The file cannot be opened, is damaged, or is something else.
    """
    path = Path(path)
    with open_layout(path) as contents:
        match = match_entries(contents.entries)
    singles = {**match.fits, **match.misfits}.items()
    layers = {entry: name for name, entry in singles}
    layers |= {entry: name for name, entries in match.twice.items() for entry in entries}
    return WeightsInventory(
        path=path,
        layout=contents.layout,
        groups=tuple(
            WeightsGroup(entry.name, entry.shapes, entry.dtype, layers.get(entry))
            for entry in contents.entries
        ),
        covers=tuple(match.fits),
        how=match.how,
        missing=tuple(n for n in WEIGHTED if n not in {*match.fits, *match.misfits, *match.twice}),
        mismatched=tuple(match.misfits),
        twice=tuple(match.twice),
    )


def check_weights(path: Path, layers: Iterable[str]) -> None:
    """Raise an error unless a file holds the weights that `layers` need.

    Raises
    ------
    WeightsError
        The file cannot be read, or does not fit.
    """
    with open_layout(path) as contents:
        require(match_entries(contents.entries), contents.entries, layers, path)

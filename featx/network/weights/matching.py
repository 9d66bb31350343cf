"""Which layer of a weights file is which layer of VGG19.

The layers of a file come in, with the names that the user gave them (`--rename`); the
layers of VGG19 that they match go out. Layers match by name and shape. If a file has no
names of VGG19, its 16 convolutions match by their order.
This file reads no arrays.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from featx.errors import OptionError, WeightsError
from featx.layers import LAYERS, deepest, layers_up_to, weight_shapes
from featx.network.weights.architecture import Difference, differences
from featx.network.weights.layouts import WEIGHTED, Entry, open_layout, vgg19_name
from featx.text import did_you_mean, quoted_list

__all__ = [
    "Match",
    "Renames",
    "WeightsGroup",
    "WeightsInventory",
    "check_rename",
    "inspect_weights",
    "labelled",
    "match_entries",
    "needed_layers",
]

MatchedBy = Literal["name", "order and shapes"]
#: Pairs of a name in the file and the corresponding VGG19 layer, sorted.
Renames = tuple[tuple[str, str], ...]

_CONVOLUTIONS = tuple(layer.name for layer in LAYERS if layer.kind == "conv")

_LONGEST_LIST = 10


@dataclass(frozen=True)
class Match:
    """The layers of VGG19 that a file holds.

    Parameters
    ----------
    matched_by : {"name", "order and shapes"}
        How the layers were recognised.
    fits, misfits : dict of str to Entry
        Layer -> its entry, with the right shapes and with other shapes.
    repeated : dict of str to list of Entry
        Layer -> all its entries, for layers that the file holds several times.
    """

    matched_by: MatchedBy
    fits: dict[str, Entry] = field(default_factory=dict)
    misfits: dict[str, Entry] = field(default_factory=dict)
    repeated: dict[str, list[Entry]] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightsGroup:
    """One layer of a weights file.

    Parameters
    ----------
    name : str
        Name of the layer, or of its group if the file holds no name. If several layers
        have the same name, the place in the file comes before it.
    shapes : tuple of tuple of int
        Shapes of its arrays, the kernel first.
    dtype : str
        Data types of its arrays.
    vgg19_layer : str or None
        The layer of VGG19 that it corresponds to, or has the name of.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    vgg19_layer: str | None


@dataclass(frozen=True)
class WeightsInventory:
    """The contents of a weights file.

    Parameters
    ----------
    path : Path
        The file.
    layout : str
        Name of its layout.
    groups : tuple of WeightsGroup
        Its layers that have arrays, in the file's order.
    covers : tuple of str
        Layers of VGG19 that it holds once, with the right shapes.
    matched_by : {"name", "order and shapes"}
        How the layers were recognised.
    missing : tuple of str
        Layers of VGG19 that it does not hold.
    mismatched : tuple of str
        Layers of VGG19 that it holds with other shapes.
    repeated : tuple of str
        Layers of VGG19 that it holds several times. None of them is used.
    differences : tuple of Difference
        Other layers and settings, up to the deepest layer that it covers, with which the
        network is not a VGG19.
    """

    path: Path
    layout: str
    groups: tuple[WeightsGroup, ...]
    covers: tuple[str, ...]
    matched_by: MatchedBy
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    repeated: tuple[str, ...]
    differences: tuple[Difference, ...] = ()


def inspect_weights(path: str | Path) -> WeightsInventory:
    """List the layers of a weights file, and the layers of VGG19 that it covers.

    No array is read.

    Raises
    ------
    WeightsError
        The file cannot be opened, is damaged, or is not a weights file.
    """
    path = Path(path)
    with open_layout(path) as contents:
        entries = contents.entries
        match = match_entries(entries)
        covered = [
            name
            for name in (layer.name for layer in LAYERS)
            if set(needed_layers([name])) <= match.fits.keys()
        ]
        others = differences(contents, match.fits, covered[-1]) if covered else ()
    layers = {entry: name for name, entry in {**match.fits, **match.misfits}.items()}
    layers |= {entry: name for name, several in match.repeated.items() for entry in several}
    return WeightsInventory(
        path=path,
        layout=contents.layout,
        groups=tuple(
            WeightsGroup(label, entry.shapes, entry.dtype, layers.get(entry))
            for entry, label in labelled(entries).items()
        ),
        covers=tuple(match.fits),
        matched_by=match.matched_by,
        missing=tuple(name for name in WEIGHTED if name not in layers.values()),
        mismatched=tuple(match.misfits),
        repeated=tuple(match.repeated),
        differences=others,
    )


def needed_layers(layers: Iterable[str]) -> tuple[str, ...]:
    """Return the layers whose weights are needed to compute `layers`."""
    return tuple(layer.name for layer in layers_up_to(deepest(layers)) if layer.kind != "pool")


def check_rename(rename: Mapping[str, str] | None) -> Renames:
    """Return renames as sorted pairs, after the checks that need no file.

    Raises
    ------
    OptionError
        A new name is not a layer with weights, or is given twice.

    Examples
    --------
    >>> check_rename({"conv_b": "block1_conv2", "conv_a": "block1_conv1"})
    (('conv_a', 'block1_conv1'), ('conv_b', 'block1_conv2'))
    """
    pairs = tuple(sorted((rename or {}).items()))
    first: dict[str, str] = {}
    for old, new in pairs:
        if weight_shapes(new) is None:
            message = (
                f"{_flag(old, new)}: the layer {new} of VGG19 has no weights. Use OLD=NEW with a "
                "layer that has weights, such as block1_conv1. List all layers with: featx layers"
            )
            raise OptionError(message)
        if new in first:
            message = (
                f"{_flag(first[new], new)} and {_flag(old, new)} assign two layers of the file "
                f"to {new}. Remove one of them."
            )
            raise OptionError(message)
        first[new] = old
    return pairs


def match_entries(
    entries: Sequence[Entry], rename: Renames = (), path: Path | None = None
) -> Match:
    """Match the layers of a file to those of VGG19: by name, or by order if there are no names.

    If one convolution has a name of VGG19, or one is renamed, all layers are matched by
    name. A file is never matched partly by name and partly by order. A renamed entry loses
    its own name, and a new name refers to no other entry.

    Parameters
    ----------
    entries : sequence of Entry
        Layers of the file, in its order.
    rename : tuple of (str, str), default=()
        Name in the file, layer of VGG19.
    path : Path, optional
        The file, for messages.

    Raises
    ------
    WeightsError
        The file has no layer of an old name, or several.
    """
    labels = labelled(entries)
    count = Counter(labels.values())
    by_label = {label: entry for entry, label in labels.items()}
    for old, new in rename:
        if count[old] != 1:
            raise WeightsError(_no_such_layer(old, new, labels, path))
    named = {new: [by_label[old]] for old, new in rename}
    renamed, moved = set(named), {by_label[old] for old, _ in rename}
    for entry in entries:
        name = vgg19_name(entry.name)
        if name is not None and name not in renamed and entry not in moved:
            named.setdefault(name, []).append(entry)
    is_named = renamed or not named.keys().isdisjoint(_CONVOLUTIONS)
    runs = [] if is_named else list(_runs(entries))
    if not runs:
        return _classify("name", named)
    candidates = {name: [run[name] for run in runs if name in run] for name in runs[0]}
    return _classify("order and shapes", candidates)


def labelled(entries: Sequence[Entry]) -> dict[Entry, str]:
    """Return the name of each entry for --rename, with its place if others have the same name."""
    count = Counter(entry.name for entry in entries)
    return {e: e.name if count[e.name] == 1 else f"{e.place}/{e.name}" for e in entries}


def _classify(matched_by: MatchedBy, candidates: dict[str, list[Entry]]) -> Match:
    """Sort candidates into those that fit, those of other shapes, and repeated ones."""
    match = Match(matched_by)
    for name in filter(candidates.__contains__, WEIGHTED):
        first, *others = candidates[name]
        if others:
            match.repeated[name] = candidates[name]
        elif first.shapes == weight_shapes(name):
            match.fits[name] = first
        else:
            match.misfits[name] = first
    return match


def _runs(entries: Sequence[Entry]) -> Iterator[dict[str, Entry]]:
    """Find the 16 convolutions of VGG19 among unnamed layers, one directly after the other.

    Each nested model is searched by itself, since it numbers its layers from the start. fc1
    and fc2 belong to a run if they follow it directly.
    """
    shapes = [weight_shapes(name) for name in WEIGHTED]
    places: dict[str, list[Entry]] = {}
    for entry in entries:
        places.setdefault(entry.place, []).append(entry)
    for inside in places.values():
        for start in range(len(inside) - len(_CONVOLUTIONS) + 1):
            run: dict[str, Entry] = {}
            for name, entry, expected in zip(WEIGHTED, inside[start:], shapes, strict=False):
                if entry.shapes != expected:
                    break
                run[name] = entry
            if len(run) >= len(_CONVOLUTIONS):
                yield run


def _no_such_layer(old: str, new: str, labels: Mapping[Entry, str], path: Path | None) -> str:
    same = [label for entry, label in labels.items() if old in {entry.name, label}]
    if same:
        return (
            f"{_flag(old, new)}: {path} has {len(same)} layers named {old}. Put the group before "
            f"the name: {' or '.join(same[:2])}"
        )
    held = labels.values()
    return (
        f"{_flag(old, new)}: {path} has no layer '{old}'.{did_you_mean(old, held)}\n"
        f"The file holds: {quoted_list(held, _LONGEST_LIST) or 'no layers'}.\n"
        f"List its contents with: featx info {path}"
    )


def _flag(old: str, new: str) -> str:
    """Return a rename as typed in a shell."""
    return f"--rename {shlex.quote(f'{old}={new}')}"

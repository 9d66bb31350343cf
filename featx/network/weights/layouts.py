"""The layouts in which Keras has saved networks, read as one list of entries.

A path comes in; its layers go out as entries: a name, and where its arrays lie.
Only headers are read, no array. This file does not know which layers VGG19
needs, nor their shapes.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from featx.hdf5 import inside, objects_inside
from featx.network.weights.files import READ_FAILURES, damaged, open_weights
from featx.network.weights.names import config_names, natural_key, owner, vgg19_name

__all__ = ["Contents", "Entry", "open_layout"]


@dataclass(frozen=True)
class Entry:
    """One layer of a weights file.

    Parameters
    ----------
    name : str
        Name of the layer, or of its group where the file holds no name.
    place : str
        Group of the model that holds the layer.
    datasets : tuple of str
        Paths of its arrays, kernel first.
    shapes : tuple of tuple of int
        Their shapes.
    dtype : str
        Their numbers, in words.
    """

    name: str
    place: str
    datasets: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str


@dataclass(frozen=True)
class Contents:
    """An open weights file and what it holds.

    Parameters
    ----------
    file : h5py.File
        The file; it closes with the context of `open_layout`.
    layout : str
        Its layout, in words.
    entries : tuple of Entry
        Its layers that have arrays, in the file's order.
    """

    file: h5py.File
    layout: str
    entries: tuple[Entry, ...]


@contextmanager
def open_layout(path: Path) -> Iterator[Contents]:
    """Open a weights file and list its layers.

    Raises
    ------
    WeightsError
        The file cannot be opened, is damaged, or is something else.
    """
    with open_weights(path) as (file, config):
        try:
            layout, entries = _list_entries(file, config)
        except READ_FAILURES as error:
            raise damaged(path, error) from error
        yield Contents(file, layout, entries)


def _list_entries(file: h5py.File, config: object) -> tuple[str, tuple[Entry, ...]]:
    """Tell the layout from what the file holds."""
    if config is not None:
        return ".keras archive", tuple(_keras3(file, config_names(config)))
    if _holds_names(file, "layer_names"):
        return "Keras 1/2 legacy h5", tuple(_legacy(file, ""))
    if "model_weights" in file and _holds_names(inside(file, "model_weights"), "layer_names"):
        return "Keras 1/2 legacy h5, whole model", tuple(_legacy(file, "model_weights/"))
    entries = tuple(_keras3(file, {}))
    if entries:
        return "Keras 3 .weights.h5", entries
    return "HDF5 of no known layout", tuple(_plain(file))


def _legacy(file: h5py.File, top: str) -> Iterable[Entry]:
    """Follow the attributes `layer_names` and `weight_names`, which hold the order."""
    for layer in _names(inside(file, top), "layer_names"):
        group = f"{top}{layer}"
        owners = _by_owner(_names(inside(file, group), "weight_names"))
        for label, weights in owners.items():
            alone = len(owners) == 1  # else the layer is a model, nested
            inner = label.split("/")[::-1]
            name = _best_name([layer, *inner]) if alone else _best_name(inner) or layer
            place = top.rstrip("/") if alone else group
            yield _entry(file, name, place, [f"{group}/{weight}" for weight in weights])


def _keras3(file: h5py.File, names: dict[str, str]) -> Iterable[Entry]:
    """Take every group `vars`: the layer's arrays are 0, 1, ... in it.

    The layer's own name is the attribute `name`, which tf.keras and the first
    releases of Keras 3 did not write; `names` holds what the config says.
    """
    for path in _paths(file, h5py.Group):
        group, _, last = path.rpartition("/")
        arrays = (k for k in file[path] if _is_array(inside(file, f"{path}/{k}")))
        weights = sorted(arrays, key=natural_key)
        if last != "vars" or group == "optimizer" or not weights:
            continue
        place, _, folder = group.rpartition("/")
        said = _text(file[path].attrs.get("name", ""))
        name = _best_name([said, names.get(group, ""), folder])
        yield _entry(file, name, place, [f"{path}/{weight}" for weight in weights])


def _plain(file: h5py.File) -> Iterable[Entry]:
    """Take every dataset, and group them by the layer that their paths name."""
    for label, weights in _by_owner(_paths(file, h5py.Dataset)).items():
        yield _entry(file, _best_name(label.split("/")[::-1]), label.rpartition("/")[0], weights)


def _entry(file: h5py.File, name: str, place: str, datasets: list[str]) -> Entry:
    found = {path: inside(file, path) for path in datasets}
    datasets = sorted(datasets, key=lambda path: -found[path].ndim)  # stable: kernel, bias
    dtypes = dict.fromkeys(_dtype(found[path]) for path in datasets)
    shapes = tuple(tuple(found[path].shape) for path in datasets)
    return Entry(name, place, tuple(datasets), shapes, ", ".join(dtypes))


def _dtype(dataset: h5py.Dataset) -> str:
    """Name a dataset's numbers; HDF5 has no bfloat16, and Keras writes two raw bytes."""
    return "bfloat16" if dataset.dtype == "V2" else str(dataset.dtype)


def _best_name(labels: list[str]) -> str:
    """Return the first label that is a VGG19 layer, else the first that is anything."""
    return next(filter(vgg19_name, labels), next(filter(None, labels), ""))


def _by_owner(weights: Iterable[str]) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for weight in weights:
        owners.setdefault(owner(weight), []).append(weight)
    return owners


def _paths(file: h5py.File, kind: type) -> list[str]:
    """Return the paths of a kind of object; links to elsewhere are not followed."""
    paths = (path for path, item in objects_inside(file) if isinstance(item, kind))
    return sorted(paths, key=natural_key)


def _is_array(item: object) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim > 0


def _holds_names(group: h5py.Group, attribute: str) -> bool:
    return attribute in group.attrs or f"{attribute}0" in group.attrs


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Read a list of names, which Keras cuts into attribute0, attribute1, ... if it is long."""
    if attribute in group.attrs:
        return [_text(name) for name in group.attrs[attribute]]
    pieces = (f"{attribute}{number}" for number in itertools.count())
    present = itertools.takewhile(group.attrs.__contains__, pieces)
    return [_text(name) for piece in present for name in group.attrs[piece]]


def _text(name: object) -> str:
    """Keras 1 and 2 wrote names as bytes, Keras 3 writes text."""
    return name.decode() if isinstance(name, bytes) else str(name)

"""Every layout in which Keras has saved networks, read as one list of layers.

A path comes in; the layers of the file go out as entries: a name, and where the arrays
are; and the calls of the layers, if the file holds the model's config. Only headers are
read, no arrays. This file does not know which layers VGG19 needs, nor their shapes.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

from featx.errors import WeightsError
from featx.hdf5 import attribute as read_attribute
from featx.hdf5 import inside, objects_inside, read_errors
from featx.layers import LAYERS
from featx.network.weights.configs import Call, config_names, read_calls
from featx.network.weights.files import damaged, open_weights

__all__ = ["WEIGHTED", "Contents", "Entry", "open_layout", "vgg19_name"]

#: Names of the VGG19 layers that have weights, in the network's order.
WEIGHTED = tuple(layer.name for layer in LAYERS if layer.kind != "pool")


# Names of variable length in a list. Keras writes names of fixed length, without a limit.
_MOST_NAMES = 100


@dataclass(frozen=True)
class Entry:
    """One layer of a weights file.

    Parameters
    ----------
    name : str
        Name of the layer, or of its group if the file holds no layer name.
    place : str
        Group of the model that holds the layer.
    datasets : tuple of str
        Paths of its arrays, the kernel first; empty for a layer without arrays.
    shapes : tuple of tuple of int
        Shapes of its arrays.
    dtype : str
        Data types of its arrays, joined by commas.
    group : str, default=""
        The last part of the path of its group. Keras names it after the class of the layer,
        or after the layer.
    """

    name: str
    place: str
    datasets: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    group: str = ""


@dataclass(frozen=True)
class Contents:
    """An open weights file, and its layers.

    Parameters
    ----------
    file : h5py.File
        The file.
    path : Path
        Its path.
    layout : str
        Name of its layout.
    layers : tuple of Entry
        All its layers, as far as it lists them.
    in_order : bool
        Whether `layers` has the order of the network; otherwise only layers of one class do.
    calls : tuple of Call
        The layers as the model's config connects them; empty without a config.
    """

    file: h5py.File
    path: Path
    layout: str
    layers: tuple[Entry, ...]
    in_order: bool = False
    calls: tuple[Call, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The layers that have arrays."""
        return tuple(layer for layer in self.layers if layer.datasets)


@contextmanager
def open_layout(path: Path) -> Iterator[Contents]:
    """Open a weights file and list its layers.

    Yields
    ------
    Contents
        The file and its layers.

    Raises
    ------
    WeightsError
        The file cannot be opened, is damaged, or is not a weights file.
    """
    with open_weights(path) as (file, config):
        with read_errors(path, WeightsError, lambda error: damaged(path, error)):
            contents = _list_layers(file, path, config)
        yield contents


def vgg19_name(name: str) -> str | None:
    """Return the VGG19 layer that a name refers to, or None.

    TensorFlow 1 appended a number to a name that was taken, so it saved the second
    network of a session as block1_conv1_1.

    Examples
    --------
    >>> vgg19_name("block1_conv1_1"), vgg19_name("block1_conv11")
    ('block1_conv1', None)
    """
    plain = re.sub(r"_\d+$", "", name)
    return plain if plain in WEIGHTED else None


def _list_layers(file: h5py.File, path: Path, config: object) -> Contents:
    """Recognise the layout of a file and list its layers."""
    if config is not None:
        layers = tuple(_keras3(file, config_names(config)))
        return Contents(file, path, ".keras archive", layers, False, tuple(read_calls(config)))
    if _holds_names(file, "layer_names"):
        return Contents(file, path, "Keras 1/2 legacy h5", tuple(_legacy(file, "")), True)
    if "model_weights" in file and _holds_names(inside(file, "model_weights"), "layer_names"):
        layers = tuple(_legacy(file, "model_weights/"))
        calls = tuple(read_calls(json.loads(_model_config(file))))
        return Contents(file, path, "Keras 1/2 legacy h5, whole model", layers, True, calls)
    layers = tuple(_keras3(file, {}))
    if any(layer.datasets for layer in layers):
        return Contents(file, path, "Keras 3 .weights.h5", layers)
    return Contents(file, path, "HDF5 of unknown layout", tuple(_plain(file)))


def _legacy(file: h5py.File, top: str) -> Iterable[Entry]:
    """Follow the attributes `layer_names` and `weight_names`, which hold the order."""
    for layer in _names(inside(file, top), "layer_names"):
        group = f"{top}{layer}"
        owners = _by_owner(_names(inside(file, group), "weight_names"))
        if not owners:
            yield Entry(layer, top.rstrip("/"), (), (), "", layer)
        for label, weights in owners.items():
            alone = len(owners) == 1  # otherwise the layer is a nested model
            inner = label.split("/")[::-1]
            name = _best_name([layer, *inner]) if alone else _best_name(inner) or layer
            place = top.rstrip("/") if alone else group
            datasets = [f"{group}/{weight}" for weight in weights]
            yield _entry(file, name, place, datasets, layer if alone else inner[0])


def _keras3(file: h5py.File, names: dict[str, str]) -> Iterable[Entry]:
    """Read every group `vars`, in which the arrays of a layer are called 0, 1, and so on.

    The name of the layer is the attribute `name`. tf.keras and the first releases of
    Keras 3 did not write it; then `names`, from the config, has it.
    """
    for path in _paths(file, h5py.Group):
        group, _, last = path.rpartition("/")
        if last != "vars" or group == "optimizer":
            continue
        arrays = (k for k in file[path] if _is_array(inside(file, f"{path}/{k}")))
        weights = sorted(arrays, key=_natural_key)
        place, _, folder = group.rpartition("/")
        attribute = _text(read_attribute(file[path], "name") if "name" in file[path].attrs else "")
        name = _best_name([attribute, names.get(group, ""), folder])
        yield _entry(file, name, place, [f"{path}/{weight}" for weight in weights], folder)


def _plain(file: h5py.File) -> Iterable[Entry]:
    """Read every dataset, and group them by the layer in their paths."""
    for label, weights in _by_owner(_paths(file, h5py.Dataset)).items():
        yield _entry(file, _best_name(label.split("/")[::-1]), label.rpartition("/")[0], weights)


def _entry(file: h5py.File, name: str, place: str, datasets: list[str], group: str = "") -> Entry:
    found = {path: inside(file, path) for path in datasets}
    datasets = sorted(datasets, key=lambda path: -found[path].ndim)  # kernel before bias
    dtypes = dict.fromkeys(_dtype(found[path]) for path in datasets)
    shapes = tuple(tuple(found[path].shape) for path in datasets)
    return Entry(name, place, tuple(datasets), shapes, ", ".join(dtypes), group)


def _dtype(dataset: h5py.Dataset) -> str:
    """Name a data type. HDF5 has no bfloat16, so Keras writes it as two raw bytes."""
    return "bfloat16" if dataset.dtype == "V2" else str(dataset.dtype)


def _best_name(labels: list[str]) -> str:
    """Return the first label that is a VGG19 layer, else the first that is not empty."""
    return next(filter(vgg19_name, labels), next(filter(None, labels), ""))


def _by_owner(weights: Iterable[str]) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for weight in weights:
        owners.setdefault(_owner(weight), []).append(weight)
    return owners


def _owner(weight: str) -> str:
    """Return the path of the layer that a weight belongs to.

    Keras 2 and 3 put the layer before a slash, Keras 1 before _W or _b, PyTorch before a dot.
    A number that TensorFlow 1 appended is kept, since it may distinguish two networks.

    Examples
    --------
    >>> _owner("vgg19/block1_conv1/kernel:0"), _owner("block1_conv1_W_1:0"), _owner("kernel:0")
    ('vgg19/block1_conv1', 'block1_conv1_1', '')
    >>> _owner("features.10.weight")
    'features.10'
    """
    path = re.sub(r":\d+$", "", weight)
    without_role = re.sub(r"_[Wb](?=(_\d+)?$)", "", path)
    if without_role != path:
        return without_role
    return path.rpartition("/" if "/" in path else ".")[0]


def _paths(file: h5py.File, kind: type) -> list[str]:
    """Return the paths of one kind of object; links to other files are not followed."""
    paths = (path for path, item in objects_inside(file) if isinstance(item, kind))
    return sorted(paths, key=_natural_key)


def _natural_key(path: str) -> tuple[list[str | int], ...]:
    """Return a sorting key that puts conv2d_2 before conv2d_10.

    Examples
    --------
    >>> sorted(["conv2d_10", "conv2d_2", "conv2d"], key=_natural_key)
    ['conv2d', 'conv2d_2', 'conv2d_10']
    """
    return tuple(
        [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", part)]
        for part in path.split("/")
    )


def _is_array(item: object) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim > 0


def _holds_names(group: h5py.Group, attribute: str) -> bool:
    return attribute in group.attrs or f"{attribute}0" in group.attrs


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Read a list of names. Keras splits a long one into attribute0, attribute1, and so on."""
    if attribute in group.attrs:
        return [_text(name) for name in read_attribute(group, attribute, _MOST_NAMES)]
    pieces = (f"{attribute}{number}" for number in itertools.count())
    present = itertools.takewhile(group.attrs.__contains__, pieces)
    names = (read_attribute(group, piece, _MOST_NAMES) for piece in present)
    return [_text(name) for several in names for name in several]


def _model_config(file: h5py.File) -> str:
    return _text(read_attribute(file, "model_config") if "model_config" in file.attrs else "{}")


def _text(name: object) -> str:
    """Return a name as text: Keras 1 and 2 wrote bytes."""
    return name.decode() if isinstance(name, bytes) else str(name)

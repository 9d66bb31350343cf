"""Names of layers, as the versions of Keras have written them.

Strings and a model's config come in; names of layers go out. This file knows
no HDF5 and no Keras: a config is read as data, and nothing in it is run.
"""

import re
from collections import Counter

from featx.layers import LAYERS

__all__ = ["config_names", "natural_key", "owner", "vgg19_name"]

_WEIGHTED = frozenset(layer.name for layer in LAYERS if layer.kind != "pool")


def vgg19_name(name: str) -> str | None:
    """Return the VGG19 layer that a name means, or None.

    TensorFlow 1 numbered a name that was taken, so a second network of one
    session was saved as block1_conv1_1.

    Examples
    --------
    >>> vgg19_name("block1_conv1_1"), vgg19_name("block1_conv11")
    ('block1_conv1', None)
    """
    plain = re.sub(r"_\d+$", "", name)
    return plain if plain in _WEIGHTED else None


def owner(weight: str) -> str:
    """Return the path of the layer that a weight belongs to.

    Keras 2 and 3 put the layer before a slash, Keras 1 before _W or _b; a name
    without either says nothing. A number that TensorFlow 1 appended is kept: it
    may tell two networks apart.

    Examples
    --------
    >>> owner("vgg19/block1_conv1/kernel:0"), owner("block1_conv1_W_1:0"), owner("kernel:0")
    ('vgg19/block1_conv1', 'block1_conv1_1', '')
    """
    path = re.sub(r":\d+$", "", weight)
    without_role = re.sub(r"_[Wb](?=(_\d+)?$)", "", path)
    if without_role != path:
        return without_role
    return path.rpartition("/")[0]


def natural_key(path: str) -> tuple[list[str | int], ...]:
    """Return a sorting key that puts conv2d_2 before conv2d_10.

    Examples
    --------
    >>> sorted(["conv2d_10", "conv2d_2", "conv2d"], key=natural_key)
    ['conv2d', 'conv2d_2', 'conv2d_10']
    """
    return tuple(
        [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", part)]
        for part in path.split("/")
    )


def config_names(model: object, path: str = "") -> dict[str, str]:
    """Follow Keras's rule for the groups of a weights file through a config.

    Keras names a group by its layer's class, not by the layer, and counts:
    layers/conv2d, layers/conv2d_1, in the order of the model's layers and anew
    in every nested model.

    Parameters
    ----------
    model : object
        The config of a model, as json.loads returned it.
    path : str, default=""
        Group of the model itself, with a slash at its end.

    Returns
    -------
    dict of str to str
        Group in the weights file -> name of the layer.

    Examples
    --------
    >>> conv = {"class_name": "Conv2D", "config": {"name": "block1_conv1"}}
    >>> config_names({"class_name": "Functional", "config": {"layers": [conv]}})
    {'layers/conv2d': 'block1_conv1'}
    """
    config = _member(model, "config")
    layers = _member(config, "layers")
    names: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for layer in layers if isinstance(layers, list) else []:
        kind = _snake_case(str(_member(layer, "class_name")))
        number = f"_{seen[kind]}" if seen[kind] else ""
        seen[kind] += 1
        names |= _one_layer(layer, f"{path}layers/{kind}{number}")
    wrapped = _member(config, "layer")  # TimeDistributed and its kind hold one layer
    return names | (_one_layer(wrapped, f"{path}layer") if wrapped else {})


def _one_layer(layer: object, group: str) -> dict[str, str]:
    """Name a layer's group, and those of the layers inside it."""
    return {group: str(_member(_member(layer, "config"), "name"))} | config_names(
        layer, f"{group}/"
    )


def _member(value: object, key: str) -> object:
    """Return value[key] where `value` is a JSON object that has it, else None."""
    return value.get(key) if isinstance(value, dict) else None


def _snake_case(name: str) -> str:
    """Spell a class as Keras spells its group: MaxPooling2D -> max_pooling2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()

"""The layers of VGG19 that codes can come from.

Names come in; the shapes of activations and weights, and costs, go out. This module does not
import TensorFlow, so that a command can check a layer name, or list all layers, in
milliseconds.

References
----------
.. [1] K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for
   Large-Scale Image Recognition", 2014. https://arxiv.org/abs/1409.1556
   (VGG19 is configuration E.)
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from featx.errors import OptionError, UnknownLayerError
from featx.text import did_you_mean

__all__ = [
    "FC_SIZE",
    "LAYERS",
    "Layer",
    "activation_shape",
    "deepest",
    "find_layer",
    "gflop",
    "layers_up_to",
    "weight_shapes",
]

#: The only image size, (height, width), at which the fully connected layers exist.
FC_SIZE = (224, 224)


@dataclass(frozen=True)
class Layer:
    """A layer of VGG19.

    Parameters
    ----------
    name : str
        Name of the layer in Keras.
    kind : {"conv", "pool", "dense"}
        3x3 convolution with ReLU, 2x2 max pooling, or fully connected with ReLU.
    channels : int
        Number of output channels.
    stride : int
        Distance of neighbouring positions of the activation, in pixels of the image.
    """

    name: str
    kind: Literal["conv", "pool", "dense"]
    channels: int
    stride: int


def _block(number: int, channels: int, n_convs: int) -> tuple[Layer, ...]:
    names = [f"block{number}_conv{i}" for i in range(1, n_convs + 1)]
    convs = (Layer(name, "conv", channels, 2 ** (number - 1)) for name in names)
    return (*convs, Layer(f"block{number}_pool", "pool", channels, 2**number))


#: All layers, from the image on; the last layer of the classifier for ImageNet is left out.
LAYERS: tuple[Layer, ...] = (
    *_block(1, 64, 2),
    *_block(2, 128, 2),
    *_block(3, 256, 4),
    *_block(4, 512, 4),
    *_block(5, 512, 4),
    Layer("fc1", "dense", 4096, 32),
    Layer("fc2", "dense", 4096, 32),
)

_BY_NAME = {layer.name: layer for layer in LAYERS}


def find_layer(name: str) -> Layer:
    """Return the layer called `name`.

    Raises
    ------
    UnknownLayerError
        VGG19 has no such layer; the message has the most similar name.

    Examples
    --------
    >>> find_layer("block2_pool").channels
    128
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    guess = did_you_mean(name, _BY_NAME)
    message = f"VGG19 has no layer '{name}'.{guess} List all layers: featx layers"
    raise UnknownLayerError(message)


def deepest(names: Iterable[str]) -> str:
    """Return the name of the deepest layer.

    Examples
    --------
    >>> deepest(["block4_pool", "block2_pool"])
    'block4_pool'
    """
    return max((find_layer(name) for name in names), key=LAYERS.index).name


def layers_up_to(name: str) -> tuple[Layer, ...]:
    """Return the layers from the first one up to `name`, inclusive."""
    return LAYERS[: LAYERS.index(find_layer(name)) + 1]


def activation_shape(name: str, size: tuple[int, int]) -> tuple[int, ...]:
    """Return the shape of the activation of one image.

    Parameters
    ----------
    name : str
        Name of a layer.
    size : tuple of int
        Image size, (height, width), in pixels.

    Returns
    -------
    tuple of int
        (height, width, channels), or (width,) for a fully connected layer.

    Raises
    ------
    UnknownLayerError
        VGG19 has no such layer.
    OptionError
        The layer does not exist at this size.

    Examples
    --------
    >>> activation_shape("block2_pool", (224, 224))
    (56, 56, 128)
    """
    layer = find_layer(name)
    height, width = size
    if layer.kind == "dense":
        if size != FC_SIZE:
            message = (
                f"Layer '{name}' requires size 224, because its weights have the shape of a "
                f"7x7x512 activation, but the size is {height}x{width}. Use --size 224, or a conv "
                "or pool layer."
            )
            raise OptionError(message)
        return (layer.channels,)
    if min(size) < layer.stride:
        message = (
            f"Layer '{name}' requires at least {layer.stride}x{layer.stride} pixels, but the size "
            f"is {height}x{width}. Use --size {max(layer.stride, 224)}."
        )
        raise OptionError(message)
    return (height // layer.stride, width // layer.stride, layer.channels)


def weight_shapes(name: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the shapes of the kernel and the bias of a layer, or None if it has no weights.

    Examples
    --------
    >>> weight_shapes("block2_conv1")
    ((3, 3, 64, 128), (128,))
    """
    layer = find_layer(name)
    if layer.kind == "pool":
        return None
    before = layers_up_to(name)[:-1]
    if layer.kind == "conv":
        channels = before[-1].channels if before else 3  # red, green, blue
        return (3, 3, channels, layer.channels), (layer.channels,)
    n_inputs = math.prod(activation_shape(before[-1].name, FC_SIZE))
    return (n_inputs, layer.channels), (layer.channels,)


def gflop(name: str, size: tuple[int, int]) -> float:
    """Return the cost of one image up to a layer, in GFLOP.

    A multiplication and an addition count as two operations. Biases, ReLU and max pooling are
    less than one per cent together and are not counted.

    Examples
    --------
    >>> round(gflop("block2_pool", (256, 256)), 1)
    12.3
    """
    total = 0
    for layer in layers_up_to(name):
        shapes = weight_shapes(layer.name)
        if shapes is not None:
            positions = math.prod(activation_shape(layer.name, size)[:-1])
            total += 2 * positions * math.prod(shapes[0])
    return total / 1e9

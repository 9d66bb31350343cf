"""The truncated VGG19: preprocessing, convolutions and pooling in one graph.

A recipe and weights come in; a callable goes out that turns a batch of images
into the codes of every layer of the recipe, from one forward pass. Keras 3
runs on TensorFlow, JAX or PyTorch; this file imports it only when a backbone
is built. It does not know where images come from.

References
----------
.. [1] K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for
   Large-Scale Image Recognition", 2014. https://arxiv.org/abs/1409.1556
"""

import dataclasses
import itertools
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featx.choices import Precision
from featx.errors import CodeRangeError, OptionError
from featx.layers import LAYERS, Layer, activation_shape, deepest, layers_up_to
from featx.network.compiling import Run, compiled
from featx.network.devices import Device, find_device, memory_errors
from featx.network.pooling import averaged, pooled, views
from featx.network.weights import WeightsSource, read_weights
from featx.recipe import Recipe

__all__ = [
    "Backbone",
    "VGG19Backbone",
    "activation_bytes",
    "build_backbone",
    "joint_name",
    "joint_recipe",
    "keras_layer",
    "load_activations",
    "load_backbone",
    "load_joint_backbone",
    "preprocessed",
]

logger = logging.getLogger(__name__)

#: ImageNet's mean of blue, green and red, from 0 to 255, which the training of
#: VGG subtracted; Keras's "caffe" preprocessing has the same numbers.
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)

# Compiled functions that are kept, one for each shape of image; the one that was not used for
# longest goes. A folder of photographs has some five shapes a scale.
_MOST_SHAPES = 64

# From here on float16 rounds to infinity; below, to the largest that it holds, 65504.
_BEYOND_FLOAT16 = 65520

Weights = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


class Backbone(Protocol):
    """A recipe, and a callable that follows it."""

    @property
    def recipe(self) -> Recipe:
        """What determines the codes' numbers."""

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        """Turn images, (n, h, w, 3) RGB of one shape, into codes, (n, ...) for each layer."""


class VGG19Backbone:
    """VGG19 up to the deepest layer of a recipe; `build_backbone` makes it.

    Parameters
    ----------
    recipe : Recipe
        What determines the codes' numbers.
    wanted : mapping of str to (str, Recipe)
        Output -> layer, and the recipe of its pooling and rounding.
    weights : mapping of str to (kernel, bias)
        For every layer with weights up to the deepest.
    device : Device
        Where the weights are and the codes are computed.
    """

    def __init__(
        self,
        recipe: Recipe,
        wanted: Mapping[str, tuple[str, Recipe]],
        weights: Weights,
        device: Device,
    ) -> None:
        self.recipe = recipe
        self.device = device
        self._wanted = dict(wanted)
        self._layers: dict[str, Any] = {}
        self._runs: OrderedDict[tuple[int, int], Run] = OrderedDict()
        self._lock = threading.Lock()
        self._compile(recipe.view_size, weights)

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        """Turn images into codes; several threads may call at once.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, height, width, 3)
            RGB, at the recipe's `view_size`, or of another shape, such as a scale's.
            Another n compiles anew on some backends, so callers keep to one.

        Returns
        -------
        dict of str to ndarray, shape (n, ...)
            Codes by output, in the recipe's dtype; perhaps read-only. With scales,
            those of one of them, in float32: callers join them (`join_scales`).

        Raises
        ------
        CodeRangeError
            A code is too large for float16.
        MemoryError
            The device has too little memory for n images.
        """
        run = self._run_of(images.shape[1:3])
        with memory_errors(len(images)):
            found = run(images)
        for name, (layer, _) in self._wanted.items():
            _check_range(layer, float(found.get(_largest(name), 0)))
        return {name: found[name] for name in self._wanted}

    def join_scales(
        self, codes: Mapping[str, Sequence[NDArray[np.floating]]]
    ) -> dict[str, NDArray[np.floating]]:
        """Return the codes of images from those of their scales.

        Parameters
        ----------
        codes : mapping of str to sequence of ndarray, each of shape (n, ...)
            By output, one for each scale of the recipe, in its order.

        Raises
        ------
        CodeRangeError
            A code is too large for float16.
        """
        found = {}
        for name, (layer, own) in self._wanted.items():
            of_scales = codes[name]
            if own.scales_join == "stack":
                joined = np.concatenate(of_scales, axis=-1)
            else:
                joined = np.asarray(np.mean(of_scales, axis=0, dtype=np.float32))
            if own.dtype == "float16" and joined.size:
                _check_range(layer, float(joined.max()))
            found[name] = joined.astype(own.dtype, copy=False)
        return found

    def _run_of(self, shape: tuple[int, int]) -> Run:
        """Return the network for images of one shape, compiled when it is first asked for."""
        with self._lock:
            if shape not in self._runs:
                self._compile(shape, {})
                if len(self._runs) > _MOST_SHAPES:
                    self._runs.popitem(last=False)
            self._runs.move_to_end(shape)
            return self._runs[shape]

    def _compile(self, shape: tuple[int, int], weights: Weights) -> None:
        with self.device.scope():
            model = _model(self.recipe, shape, self._wanted, self._layers)
            for name, (kernel, bias) in weights.items():
                self._layers[name].set_weights([kernel, bias])
            model.trainable = False
            self._runs[shape] = compiled(model, self.recipe.precision, shape, self.device)


def build_backbone(recipe: Recipe, weights: Weights, device: Device | None = None) -> VGG19Backbone:
    """Build VGG19 up to the deepest layer of a recipe, with weights.

    Parameters
    ----------
    recipe : Recipe
        Layers, image size, preprocessing, arithmetic and pooling.
    weights : mapping of str to (kernel, bias)
        For every layer with weights up to the deepest of the recipe; float32.
    device : Device, optional
        Where it will compute; a GPU by default, if there is one.

    Returns
    -------
    VGG19Backbone

    Raises
    ------
    OptionError
        The device does not compute in the recipe's precision.
    """
    device = device or find_device()
    _check_precision(recipe.precision, device)
    return VGG19Backbone(
        recipe, {layer: (layer, recipe) for layer in recipe.layers}, weights, device
    )


def load_backbone(
    recipe: Recipe, source: WeightsSource, device: Device | str = "auto"
) -> VGG19Backbone:
    """Read the weights that a recipe needs and build its backbone.

    Parameters
    ----------
    recipe : Recipe
        See `build_backbone`.
    source : WeightsSource
        See `find_weights`.
    device : Device or str, default="auto"
        See `find_device`.

    Raises
    ------
    WeightsError
        The file does not hold every layer with the right shape.
    OptionError
        There is no such device, or it does not compute in that precision.
    """
    if isinstance(device, str):
        device = find_device(device)
    return build_backbone(recipe, read_weights(source, recipe.layers), device)


def joint_name(place: int, layer: str) -> str:
    """Return how a joint backbone names a layer of its recipe at a place, from 0."""
    return f"{place}/{layer}"


def load_joint_backbone(
    recipes: Sequence[Recipe], source: WeightsSource, device: Device | str = "auto"
) -> VGG19Backbone:
    """Read weights and build one backbone for several recipes: activations are computed once.

    Parameters
    ----------
    recipes : sequence of Recipe
        They differ in layers, pooling and dtype, and in nothing else.
    source : WeightsSource
        See `find_weights`.
    device : Device or str, default="auto"
        See `find_device`.

    Returns
    -------
    VGG19Backbone
        It gives codes by `joint_name`; its own recipe is their `joint_recipe`.

    Raises
    ------
    WeightsError, OptionError
        See `load_backbone`.
    """
    if isinstance(device, str):
        device = find_device(device)
    _check_precision(recipes[0].precision, device)
    outputs = {
        joint_name(place, layer): (layer, recipe)
        for place, recipe in enumerate(recipes)
        for layer in recipe.layers
    }
    recipe = joint_recipe(recipes)
    return VGG19Backbone(recipe, outputs, read_weights(source, recipe.layers), device)


def joint_recipe(recipes: Sequence[Recipe]) -> Recipe:
    """Return the recipe of several at once, to which no image takes more memory.

    Parameters
    ----------
    recipes : sequence of Recipe
        They differ in layers, pooling and dtype, and in nothing else.

    Returns
    -------
    Recipe
        Of all their layers, and not pooled where that may be; of one its own.
    """
    if len(recipes) == 1:
        return recipes[0]
    wanted = {layer for recipe in recipes for layer in recipe.layers}
    layers = tuple(layer.name for layer in LAYERS if layer.name in wanted)
    placeless = recipes[0].scales or recipes[0].crops > 1
    return dataclasses.replace(recipes[0], layers=layers, pool="avg" if placeless else "none")


def load_activations(
    recipe: Recipe, source: WeightsSource, device: Device | str = "auto"
) -> VGG19Backbone:
    """Read weights and build what gives the activations that a recipe's codes are pooled from.

    Parameters
    ----------
    recipe : Recipe
        Its layers, preprocessing and arithmetic.
    source : WeightsSource
        See `find_weights`.
    device : Device or str, default="auto"
        See `find_device`.

    Returns
    -------
    VGG19Backbone
        Of images of any shape, each as one view: (n, height, width, channels) in float32.

    Raises
    ------
    WeightsError, OptionError
        See `load_backbone`.
    """
    plain = dataclasses.replace(
        recipe, pool="none", dtype="float32", flip=False, crops=1, scales=()
    )
    return load_backbone(plain, source, device)


def activation_bytes(recipe: Recipe) -> int:
    """Estimate the memory that one image takes in the network, in bytes.

    A convolution's input, its output and, for itself, about as much as the
    larger of them; beside them the codes. Knows no backend, so it is rough.

    Examples
    --------
    >>> recipe = Recipe(weights="random:0", layers=("block5_pool",), pool="avg")
    >>> round(activation_bytes(recipe) / 1e6, 1)
    38.5
    """
    names = [layer.name for layer in layers_up_to(deepest(recipe.layers))]
    sizes = [0, *(math.prod(activation_shape(name, recipe.size)) for name in names)]
    largest = max(a + b + max(a, b) for a, b in itertools.pairwise(sizes))
    itemsize = 2 if recipe.precision == "bfloat16" else 4
    return recipe.n_views * (largest * itemsize + recipe.code_bytes())


def _check_precision(precision: Precision, device: Device) -> None:
    if precision == "tf32" and not device.tf32:
        where = "the CPU" if device.kind == "cpu" else device.description
        message = (
            "tf32 is arithmetic of NVIDIA's GPUs from Ampere on; this runs on "
            f"{where}. Use --precision float32 or bfloat16."
        )
        raise OptionError(message)
    if precision == "bfloat16" and not device.bfloat16:
        lack = (
            "This CPU has no bfloat16 instructions (AVX-512 BF16, AMX)"
            if device.kind == "cpu"
            else f"{device.description} has no bfloat16 arithmetic (NVIDIA's have from Ampere on)"
        )
        logger.warning("%s: --precision bfloat16 is emulated there, and slower than float32.", lack)


def _check_range(layer: str, largest: float) -> None:
    # What the network itself made infinite, or no number, the store's check names.
    if _BEYOND_FLOAT16 <= largest < math.inf:
        raise CodeRangeError(layer, largest)


def _largest(name: str) -> str:
    """Name the output that holds another one's largest code."""
    return f"{name}_largest"


def _model(
    recipe: Recipe,
    shape: tuple[int, int],
    wanted: Mapping[str, tuple[str, Recipe]],
    made: dict[str, Any],
) -> Any:
    """Return VGG19 with an output for each name: a layer, pooled and rounded as a recipe says.

    Layers are taken from `made`, and put there when they are new, so that models of
    several shapes have the same weights.
    """
    import keras

    images = keras.Input((*shape, 3), dtype="uint8", name="images")
    x = views(preprocessed(images, recipe), recipe)
    activations = {}
    for layer in layers_up_to(deepest(recipe.layers)):
        if layer.name == "fc1":
            x = keras.layers.Flatten(data_format="channels_last", dtype=_computing(recipe))(x)
        if layer.name not in made:
            made[layer.name] = keras_layer(layer, _computing(recipe))
        x = made[layer.name](x)
        activations[layer.name] = x
    outputs = {}
    for name, (layer_name, own) in wanted.items():
        codes = averaged(pooled(activations[layer_name], own), own)
        # Scales are averaged in float32, and rounded when they are joined.
        dtype = "float32" if own.scales else own.dtype
        outputs[name] = keras.ops.cast(codes, dtype)
        if dtype == "float16":  # ReLU leaves nothing below 0, so this is the largest size
            outputs[_largest(name)] = keras.ops.cast(keras.ops.max(codes), "float32")
    return keras.Model(images, outputs)


def _computing(recipe: Recipe) -> str:
    """Return the type of weights and activations; TF32 exists inside of products only."""
    return "bfloat16" if recipe.precision == "bfloat16" else "float32"


def preprocessed(images: Any, recipe: Recipe) -> Any:
    """Return images, (n, h, w, 3) RGB from 0 to 255, as VGG19 takes them, in float32."""
    from keras import ops

    x = ops.cast(images, "float32")
    if recipe.preprocess == "unit":
        return x / 255.0
    return ops.flip(x, axis=-1) - ops.convert_to_tensor(IMAGENET_MEAN_BGR, "float32")


def keras_layer(layer: Layer, dtype: str) -> Any:
    """Return Keras's layer for a layer of VGG19, with its name and no weights yet."""
    # A user's keras.json may set another data format or float type, so both are said here.
    from keras import layers

    if layer.kind == "pool":
        return layers.MaxPooling2D(2, 2, data_format="channels_last", dtype=dtype, name=layer.name)
    if layer.kind == "dense":
        return layers.Dense(layer.channels, "relu", dtype=dtype, name=layer.name)
    return layers.Conv2D(
        layer.channels,
        3,
        padding="same",
        activation="relu",
        data_format="channels_last",
        dtype=dtype,
        name=layer.name,
    )

"""VGG19 up to a layer: preprocessing, convolutions and pooling in one graph.

A recipe and weights come in; a callable goes out that computes the codes of all layers of
the recipe for a batch of images, in one forward pass. Keras 3 runs on TensorFlow, JAX or
PyTorch and is imported only when a backbone is built. This file does not know where the
images come from.

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
from featx.layers import Layer, activation_shape, deepest, layers_up_to
from featx.network.compiling import Run, compiled
from featx.network.devices import Device, find_device, memory_errors
from featx.network.pooling import averaged, pooled, views
from featx.network.weights.sources import WeightsSource, read_weights
from featx.recipe import Recipe

__all__ = [
    "Backbone",
    "VGG19Backbone",
    "activation_bytes",
    "joint_name",
    "joint_recipe",
    "keras_layer",
    "load_activations",
    "load_backbone",
    "preprocessed",
]

logger = logging.getLogger(__name__)

#: Mean of ImageNet in blue, green and red, from 0 to 255, which VGG was trained with.
#: The "caffe" preprocessing of Keras subtracts the same values.
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)

# Number of compiled functions in the cache, one for each image shape. A folder of photographs
# has about five shapes for each scale.
_MOST_SHAPES = 64

# Values from here on round to infinity in float16; smaller ones to at most 65504.
_BEYOND_FLOAT16 = 65520

Weights = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


class Backbone(Protocol):
    """A callable that computes the codes of a recipe."""

    @property
    def recipe(self) -> Recipe:
        """The settings that determine the codes."""

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        """Compute the codes, (n, ...) by layer, of RGB images, (n, height, width, 3).

        The array of the images holds other images after the call.
        """


class VGG19Backbone:
    """VGG19 up to the deepest layer of one or several recipes.

    Parameters
    ----------
    recipes : Recipe or sequence of Recipe
        Settings of the images, the network and its layers. Several recipes may differ only
        in layers, pooling and dtype; then the outputs are called `joint_name`, and not as
        the layer.
    weights : mapping of str to (kernel, bias)
        Weights in float32 of every layer up to the deepest one.
    device : Device, optional
        The device that holds the weights and computes the codes; by default a GPU if there
        is one.

    Raises
    ------
    OptionError
        The device does not support the recipe's precision.
    """

    def __init__(
        self, recipes: Recipe | Sequence[Recipe], weights: Weights, device: Device | None = None
    ) -> None:
        recipes = (recipes,) if isinstance(recipes, Recipe) else recipes
        self.recipe = joint_recipe(recipes)
        self.device = device or find_device()
        _check_precision(self.recipe.precision, self.device)
        # Name of an output -> its layer, and the recipe of its pooling and data type.
        self._outputs = {
            layer if len(recipes) == 1 else joint_name(index, layer): (layer, recipe)
            for index, recipe in enumerate(recipes)
            for layer in recipe.layers
        }
        self._layers: dict[str, Any] = {}
        self._runs: OrderedDict[tuple[int, int], Run] = OrderedDict()
        self._lock = threading.Lock()
        self._compile(self.recipe.view_size, weights)

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        """Compute the codes of images. Several threads may call this at once.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, height, width, 3)
            RGB images, of the recipe's `view_size` or of another shape, such as that of a
            scale. Some backends compile again for another n, so use the same n each time.

        Returns
        -------
        dict of str to ndarray, shape (n, ...)
            Codes by output, in the recipe's dtype; they may be read-only. With scales, the
            codes of one scale in float32, to be joined with `join_scales`.

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
        for name, (layer, _) in self._outputs.items():
            _check_range(layer, float(found.get(_largest(name), 0)))
        return {name: found[name] for name in self._outputs}

    def join_scales(
        self, codes: Mapping[str, Sequence[NDArray[np.floating]]]
    ) -> dict[str, NDArray[np.floating]]:
        """Average or concatenate the codes of several scales.

        Parameters
        ----------
        codes : mapping of str to sequence of ndarray, each of shape (n, ...)
            Codes by output, one array for each scale of the recipe, in its order.

        Raises
        ------
        CodeRangeError
            A code is too large for float16.
        """
        found = {}
        for name, (layer, own) in self._outputs.items():
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
        """Return the network for images of one shape; compile it when it is first needed."""
        with self._lock:
            if shape not in self._runs:
                self._compile(shape, {})
                if len(self._runs) > _MOST_SHAPES:
                    self._runs.popitem(last=False)
            self._runs.move_to_end(shape)
            return self._runs[shape]

    def _compile(self, shape: tuple[int, int], weights: Weights) -> None:
        with self.device.scope():
            model = _model(self.recipe, shape, self._outputs, self._layers)
            for name, (kernel, bias) in weights.items():
                self._layers[name].set_weights([kernel, bias])
            model.trainable = False
            self._runs[shape] = compiled(model, self.recipe.precision, self.device)


def load_backbone(
    recipes: Recipe | Sequence[Recipe], source: WeightsSource, device: Device | str = "auto"
) -> VGG19Backbone:
    """Read the weights that recipes need, and build their backbone.

    Parameters
    ----------
    recipes : Recipe or sequence of Recipe
        Layers, image size, preprocessing, arithmetic and pooling; several recipes may differ
        only in layers, pooling and dtype (see `VGG19Backbone`).
    source : WeightsSource
        The weights, from `find_weights`.
    device : Device or str, default="auto"
        The device, or its name (see `find_device`).

    Returns
    -------
    VGG19Backbone
        The network, ready to compute codes.

    Raises
    ------
    WeightsError
        The file does not hold every layer with the right shape.
    OptionError
        The device does not exist, or does not support the recipe's precision.
    """
    if isinstance(device, str):
        device = find_device(device)
    recipes = (recipes,) if isinstance(recipes, Recipe) else recipes
    return VGG19Backbone(recipes, read_weights(source, joint_recipe(recipes).layers), device)


def joint_name(index: int, layer: str) -> str:
    """Return the output of a backbone of several recipes for a layer of one of them."""
    return f"{index}/{layer}"


def joint_recipe(recipes: Sequence[Recipe]) -> Recipe:
    """Return one recipe for several, used to estimate the memory of an image.

    Parameters
    ----------
    recipes : sequence of Recipe
        Recipes that differ only in layers, pooling and dtype.

    Returns
    -------
    Recipe
        A recipe with all their layers, without pooling if scales and crops allow that. A
        single recipe is returned unchanged.
    """
    if len(recipes) == 1:
        return recipes[0]
    layers = tuple(layer for recipe in recipes for layer in recipe.layers)
    must_pool = recipes[0].scales or recipes[0].crops > 1
    return dataclasses.replace(recipes[0], layers=layers, pool="avg" if must_pool else "none")


def load_activations(
    recipe: Recipe, source: WeightsSource, device: Device | str = "auto"
) -> VGG19Backbone:
    """Read weights, and build a backbone that computes activations before pooling.

    Parameters
    ----------
    recipe : Recipe
        Layers, preprocessing and arithmetic.
    source : WeightsSource
        The weights, from `find_weights`.
    device : Device or str, default="auto"
        The device, or its name (see `find_device`).

    Returns
    -------
    VGG19Backbone
        A network that computes (n, height, width, channels) in float32 for images of any
        shape, without crops, mirror images or scales.

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

    A convolution needs its input, its output and, depending on the processor and the backend,
    between nothing and as much again as the larger of the two; half of that is taken. The
    codes are added. So the estimate is right to a factor of 1.5 on most machines.

    Examples
    --------
    >>> recipe = Recipe(weights="random:0", layers=("block5_pool",), pool="avg")
    >>> round(activation_bytes(recipe) / 1e6, 1)
    32.1
    """
    names = [layer.name for layer in layers_up_to(deepest(recipe.layers))]
    sizes = [0, *(math.prod(activation_shape(name, recipe.size)) for name in names)]
    largest = max(a + b + max(a, b) / 2 for a, b in itertools.pairwise(sizes))
    itemsize = 2 if recipe.precision == "bfloat16" else 4
    return recipe.n_views * (int(largest * itemsize) + recipe.code_bytes())


def _check_precision(precision: Precision, device: Device) -> None:
    if precision == "tf32" and not device.tf32:
        message = (
            "--precision tf32 needs an NVIDIA GPU of the Ampere generation or later, but the "
            f"device is {device.description}. Use --precision float32 or bfloat16."
        )
        raise OptionError(message)
    if precision == "bfloat16" and not device.bfloat16:
        logger.warning(
            "The device %s has no bfloat16 arithmetic, so --precision bfloat16 is emulated and "
            "slower than float32. CPUs with AVX-512 BF16 or AMX have it, and NVIDIA GPUs since "
            "Ampere.",
            device.description,
        )


def _check_range(layer: str, largest: float) -> None:
    # Values that are infinite or NaN in float32 too are reported when they are stored.
    if _BEYOND_FLOAT16 <= largest < math.inf:
        raise CodeRangeError(layer, largest)


def _largest(name: str) -> str:
    """Return the name of the output that holds the largest code of another output."""
    return f"{name}_largest"


def _model(
    recipe: Recipe,
    shape: tuple[int, int],
    outputs: Mapping[str, tuple[str, Recipe]],
    layers: dict[str, Any],
) -> Any:
    """Return VGG19 with an output for each name: the pooled codes of a layer.

    Keras layers are taken from `layers` and added there, so that the models for different
    image shapes share their weights.
    """
    import keras

    images = keras.Input((*shape, 3), dtype="uint8", name="images")
    x = views(preprocessed(images, recipe), recipe)
    activations = {}
    # TF32 is used only inside of products, so weights and activations are float32 there.
    dtype = "bfloat16" if recipe.precision == "bfloat16" else "float32"
    for layer in layers_up_to(deepest(recipe.layers)):
        if layer.name == "fc1":
            x = keras.layers.Flatten(data_format="channels_last", dtype=dtype)(x)
        if layer.name not in layers:
            layers[layer.name] = keras_layer(layer, dtype)
        x = layers[layer.name](x)
        activations[layer.name] = x
    tensors = {}
    for name, (layer_name, own) in outputs.items():
        codes = averaged(pooled(activations[layer_name], own), own)
        # Scales are averaged in float32 and rounded when they are joined.
        own_dtype = "float32" if own.scales else own.dtype
        tensors[name] = keras.ops.cast(codes, own_dtype)
        if own_dtype == "float16":  # ReLU leaves no negative values, so this is the largest size
            tensors[_largest(name)] = keras.ops.cast(keras.ops.max(codes), "float32")
    return keras.Model(images, tensors)


def preprocessed(images: Any, recipe: Recipe) -> Any:
    """Return RGB images, (n, height, width, 3) from 0 to 255, as inputs of VGG19 in float32."""
    from keras import ops

    x = ops.cast(images, "float32")
    if recipe.preprocess == "unit":
        return x / 255.0
    return ops.flip(x, axis=-1) - ops.convert_to_tensor(IMAGENET_MEAN_BGR, "float32")


def keras_layer(layer: Layer, dtype: str) -> Any:
    """Return the Keras layer for a layer of VGG19, with its name and without weights."""
    # The data format and data type are given because a user's keras.json may set others.
    from keras import layers

    own = {"dtype": dtype, "name": layer.name}
    if layer.kind == "dense":
        return layers.Dense(layer.channels, "relu", **own)
    own["data_format"] = "channels_last"
    if layer.kind == "pool":
        return layers.MaxPooling2D(2, 2, **own)
    return layers.Conv2D(layer.channels, 3, padding="same", activation="relu", **own)

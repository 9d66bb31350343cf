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

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featx.errors import CodeRangeError, OptionError
from featx.layers import Layer, activation_shape, deepest, layers_up_to
from featx.network.devices import Device, find_device
from featx.network.weights import WeightsSource, read_weights
from featx.recipe import Precision, Recipe

__all__ = ["Backbone", "VGG19Backbone", "activation_bytes", "build_backbone", "load_backbone"]

logger = logging.getLogger(__name__)

#: ImageNet's mean of blue, green and red, from 0 to 255, which the training of
#: VGG subtracted; Keras's "caffe" preprocessing has the same numbers.
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)

# The least number that float16 rounds to infinity; 65504 is the largest that it holds.
_FLOAT16_OVERFLOW = 65520.0

Weights = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


class Backbone(Protocol):
    """A recipe, and a callable that follows it."""

    @property
    def recipe(self) -> Recipe:
        """What determines the codes' numbers."""

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        """Turn images, (n, h, w, 3) RGB, into codes, (n, ...) for each layer."""


class VGG19Backbone:
    """VGG19 up to the deepest layer of a recipe; `build_backbone` makes it.

    Parameters
    ----------
    recipe : Recipe
        What determines the codes' numbers.
    model : keras.Model
        From images, uint8 RGB, to a dict of codes, one for each layer, and of
        their largest values where they are rounded to float16.
    device : Device
        Where it computes.
    """

    def __init__(self, recipe: Recipe, model: Any, device: Device) -> None:
        self.recipe = recipe
        self.model = model
        self.device = device
        self._run = _compiled(model, recipe.precision)

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        """Turn images into codes; several threads may do so at once.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, height, width, 3)
            RGB, at the recipe's size. Another n compiles anew on some
            backends, so callers keep to one.

        Returns
        -------
        dict of str to ndarray, shape (n, ...)
            Codes of each layer of the recipe, in its dtype; maybe read-only.

        Raises
        ------
        CodeRangeError
            A code is too large for float16.
        MemoryError
            The device has not enough memory for so many images.
        """
        with self.device.scope(), _memory_errors():
            found = self._run(images)
        for layer in self.recipe.layers:
            peak = float(found.get(_peak(layer), 0.0))
            if _FLOAT16_OVERFLOW <= peak < math.inf:
                raise CodeRangeError(layer, peak)
        return {layer: found[layer] for layer in self.recipe.layers}


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
    import keras

    with device.scope():
        images = keras.Input((*recipe.size, 3), dtype="uint8", name="images")
        x = _preprocessed(images, recipe)
        activations = {}
        made = {}
        for layer in layers_up_to(deepest(recipe.layers)):
            if layer.name == "fc1":
                x = keras.layers.Flatten(data_format="channels_last", dtype=x.dtype)(x)
            made[layer.name] = _keras_layer(layer, recipe.precision)
            x = made[layer.name](x)
            activations[layer.name] = x
        outputs = {}
        for name in recipe.layers:
            code = _pooled(activations[name], recipe)
            outputs[name] = keras.ops.cast(code, recipe.dtype)
            if recipe.dtype == "float16":  # of ReLU, so the largest is the largest in size
                outputs[_peak(name)] = keras.ops.cast(keras.ops.max(code), "float32")
        model = keras.Model(images, outputs)
        for name, (kernel, bias) in weights.items():
            made[name].set_weights([kernel, bias])
        return VGG19Backbone(recipe, model, device)


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


def activation_bytes(recipe: Recipe) -> int:
    """Estimate the memory that one image takes while the network computes, in bytes.

    A layer's input and output are alive together, and the convolution keeps
    about as much again for itself; beside them stand the codes.
    """
    names = [layer.name for layer in layers_up_to(deepest(recipe.layers))]
    sizes = [math.prod(activation_shape(name, recipe.size)) for name in names]
    widest = max(a + b for a, b in itertools.pairwise([0, *sizes]))
    itemsize = 2 if recipe.precision == "bfloat16" else 4
    return 2 * itemsize * widest + recipe.code_bytes()


def _check_precision(precision: Precision, device: Device) -> None:
    if precision == "tf32" and not device.tf32:
        message = (
            "TF32 is arithmetic of NVIDIA's GPUs, from Ampere on; this runs on "
            f"{device.description}. Use --precision float32 or bfloat16."
        )
        raise OptionError(message)
    if precision == "bfloat16" and not device.bfloat16:
        logger.warning(
            "%s has no bfloat16 instructions: they are imitated, slower than float32.",
            device.description,
        )


def _peak(layer: str) -> str:
    """Name the output that is the largest value of a layer's codes."""
    return f"{layer}_peak"


def _preprocessed(images: Any, recipe: Recipe) -> Any:
    from keras import ops

    x = ops.cast(images, "float32")
    if recipe.preprocess == "unit":
        return x / 255.0
    return ops.flip(x, axis=-1) - ops.convert_to_tensor(IMAGENET_MEAN_BGR, "float32")


def _keras_layer(layer: Layer, precision: Precision) -> Any:
    # A user's keras.json may set another data format or float type, so both are said here.
    from keras import layers

    dtype = "bfloat16" if precision == "bfloat16" else "float32"
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


def _pooled(activation: Any, recipe: Recipe) -> Any:
    from keras import ops

    if recipe.pool == "none" or activation.ndim == 2:  # fully connected: one place
        return activation
    if recipe.pool == "max":
        return ops.max(activation, axis=(1, 2))
    return ops.mean(ops.cast(activation, "float32"), axis=(1, 2))  # a sum of thousands


def _compiled(
    model: Any, precision: Precision
) -> Callable[[NDArray[np.uint8]], dict[str, NDArray[np.floating]]]:
    """Return the model as one compiled function on NumPy arrays.

    Keras's own `predict` compiles with XLA on the CPU, which costs a fifth of
    the speed there, and keeps every output in memory. Recent GPUs round float32
    to TF32 unasked, so each backend is told what it may do, at each call where
    it keeps that for the whole process. Results are looked at where they lie,
    if that is the processor's memory, not copied.
    """
    import keras

    return {
        "tensorflow": _compiled_tensorflow,
        "jax": _compiled_jax,
        "torch": _compiled_torch,
    }[keras.backend.backend()](model, precision == "tf32")


def _compiled_tensorflow(model: Any, tf32: bool) -> Callable[[Any], Any]:
    import tensorflow as tf

    compiled = tf.function(lambda x: model(x, training=False), jit_compile=False)

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
        return {k: np.asarray(v) for k, v in compiled(tf.convert_to_tensor(images)).items()}

    return run


def _compiled_jax(model: Any, tf32: bool) -> Callable[[Any], Any]:
    import jax
    import keras

    trained = [v.value for v in model.trainable_variables]
    fixed = [v.value for v in model.non_trainable_variables]

    def forward(trained: Any, fixed: Any, x: Any) -> Any:
        with jax.default_matmul_precision("tensorfloat32" if tf32 else "highest"):
            return model.stateless_call(trained, fixed, x, training=False)[0]

    compiled = jax.jit(forward)

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        codes = compiled(trained, fixed, keras.ops.convert_to_tensor(images))
        return {k: np.asarray(v) for k, v in codes.items()}

    return run


def _compiled_torch(model: Any, tf32: bool) -> Callable[[Any], Any]:
    import keras
    import torch

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        with torch.no_grad():
            codes = model(keras.ops.convert_to_tensor(images), training=False)
            return {k: v.cpu().numpy() for k, v in codes.items()}

    return run


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn the backends' words for too little memory into Python's."""
    try:
        yield
    except Exception as error:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        text = str(error)
        if (
            not kinds.isdisjoint({"ResourceExhaustedError", "OutOfMemoryError"})
            or "RESOURCE_EXHAUSTED" in text
            or "DefaultCPUAllocator: " in text
        ):
            raise MemoryError(text) from error
        raise

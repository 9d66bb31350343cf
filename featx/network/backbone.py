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

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featx.layers import Layer, deepest, layers_up_to
from featx.network.weights import WeightsSource, read_weights
from featx.recipe import Recipe

__all__ = ["Backbone", "VGG19Backbone", "build_backbone", "device_name", "load_backbone"]

#: ImageNet's mean of blue, green and red, from 0 to 255, which the training of
#: VGG subtracted; Keras's "caffe" preprocessing has the same numbers.
IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)

Weights = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


class Backbone(Protocol):
    """A recipe, and a callable that follows it."""

    @property
    def recipe(self) -> Recipe:
        """What determines the codes' numbers."""

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Turn images, (n, h, w, 3) RGB, into codes, (n, ...) for each layer."""


class VGG19Backbone:
    """VGG19 up to the deepest layer of a recipe; `build_backbone` makes it.

    Parameters
    ----------
    recipe : Recipe
        What determines the codes' numbers.
    model : keras.Model
        From images, uint8 RGB, to a dict of codes, one for each layer.
    """

    def __init__(self, recipe: Recipe, model: Any) -> None:
        self.recipe = recipe
        self.model = model
        self._run = _compiled(model)

    def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Turn images into codes.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, height, width, 3)
            RGB, at the recipe's size. Another n compiles anew on some
            backends, so callers keep to one.

        Returns
        -------
        dict of str to ndarray of float32, shape (n, ...)
            Codes of each layer of the recipe.
        """
        return self._run(images)


def build_backbone(recipe: Recipe, weights: Weights) -> VGG19Backbone:
    """Build VGG19 up to the deepest layer of a recipe, with weights.

    Parameters
    ----------
    recipe : Recipe
        Layers, image size, preprocessing and pooling.
    weights : mapping of str to (kernel, bias)
        For every layer with weights up to the deepest of the recipe; float32.

    Returns
    -------
    VGG19Backbone
    """
    import keras

    images = keras.Input((*recipe.size, 3), dtype="uint8", name="images")
    x = _preprocessed(images, recipe)
    activations = {}
    made = {}
    for layer in layers_up_to(deepest(recipe.layers)):
        if layer.name == "fc1":
            x = keras.layers.Flatten(data_format="channels_last", dtype="float32")(x)
        made[layer.name] = _keras_layer(layer)
        x = made[layer.name](x)
        activations[layer.name] = x
    model = keras.Model(
        images, {name: _pooled(activations[name], recipe) for name in recipe.layers}
    )
    for name, (kernel, bias) in weights.items():
        made[name].set_weights([kernel, bias])
    model.trainable = False
    return VGG19Backbone(recipe, model)


def load_backbone(recipe: Recipe, source: WeightsSource) -> VGG19Backbone:
    """Read the weights that a recipe needs and build its backbone.

    Raises
    ------
    WeightsError
        The file does not hold every layer with the right shape.
    """
    return build_backbone(recipe, read_weights(source, recipe.layers))


def device_name() -> str:
    """Name the device that the backend computes on, such as "CPU" or "GPU:0"."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return "GPU:0" if gpus else "CPU"
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return "CPU" if device.platform == "cpu" else f"GPU:{device.id}"
    import torch

    return "GPU:0" if torch.cuda.is_available() else "CPU"


def _preprocessed(images: Any, recipe: Recipe) -> Any:
    from keras import ops

    x = ops.cast(images, "float32")
    if recipe.preprocess == "unit":
        return x / 255.0
    return ops.flip(x, axis=-1) - ops.convert_to_tensor(IMAGENET_MEAN_BGR, "float32")


def _keras_layer(layer: Layer) -> Any:
    # A user's keras.json may set another data format or float type, so both are said here.
    from keras import layers

    if layer.kind == "pool":
        return layers.MaxPooling2D(
            2, 2, data_format="channels_last", dtype="float32", name=layer.name
        )
    if layer.kind == "dense":
        return layers.Dense(layer.channels, "relu", dtype="float32", name=layer.name)
    return layers.Conv2D(
        layer.channels,
        3,
        padding="same",
        activation="relu",
        data_format="channels_last",
        dtype="float32",
        name=layer.name,
    )


def _pooled(activation: Any, recipe: Recipe) -> Any:
    from keras import ops

    if recipe.pool == "none" or activation.ndim == 2:  # fully connected: one place
        return activation
    pool = ops.mean if recipe.pool == "avg" else ops.max
    return pool(activation, axis=(1, 2))


def _compiled(model: Any) -> Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
    """Return the model as one compiled function on NumPy arrays.

    Keras's own `predict` compiles with XLA on the CPU, which costs a fifth of
    the speed there, and keeps every output in memory. The three backends are
    told to compute float32 as float32: recent GPUs round to TF32 unasked.
    """
    import keras

    run = {
        "tensorflow": _compiled_tensorflow,
        "jax": _compiled_jax,
        "torch": _compiled_torch,
    }[keras.backend.backend()](model)

    def call(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        codes = run(keras.ops.convert_to_tensor(images))
        return {name: keras.ops.convert_to_numpy(codes[name]) for name in codes}

    return call


def _compiled_tensorflow(model: Any) -> Callable[[Any], Any]:
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    return tf.function(lambda x: model(x, training=False), jit_compile=False)  # type: ignore[no-any-return]


def _compiled_jax(model: Any) -> Callable[[Any], Any]:
    import jax

    trained = [v.value for v in model.trainable_variables]
    fixed = [v.value for v in model.non_trainable_variables]

    def forward(trained: Any, fixed: Any, x: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return model.stateless_call(trained, fixed, x, training=False)[0]

    compiled = jax.jit(forward)
    return lambda x: compiled(trained, fixed, x)


def _compiled_torch(model: Any) -> Callable[[Any], Any]:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False

    def forward(x: Any) -> Any:
        with torch.no_grad():
            return model(x, training=False)

    return forward

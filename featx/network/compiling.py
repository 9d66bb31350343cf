"""A Keras model as one compiled function on NumPy arrays, on every backend of Keras.

A model and a device come in; a function goes out that several threads may call. This file
does not know what the model computes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.choices import Precision
from featx.network.devices import Device
from featx.network.precision import arithmetic

__all__ = ["Run", "compiled"]

#: Function of RGB images, (n, height, width, 3), that returns the model's outputs by name.
Run = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.floating]]]


def compiled(model: Any, precision: Precision, shape: tuple[int, int], device: Device) -> Run:
    """Return a model as one compiled function on NumPy arrays.

    The method `predict` of Keras is not used: it compiles with XLA on the CPU, which is a
    fifth slower there, and it keeps all outputs in memory. Outputs on the CPU are not copied.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        return _on_tensorflow(model, precision, shape, device)
    # These backends get the shape from the images.
    compile_for = {"jax": _on_jax, "torch": _on_torch}[keras.backend.backend()]
    return compile_for(model, precision, device)


def _on_tensorflow(model: Any, precision: Precision, shape: tuple[int, int], device: Device) -> Run:
    import tensorflow as tf

    def forward(images: Any) -> Any:
        with device.scope():
            return model(images, training=False)

    # Traced once for any number of images, and here, since two threads might both trace it.
    images = tf.TensorSpec((None, *shape, 3), tf.uint8)
    compiled = tf.function(forward, jit_compile=False).get_concrete_function(images)

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        with arithmetic(precision), device.scope():
            return {k: np.asarray(v) for k, v in compiled(tf.convert_to_tensor(images)).items()}

    return run


def _on_jax(model: Any, precision: Precision, device: Device) -> Run:
    import jax

    # JAX computes on the device that holds the arrays; by default that is the first GPU.
    place = jax.devices(device.kind)[device.index]
    trained = [jax.device_put(v.value, place) for v in model.trainable_variables]
    fixed = [jax.device_put(v.value, place) for v in model.non_trainable_variables]

    def forward(trained: Any, fixed: Any, images: Any) -> Any:
        with arithmetic(precision):
            return model.stateless_call(trained, fixed, images, training=False)[0]

    compiled = jax.jit(forward)

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        found = compiled(trained, fixed, jax.device_put(images, place))
        # Waiting raises errors such as too little memory; np.asarray would end the process.
        return {k: np.asarray(v.block_until_ready()) for k, v in found.items()}

    return run


def _on_torch(model: Any, precision: Precision, device: Device) -> Run:
    import keras
    import torch

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        with (
            arithmetic(precision),
            device.scope(),
            torch.no_grad(),
        ):
            found = model(keras.ops.convert_to_tensor(images), training=False)
            return {k: v.cpu().numpy() for k, v in found.items()}

    return run

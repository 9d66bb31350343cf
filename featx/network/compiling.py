"""A Keras model as one compiled function on NumPy arrays, on every backend of Keras.

A model, a precision and a device come in; a function goes out that several threads may call.
Recent GPUs round the factors of float32 products to TF32 by default, and each backend has its
own switch for it, which is set for every call. This file does not know what the model
computes.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.choices import Precision
from featx.network.devices import Device

__all__ = ["Run", "arithmetic", "compiled"]

#: Function of RGB images, (n, height, width, 3), that returns the model's outputs by name.
Run = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.floating]]]


def compiled(model: Any, precision: Precision, device: Device) -> Run:
    """Return a model as one compiled function on NumPy arrays.

    The method `predict` of Keras is not used: it compiles with XLA on the CPU, which is a
    fifth slower there, and it keeps all outputs in memory. Outputs on the CPU are not copied.
    """
    import keras

    backends = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
    return backends[keras.backend.backend()](model, precision, device)


def _on_tensorflow(model: Any, precision: Precision, device: Device) -> Run:
    import tensorflow as tf

    def forward(images: Any) -> Any:
        with device.scope():
            return model(images, training=False)

    # Traced once for any number of images, and here, since two threads might both trace it.
    images = tf.TensorSpec(model.inputs[0].shape, tf.uint8)
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
        with arithmetic(precision), device.scope(), torch.no_grad():
            found = model(keras.ops.convert_to_tensor(images), training=False)
            return {k: v.cpu().numpy() for k, v in found.items()}

    return run


@contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """Set the precision of the backend's products in a context.

    With JAX, the context must contain the tracing of a function.

    Parameters
    ----------
    precision : {"float32", "tf32", "bfloat16"}
        Precision of a recipe.
    """
    import keras

    backend, on = keras.backend.backend(), precision == "tf32"
    if backend == "jax":
        import jax

        # "highest" computes in float32; "tensorfloat32" allows rounding to TF32.
        with jax.default_matmul_precision("tensorfloat32" if on else "highest"):
            yield
        return
    with _TF32.set(on, _allow_on_torch if backend == "torch" else _allow_on_tensorflow):
        yield


def _allow_on_tensorflow(allow: bool) -> None:
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(allow)


def _allow_on_torch(allow: bool) -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow


class _Switch:
    """The switch of a backend for TF32, which is one for the whole process.

    Calls that need the same value run concurrently; calls that need the other value wait
    for them to end.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._on = False
        self._n_calls = 0

    @contextmanager
    def set(self, on: bool, switch: Callable[[bool], None]) -> Iterator[None]:
        """Keep the switch at one value in a context."""
        with self._changed:
            self._changed.wait_for(lambda: self._n_calls == 0 or self._on == on)
            switch(on)
            self._on = on
            self._n_calls += 1
        try:
            yield
        finally:
            with self._changed:
                self._n_calls -= 1
                self._changed.notify_all()


_TF32 = _Switch()

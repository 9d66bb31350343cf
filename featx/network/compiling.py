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
from featx.errors import OptionError
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
    _check_place(device, _place_on_tensorflow(model.weights[0].value))
    images = tf.TensorSpec(model.inputs[0].shape, tf.uint8)
    compiled = tf.function(forward, jit_compile=False).get_concrete_function(images)

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        with arithmetic(precision), device.scope():
            found = compiled(tf.convert_to_tensor(images))
            for each in found.values():
                _check_place(device, _place_on_tensorflow(each))
            return {k: np.asarray(v) for k, v in found.items()}

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
        for each in found.values():
            (where,) = each.devices()
            _check_place(device, (device.kind if where == place else str(where), device.index))
        # Waiting raises errors such as too little memory; np.asarray would end the process.
        return {k: np.asarray(v.block_until_ready()) for k, v in found.items()}

    return run


def _on_torch(model: Any, precision: Precision, device: Device) -> Run:
    import keras
    import torch

    _check_place(device, _place_on_torch(model.weights[0].value))

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        with arithmetic(precision), device.scope(), torch.no_grad():
            found = model(keras.ops.convert_to_tensor(images), training=False)
            for each in found.values():
                _check_place(device, _place_on_torch(each))
            return {k: v.cpu().numpy() for k, v in found.items()}

    return run


def _place_on_tensorflow(tensor: Any) -> tuple[str, int]:
    # Such as "/job:localhost/replica:0/task:0/device:GPU:0".
    kind, index = tensor.device.rpartition("device:")[2].split(":")
    return kind.lower(), int(index)


def _place_on_torch(tensor: Any) -> tuple[str, int]:
    kind = "gpu" if tensor.device.type == "cuda" else tensor.device.type
    return kind, tensor.device.index or 0


def _check_place(device: Device, found: tuple[str, int]) -> None:
    """Check that weights or results are on the device, since backends use another one silently.

    Raises
    ------
    OptionError
        They are on another device.
    """
    kind, index = found
    if found != (device.kind, device.index):
        message = (
            f"The network was built for {device.description}, but it computes on {kind}:{index}. "
            "Expected a device that this program has not hidden from the backend. Use --device "
            "cpu, or make the GPU visible before the backend starts."
        )
        raise OptionError(message)


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

    backends = torch.backends
    if not hasattr(backends, "fp32_precision"):  # before PyTorch 2.9
        backends.cuda.matmul.allow_tf32 = allow
        backends.cudnn.allow_tf32 = allow
        return
    # The flags of each operation override torch.backends.fp32_precision, which a program may
    # have set for all of them, oneDNN's on CPUs too.
    on_cpu = backends.mkldnn.matmul, backends.mkldnn.conv
    for each in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, *on_cpu):
        each.fp32_precision = "tf32" if allow else "ieee"


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

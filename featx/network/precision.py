"""Precision of products: float32, or TF32 if the recipe requests it.

Recent GPUs round the factors of float32 products to TF32 by default, and each backend has
its own switch for it. A precision comes in; the switch is set while a call runs.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from featx.choices import Precision

__all__ = ["arithmetic"]


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
    with _TF32.set(on, _switch(backend)):
        yield


def _switch(backend: str) -> Callable[[bool], None]:
    if backend == "torch":
        return _allow_torch
    import tensorflow as tf

    allow: Callable[[bool], None] = tf.config.experimental.enable_tensor_float_32_execution
    return allow


def _allow_torch(allow: bool) -> None:
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

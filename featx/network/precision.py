"""Arithmetic of products: float32 as it is, or rounded to TF32 where that was asked for.

Recent GPUs round the factors of float32 products to TF32 unasked, each backend by a
switch of its own. A precision comes in; while a call runs the switch is where that
has to be.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from featx.choices import Precision

__all__ = ["arithmetic"]


@contextmanager
def arithmetic(precision: Precision) -> Iterator[None]:
    """Hold the backend's products to a precision while a call runs, or is traced by JAX.

    Parameters
    ----------
    precision : {"float32", "tf32", "bfloat16"}
        Of a recipe.
    """
    import keras

    backend, on = keras.backend.backend(), precision == "tf32"
    if backend == "jax":
        import jax

        # "highest" keeps float32 as it is; "tensorfloat32" only allows less.
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
    """A backend's switch for TF32, of which a process has one, and each call its own wish.

    Calls with the same wish run side by side; others wait for them to end.
    Recent GPUs round float32 to TF32 unasked, so it is set for every call.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._on = False
        self._n_calls = 0

    @contextmanager
    def set(self, on: bool, switch: Callable[[bool], None]) -> Iterator[None]:
        """Hold the switch where it has to be, while a call runs."""
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

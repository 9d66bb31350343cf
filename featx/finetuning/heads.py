"""The head: a linear classifier or perceptron on codes, as arrays and as Keras layers.

Arrays of a classifier that was fitted elsewhere, or random ones, come in; Keras layers that
compute the same go out, and after training the arrays again. This file knows neither images
nor the origin of the arrays.

References
----------
.. [1] A. Kumar, A. Raghunathan, R. Jones, T. Ma and P. Liang, "Fine-Tuning can
   Distort Pretrained Features and Underperform Out-of-Distribution", 2022.
   https://arxiv.org/abs/2202.10054
.. [2] X. Glorot and Y. Bengio, "Understanding the difficulty of training deep
   feedforward neural networks", 2010.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from featx.choices import check_choice, choices_of
from featx.errors import OptionError

__all__ = [
    "Head",
    "Normalise",
    "custom_layers",
    "dense_names",
    "head_layers",
    "random_head",
    "read_head",
]

Normalise = Literal["none", "l2", "sqrt-l2", "centre"]
Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Head:
    """A function from codes to logits.

    Parameters
    ----------
    classes : tuple of str
        Names of the k classes.
    normalise : {"none", "l2", "sqrt-l2", "centre"}
        Normalisation applied to each code, as for `featx.fit`.
    mean : ndarray of shape (d,), optional
        The mean that "centre" subtracts.
    kernels : tuple of ndarray
        One kernel of shape (d, k) for a linear head, or the kernels of a perceptron with
        ReLU activations.
    biases : tuple of ndarray
        A bias for each kernel.

    Raises
    ------
    OptionError
        The shapes of the arrays do not match each other, the classes or `normalise`.

    Examples
    --------
    >>> head = Head(("ant", "bee"), "l2", None, (np.eye(2),), (np.zeros(2),))
    >>> head.n_features
    2
    """

    classes: tuple[str, ...]
    normalise: Normalise
    mean: Array | None
    kernels: tuple[Array, ...]
    biases: tuple[Array, ...]

    def __post_init__(self) -> None:
        check_choice("normalise", self.normalise, choices_of(Normalise))
        kernels, biases = ([each.shape for each in some] for some in (self.kernels, self.biases))
        mean = None if self.mean is None else self.mean.shape
        widths = [*(shape[0] for shape in kernels), len(self.classes)]
        if (
            not kernels
            or kernels != list(itertools.pairwise(widths))
            or biases != [(width,) for width in widths[1:]]
            or mean != ((widths[0],) if self.normalise == "centre" else None)
        ):
            message = (
                f"These arrays cannot be a head for {len(self.classes)} classes with --normalise "
                f"{self.normalise}: kernels {kernels}, biases {biases}, mean {mean}. Expected "
                "kernels from (d, ...) to (..., classes), a bias for each, and a mean (d,) for "
                "centre only. Make the head again: featx fit CODES"
            )
            raise OptionError(message)

    @property
    def n_features(self) -> int:
        """Number of features of a code, d."""
        return int(self.kernels[0].shape[0])


def random_head(
    classes: Sequence[str],
    n_features: int,
    hidden: Sequence[int],
    seed: int,
    normalise: Normalise = "none",
) -> Head:
    """Return a head with Glorot-uniform kernels [2]_ and zero biases, as Keras has them.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes.
    n_features : int
        Number of features of a code.
    hidden : sequence of int
        Widths of the hidden layers; none for a linear head.
    seed : int
        Random seed; the result does not depend on the backend.
    normalise : {"none", "l2", "sqrt-l2"}, default="none"
        See `Head`.
    """
    rng = np.random.default_rng(seed)
    widths = [n_features, *hidden, len(classes)]
    kernels = []
    for rows, columns in itertools.pairwise(widths):
        limit = np.sqrt(6 / (rows + columns))
        kernels.append(rng.uniform(-limit, limit, (rows, columns)).astype(np.float32))
    biases = [np.zeros(width, np.float32) for width in widths[1:]]
    return Head(tuple(classes), normalise, None, tuple(kernels), tuple(biases))


def head_layers(head: Head, dropout: float = 0.0) -> list[Any]:
    """Return Keras layers that compute a head.

    They compute in float32, because logits in bfloat16 have too few digits for a loss.

    Parameters
    ----------
    head : Head
        The initial kernels and biases, which can be trained, and the mean, which cannot.
    dropout : float, default=0.0
        Fraction of inputs that training sets to zero: of the codes before the only kernel,
        or of the input of every kernel but the first.

    Returns
    -------
    list of keras.Layer
        Layers to call one after another on activations of shape (n, h, w, c) or (n, d):
        head_flatten; head_root, head_unit and head_centre as `normalise` requires;
        head_dense1, head_dense2 ... and head_logits, with head_dropout1, head_dropout2 ...
        before those that have dropout.
    """
    from keras import layers

    made = [layers.Flatten(data_format="channels_last", dtype="float32", name="head_flatten")]
    ours = custom_layers()
    if head.normalise == "sqrt-l2":
        made.append(ours["SignedRoot"](dtype="float32", name="head_root"))
    if head.normalise != "none":
        made.append(ours["UnitRows"](dtype="float32", name="head_unit"))
    if head.mean is not None:
        centred = ours["CentredRows"](dtype="float32", name="head_centre")
        made.append(_with_weights(centred, [head.mean]))
    arrays = zip(dense_names(len(head.kernels)), head.kernels, head.biases, strict=True)
    for k, (name, kernel, bias) in enumerate(arrays):
        if dropout > 0 and (k > 0 or len(head.kernels) == 1):
            # A fixed seed makes two runs equal even if `reseed` is never called.
            drop = {"seed": k, "dtype": "float32", "name": f"head_dropout{max(k, 1)}"}
            made.append(layers.Dropout(dropout, **drop))
        activation = None if name == "head_logits" else "relu"
        dense = layers.Dense(len(bias), activation, dtype="float32", name=name)
        made.append(_with_weights(dense, [kernel, bias]))
    return made


def dense_names(n: int) -> list[str]:
    """Return the names of the n layers of a head that have a kernel, in order."""
    return [*(f"head_dense{k}" for k in range(1, n)), "head_logits"]


def read_head(head: Head, layers: Iterable[Any]) -> Head:
    """Return a head with the current weights of its layers.

    Parameters
    ----------
    head : Head
        The head that `head_layers` was called with.
    layers : iterable of keras.Layer
        The layers that it returned. Other layers, as of a whole model, are ignored.
    """
    found = {layer.name: layer.get_weights() for layer in layers if layer.name.startswith("head_")}
    names = dense_names(len(head.kernels))
    kernels, biases = zip(*(found[name] for name in names), strict=True)
    mean = None if head.mean is None else found["head_centre"][0]
    return dataclasses.replace(head, mean=mean, kernels=kernels, biases=biases)


@functools.cache
def custom_layers() -> dict[str, Any]:
    """Return featx's own Keras layers by name, and register them with Keras.

    Call it once before `keras.models.load_model` of a model with a head.

    Returns
    -------
    dict of str to type
        SignedRoot, UnitRows and CentredRows, which Keras registers as "featx>...".
    """
    import keras
    from keras import ops

    def unit(x: Any) -> Any:
        squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
        positive = squares > 0
        # The inner `where` avoids the root of zero, whose infinite derivative times the outer
        # 0 would be nan. A row of zeros stays zero, and so is its gradient.
        scale = ops.where(positive, ops.rsqrt(ops.where(positive, squares, 1.0)), 0.0)
        return x * scale

    register = keras.saving.register_keras_serializable("featx")

    class RowLayer(keras.layers.Layer):  # type: ignore[misc]
        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    @register
    class SignedRoot(RowLayer):
        """The signed square root of each feature.

        Its derivative at zero, where ReLU puts most features, is defined as zero.
        """

        def call(self, x: Any) -> Any:
            size = ops.abs(x)
            return ops.sign(x) * ops.sqrt(ops.where(size > 0, size, 1.0))

    @register
    class UnitRows(RowLayer):
        """Scale rows to unit length; rows of zeros stay zero."""

        def call(self, x: Any) -> Any:
            return unit(x)

    @register
    class CentredRows(RowLayer):
        """Subtract a mean, which is not trained, and scale rows to unit length."""

        def build(self, input_shape: Any) -> None:
            self.mean = self.add_weight(
                shape=(input_shape[-1],), initializer="zeros", trainable=False, name="mean"
            )

        def call(self, x: Any) -> Any:
            return unit(x - self.mean)

    return {layer.__name__: layer for layer in (SignedRoot, UnitRows, CentredRows)}


def _with_weights(layer: Any, arrays: Sequence[Array]) -> Any:
    """Build a layer for as many features as the first array has rows, and set its weights."""
    layer.build((None, arrays[0].shape[0]))
    layer.set_weights(list(arrays))
    return layer
